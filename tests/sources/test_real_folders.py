"""Real datasets arrive with the numbers that their descriptions give, found by detection."""

import itertools
import json

import pytest
from sources import masks_of, overlaps

from segcli.commands.prepare import prepare
from segcli.core.errors import DataError
from segcli.data.dataset import Dataset


@pytest.mark.parametrize(
    ("folder", "images", "objects", "crowd", "classes"),
    [
        ("balloon_via", 4, 10, 0, 1),
        ("camvid", 48, 0, 0, 11),
        ("coco_pose_mini", 30, 87, 1, 1),
        ("coco_mini/annotations/person_keypoints_train2017.json", 80, 172, 5, 1),
        ("coco_panoptic_sample", 2, 43, 3, 133),
        ("labelme_voc3/data_annotated", 3, 12, 0, 6),
        ("labelme_voc3", 3, 12, 0, 20),
    ],
)
def test_real_folders_by_detection(shared_data, tmp_path, folder, images, objects, crowd, classes):
    data = Dataset(prepare(str(shared_data / folder), tmp_path / "out", link=True), task="detection")
    annotations = [a for i in range(len(data)) for a in data.annotations(i)]
    assert (len(data), len(annotations), len(data.info.names)) == (images, objects, classes)
    assert sum(bool(a.get("iscrowd")) for a in annotations) == crowd


def test_real_panoptic(shared_data, tmp_path):
    for folder, images, segments, crowd in (("coco_panoptic_sample", 2, 50, 3), ("coco128", 100, 1111, 6)):
        root = prepare(str(shared_data / folder), tmp_path / folder, format="panoptic", link=True)
        files = [json.loads(p.read_text("utf-8")) for p in (root / "panoptic").glob("*.json")]
        infos = [s for f in files for a in f["annotations"] for s in a["segments_info"]]
        assert (sum(len(f["images"]) for f in files), len(infos)) == (images, segments)
        assert sum(s["iscrowd"] for s in infos) == crowd


def test_three_formats_of_the_same_photos(shared_data, tmp_path):
    """LabelMe and COCO hold the same polygons. VOC's were painted with Pillow, which includes the outline and shifts it
    by half a pixel, and later objects cover earlier ones: thin objects differ most (a bottle of 873 pixels: 0.93)."""
    folders = ("data_annotated", "data_dataset_coco", "data_dataset_voc")
    found = {f: masks_of(prepare(str(shared_data / "labelme_voc3" / f), tmp_path / f)) for f in folders}
    least = {(a, b): min(overlaps(found[a], found[b])) for a, b in itertools.combinations(folders, 2)}
    assert least[folders[0], folders[1]] > 0.995
    assert min(least[folders[0], folders[2]], least[folders[1], folders[2]]) > 0.93
    assert sum(len(v) for v in found["data_dataset_voc"].values()) == 12


def test_what_has_no_images_says_so(shared_data, tmp_path):
    for folder, said in (("coco_eval_fake100", "its images"), ("meshes_ikea", "in no format")):
        with pytest.raises(DataError, match=said):
            prepare(str(shared_data / folder), tmp_path / "out")
