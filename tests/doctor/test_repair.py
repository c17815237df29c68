"""--fix mends what the doctor finds, says what it did to which annotation, and leaves the source as it is."""

import json

import numpy as np
import pytest
from PIL import Image
from sources import FORMATS
from tiny import add, edit, mask_of

from segcli.commands.prepare import prepare
from segcli.data.canonical import prepared
from segcli.data.dataset import Dataset
from segcli.data.rescale_labels import stored
from segcli.doctor.check import check

NAN = float("nan")
SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]
CROSSED = [40.0, 5.0, 60.0, 25.0, 60.0, 5.0, 40.0, 25.0]
INSIDE = [15.0, 15.0, 20.0, 15.0, 20.0, 20.0, 15.0, 20.0]
WIDE = [50.0, 10.0, 90.0, 10.0, 90.0, 30.0]


def found(root):
    return {finding.code for finding in check(root).findings}


PLAIN = stored(mask_of([SQUARE]))


def fixed(root, tmp_path):
    """(the mended folder, {(annotation id or file name, code): action})"""
    out = prepare(str(root), tmp_path / "out", fix=True, drop=True)
    done = prepared(out)["repairs"]
    assert check(out).ok
    return out, {(r["annotation_id"] or r["file_name"], r["code"]): r["action"] for r in done}


def annotation(root, key, split="train"):
    data = json.loads((root / "annotations" / f"{split}.json").read_text(encoding="utf-8"))
    return next((a for a in data["annotations"] if a["id"] == key), None)


def test_sound_data_stays_as_it_is(tiny_dataset, tmp_path):
    out, done = fixed(tiny_dataset, tmp_path)
    assert done == {}
    for split in ("train", "val"):
        before, after = (
            json.loads((r / "annotations" / f"{split}.json").read_text(encoding="utf-8")) for r in (tiny_dataset, out)
        )
        assert before["images"] == after["images"]
        assert sorted(before["annotations"], key=lambda a: a["id"]) == sorted(
            after["annotations"], key=lambda a: a["id"]
        )
    assert (out / "images/three.png").read_bytes() == (tiny_dataset / "images/three.png").read_bytes()


@pytest.mark.parametrize(
    ("segmentation", "more", "code", "left"),
    [
        ([SQUARE], {"category_id": 99}, "dangling_category", None),
        ([SQUARE[:-1]], {}, "malformed", None),
        ([SQUARE[:-1], SQUARE], {}, "malformed", SQUARE),
        ([SQUARE], {"bbox": [1, 1, -2, 2]}, "malformed", SQUARE),
        ([SQUARE], {"bbox": [NAN, 1, 2, 2]}, "malformed", SQUARE),
        ([SQUARE], {"area": NAN}, "malformed", SQUARE),
        ([SQUARE], {"iscrowd": 7}, "malformed", SQUARE),
        ([SQUARE], {"iscrowd": 0.0}, "malformed", SQUARE),
        ([SQUARE], {"iscrowd": ""}, "malformed", SQUARE),
        ([SQUARE], {"iscrowd": []}, "malformed", SQUARE),
        ([SQUARE], {"iscrowd": NAN}, "malformed", SQUARE),
        ([SQUARE], {"category_id": 3.0}, "malformed", SQUARE),
        ([SQUARE], {"image_id": 1.0}, "malformed", SQUARE),
        ({"size": [48, 64], "counts": "QQ"}, {}, "malformed", None),
        ({"size": [48, 64], "counts": [3]}, {}, "malformed", None),
        ({"size": [64, 48], "counts": [64 * 48]}, {}, "rle_size", None),
        ({**PLAIN, "size": [64, 48]}, {"bbox": [10, 10, 20, 20]}, "rle_size", SQUARE),
        (stored(mask_of([SQUARE]).repeat(2, 0).repeat(2, 1)), {}, "rle_size", SQUARE),
        ([[70.0, 60.0, 75.0, 60.0, 75.0, 65.0]], {}, "empty_mask", None),
        ([SQUARE, [1.0, 2.0, 3.0, 4.0]], {}, "short_polygon", SQUARE),
        ([WIDE], {}, "polygon_outside", WIDE),
        ([SQUARE], {"bbox": [10, 10, 0, 20]}, "degenerate_box", SQUARE),
        ([SQUARE], {"bbox": [10, 10, 20, 80]}, "box_mismatch", SQUARE),
        ([SQUARE], {"bbox": [40, 30, 10, 10]}, "box_mismatch", SQUARE),
        ([SQUARE], {"area": 4000}, "area_mismatch", SQUARE),
        ([], {"bbox": [10, 10, 20, 80]}, "box_outside", []),
        ([], {"bbox": [10, 10, 20, 0]}, "degenerate_box", None),
    ],
)
def test_one_annotation(tiny_copy, tmp_path, segmentation, more, code, left):
    add(tiny_copy, "train", segmentation, **more)
    out, done = fixed(tiny_copy, tmp_path)
    assert (500, code) in done
    after = annotation(out, 500)
    assert (after is None) == (left is None)
    if left:
        assert (mask_of(after["segmentation"]) == mask_of([left])).all()
    assert code not in found(out)
    assert annotation(tiny_copy, 500) is not None, "the source is not touched"


def test_holes_are_cut_out_and_islands_put_back(tiny_copy, tmp_path):
    island = [17.0, 17.0, 19.0, 17.0, 19.0, 19.0, 17.0, 19.0]
    add(tiny_copy, "train", [INSIDE, SQUARE, island])
    out, done = fixed(tiny_copy, tmp_path)
    assert "hole" in done[500, "hole"]
    mask = mask_of(annotation(out, 500)["segmentation"])
    assert mask[12, 12]
    assert not mask[16, 16]
    assert mask[18, 18]
    assert mask.sum() == 400 - 25 + 4


def test_crossed_outlines_are_filled(tiny_copy, tmp_path):
    """A star drawn in one stroke: its middle is enclosed twice, so it falls out of the mask, and was meant to be in."""
    angles = np.arange(5) * 4 * np.pi / 5
    twice = np.stack([25 + 18 * np.sin(angles), 24 - 18 * np.cos(angles)], 1).ravel().tolist()
    assert not mask_of([twice])[24, 25]
    add(tiny_copy, "train", [twice], key=500)
    add(tiny_copy, "train", [CROSSED], key=501)
    out, done = fixed(tiny_copy, tmp_path)
    assert {(500, "self_intersecting"), (501, "self_intersecting")} <= set(done)
    before, after = mask_of([twice]), mask_of(annotation(out, 500)["segmentation"])
    assert after[24, 25]
    assert after[before].all()
    assert "self_intersecting" not in found(out)


def test_ids_and_duplicates(tiny_copy, tmp_path):
    add(tiny_copy, "train", [SQUARE], key=600)
    add(tiny_copy, "train", [SQUARE], key=601)
    add(tiny_copy, "val", [INSIDE], key=103)
    add(tiny_copy, "val", [SQUARE], key="a7")
    edit(tiny_copy, "val", lambda d: d["annotations"][0].update(image_id=777))
    edit(tiny_copy, "val", lambda d: d["images"][1].update(id=4))
    out, done = fixed(tiny_copy, tmp_path)
    assert {(601, "duplicate_object"), (103, "duplicate_annotation_id"), ("sub/six.png", "duplicate_image_id")} < set(
        done
    )
    assert ("a7", "malformed") in done
    assert "val: annotation 107 is left out: image id 777 is not listed" in prepared(out)["notes"]
    assert len(Dataset(out, "val")) == 2


def test_images(tiny_copy, tmp_path):
    (tiny_copy / "images/three.png").unlink()
    (tiny_copy / "images/one image.png").write_bytes(b"no image at all")
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tiny_copy / "images/five.png")
    edit(tiny_copy, "train", lambda d: d["images"][1].update(width=0))
    edit(tiny_copy, "val", lambda d: d["images"].append({**d["images"][1], "id": 9}))
    out, done = fixed(tiny_copy, tmp_path)
    assert done["three.png", "image_missing"].startswith("left out, with 0 annotations")
    assert done["one image.png", "image_unreadable"].startswith("left out, with 2 annotations")
    assert done["five.png", "image_size"] == "left out: the image is 20 x 20, labelled as 64 x 48"
    assert done["두 번째 🐈.jpg", "bad_image_record"] == "width and height read from the image: 64 x 48"
    assert ("sub/six.png", "image_listed_twice") in done
    assert Dataset(out, "train").file_names == ["두 번째 🐈.jpg", "four.jpg"]
    assert Dataset(out, "val").file_names == ["sub/six.png"]


def test_labels_follow_an_image_that_was_scaled(tiny_copy, tmp_path):
    path = tiny_copy / "images/five.png"
    Image.open(path).resize((128, 96), Image.Resampling.NEAREST).save(path)
    before = Dataset(tiny_copy, "val").target(0).instances.masks
    out, done = fixed(tiny_copy, tmp_path)
    assert "labels scaled to 128 x 96" in done["five.png", "image_size"]
    after = Dataset(out, "val").read(0)
    assert after.image.shape == (96, 128, 3)
    for small, large in zip(before, after.target.instances.masks, strict=True):
        assert (large.numpy() == small.numpy().repeat(2, 0).repeat(2, 1)).mean() > 0.99
    assert annotation(out, 108, "val")["area"] == 4 * annotation(tiny_copy, 108, "val")["area"]


@pytest.mark.parametrize("turn", [5, 6, 7, 8])
def test_labels_follow_exif(tiny_copy, tmp_path, turn):
    """Objects have a colour each: after the turn, labels lie on it again."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    key = {"polygon": 500, "rle": 501}
    pixels[mask_of([SQUARE])], pixels[mask_of([WIDE])] = (250, 0, 0), (0, 250, 0)
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(pixels).save(tiny_copy / "images/one image.png", exif=exif)
    edit(tiny_copy, "train", lambda d: d.update(annotations=[a for a in d["annotations"] if a["image_id"] != 1]))
    add(tiny_copy, "train", [SQUARE], key["polygon"], bbox=[10, 10, 20, 20], area=400)
    add(tiny_copy, "train", stored(mask_of([WIDE])), key["rle"], keypoints=[10, 10, 2, 0, 0, 0])
    out, done = fixed(tiny_copy, tmp_path)
    assert "turned" in done["one image.png", "exif_rotated"]
    sample = Dataset(out, "train").read(0)
    assert sample.image.shape == (64, 48, 3)
    masks = sample.target.instances.masks.numpy()
    assert (sample.image[masks[0]][:, 0] > 200).all()
    assert masks[0].sum() == 400
    assert (sample.image[masks[1]][:, 1] > 200).all()
    assert annotation(out, 500)["area"] == 400
    assert "box_mismatch" not in found(out)
    x, y, seen = annotation(out, 501)["keypoints"][:3]
    assert [seen, *annotation(out, 501)["keypoints"][3:]] == [2, 0, 0, 0]
    box = annotation(out, 500)["bbox"]
    assert min(abs(x - box[0]), abs(x - box[0] - box[2])) == 0  # a corner of the square
    assert min(abs(y - box[1]), abs(y - box[1] - box[3])) == 0


def test_label_maps(tmp_path):
    root = prepare("shapes", tmp_path / "s", settings={"train": 3, "val": 1, "size": 96})
    semantic = root / "semantic/train/000002.png"
    labels = np.array(Image.open(semantic))
    labels[:5] = 77
    Image.fromarray(labels).save(semantic)
    panoptic = root / "panoptic/train/000003.png"
    ids = np.array(Image.open(panoptic))
    ids[:4] = (1, 2, 3)
    Image.fromarray(ids).save(panoptic)
    (root / "panoptic/val/000001.png").unlink()
    out, done = fixed(root, tmp_path)
    assert done["train/000002.png", "label_map"] == "480 pixels of undeclared values (77) are ignored (255)"
    assert "384 pixels made void" in done["train/000003.png", "label_map"]
    assert "void" in done["val/000001.png", "label_map"]
    assert (Dataset(out, "train", task="semantic").read(1).target.semantic[:5] == 255).all()
    assert "label_map" in found(root)


def test_a_panoptic_map_and_its_json_agree_afterwards(tmp_path):
    FORMATS["panoptic"](tmp_path / "p")
    file = tmp_path / "p/annotations/panoptic_train.json"
    content = json.loads(file.read_text("utf-8"))
    del content["annotations"][0]["segments_info"][1]
    content["annotations"][1]["segments_info"][0]["id"] = 5
    file.write_text(json.dumps(content), "utf-8")
    out, done = fixed(tmp_path / "p", tmp_path)
    assert "0 segments left out of the json" in done["train/a.png", "label_map"]
    assert "1 segments left out" in done["train/b.png", "label_map"]
    assert len(Dataset(out, task="panoptic").target(0).panoptic.segments) == 2


def test_a_source_is_mended_on_its_way_in(tiny_copy, tmp_path, segcli):
    """A source too; and the command shows what was done, and what the doctor says of the result."""
    add(tiny_copy, "train", [SQUARE], bbox=[40, 30, 10, 10])
    (tiny_copy / "info.json").unlink()
    (tiny_copy / "images/three.png").unlink()
    result = segcli("prepare", tiny_copy, "--fix", "--out", "mended")
    assert result.code == 0, result.err
    assert "fixed: 1 × box mismatch" in result.out
    assert "train one image.png annotation 500: bbox [40, 30, 10, 10] taken from the mask" in result.out
    assert "three.png: left out, with 0 annotations" in result.out
    assert "self-test" in result.out
    assert segcli("prepare", "mended", "--check").code == 0
    assert segcli("prepare", tiny_copy, "--fix", "--out", "mended", "--json").json["repairs"][0]["code"]
    assert segcli("prepare", tiny_copy, "--fix", "--check").code == 2
