"""Labels fed as predictions score 100; what does not is named, with the reason."""

import json
import shutil

import pytest

from segcli.commands.prepare import diagnose, prepare
from segcli.doctor.self_test import self_test


def change(root, key, **values):
    path = root / "annotations/val.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    next(a for a in data["annotations"] if a["id"] == key).update(values)
    path.write_text(json.dumps(data), encoding="utf-8")


def test_sound_labels_score_100(tiny_dataset):
    scores, failed = self_test(tiny_dataset)
    assert failed == []
    assert scores == {
        f"{split}/{kind}_AP": pytest.approx(1.0, abs=1e-12) for split in ("train", "val") for kind in ("bbox", "segm")
    }


def test_every_task_of_embedded_data(tmp_path):
    root = prepare("shapes", tmp_path / "s", settings={"train": 3, "val": 2, "size": 96})
    scores, failed = self_test(root)
    assert failed == []
    assert set(scores) == {
        f"{s}/{k}" for s in ("train", "val") for k in ("segm_AP", "bbox_AP", "mIoU", "PQ", "keypoints_AP")
    }
    assert min(scores.values()) > 1 - 1e-12


def test_more_people_than_count_and_people_without_keypoints_do_not_lower_the_score(tmp_path):
    root = prepare("shapes", tmp_path / "s", settings={"train": 2, "val": 2, "size": 96})
    path = root / "annotations/train.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    crowded, first = data["images"][0]["id"], data["annotations"][0]
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] != crowded]
    for i in range(21):  # COCO counts 20 detections of an image
        moved = [v + 3 * i * (k % 3 < 2) for k, v in enumerate(first["keypoints"])]
        data["annotations"].append({**first, "id": 9000 + i, "image_id": crowded, "keypoints": moved})
    one = next(a for a in data["annotations"] if a["image_id"] != crowded)
    one["keypoints"] = [0] * len(one["keypoints"])
    path.write_text(json.dumps(data), encoding="utf-8")
    scores, _ = self_test(root)
    assert scores["train/keypoints_AP"] == pytest.approx(1.0)


def test_a_box_without_area_is_named(tiny_copy):
    change(tiny_copy, 108, bbox=[2, 2, 0, 42])
    scores, failed = self_test(tiny_copy)
    assert scores["val/bbox_AP"] < 1
    assert scores["val/segm_AP"] == pytest.approx(1.0)
    assert [(item.split, item.file_name) for item in failed] == [("val", "five.png")]
    assert "bbox_AP 50.0" in failed[0].detail
    assert "annotation 108 has the bbox [2, 2, 0, 42]" in failed[0].detail


def test_it_is_part_of_the_report(tiny_copy, segcli):
    assert diagnose(str(tiny_copy)).self_test["val/segm_AP"] == pytest.approx(1.0)
    assert "self-test (labels as predictions): train/bbox_AP 100.0" in segcli("prepare", tiny_copy, "--check").out
    change(tiny_copy, 108, bbox=[2, 2, 0, 42])
    result = segcli("prepare", tiny_copy, "--check", "--json")
    assert result.code == 3
    assert [f["code"] for f in result.json["findings"] if f["severity"] == "error"] == ["self_test"]


def test_labels_with_errors_are_not_scored(tiny_copy):
    change(tiny_copy, 108, category_id=99)
    report = diagnose(str(tiny_copy))
    assert not report.ok
    assert report.self_test == {}


def test_detection_labels(tiny_copy):
    for key in (107, 108, 109):
        change(tiny_copy, key, segmentation=[], bbox=[2, 2, 30, 30])
    scores, failed = self_test(tiny_copy)
    assert failed == []
    assert "val/segm_AP" not in scores
    assert scores["val/bbox_AP"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("folder", "images", "objects"),
    [("fruits_nuts", 18, 165), ("coco_pose_mini", 30, 87), ("nuclei_dsb2018", 48, 1824)],
)
def test_real_labels_score_100(shared_data, tmp_path, folder, images, objects):
    report = diagnose(str(shared_data / folder))
    assert report.ok
    assert (report.images, report.annotations) == (images, objects)
    assert min(report.self_test.values()) > 1 - 1e-9
    assert ("train/keypoints_AP" in report.self_test) == (folder == "coco_pose_mini")


def test_real_data_stays_as_it_is_under_fix(shared_data, tmp_path):
    """What has nothing to mend comes out as without --fix."""
    plain = prepare(str(shared_data / "fruits_nuts"), tmp_path / "plain", link=True)
    mended = prepare(str(shared_data / "fruits_nuts"), tmp_path / "mended", link=True, fix=True)
    for split in ("train", "val"):
        name = f"annotations/{split}.json"
        assert (plain / name).read_bytes() == (mended / name).read_bytes()
    shutil.rmtree(plain)
    assert diagnose(str(mended)).ok
