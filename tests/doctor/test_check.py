"""The doctor names every planted fault, by file and annotation id, and is silent on sound data."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny import add, edit

from segcli.commands.prepare import describe, prepare
from segcli.data.findings import CODES, KEPT, Report
from segcli.doctor.check import check


def found(root, **settings):
    """code -> [(file name, annotation id)]"""
    report = check(root, **settings)
    return {f.code: [(i.file_name, i.annotation_id) for i in f.items] for f in report.findings}


SOUND = {"no_objects", "crowd", "category_gap"}  # the tiny dataset has one of each, on purpose: notes, no warnings


def test_sound_data(tiny_dataset):
    report = check(tiny_dataset)
    assert {f.code for f in report.findings} == SOUND
    assert report.ok
    assert (report.images, report.annotations) == (6, 9)
    assert found(tiny_dataset)["no_objects"] == [("three.png", None)]
    document = json.loads(json.dumps(report.to_json()))
    assert document["findings"][0]["count"] == 1
    assert all(f["severity"] == "note" for f in document["findings"])
    assert document["busiest"] == {
        "train": [[2, "두 번째 🐈.jpg"], [2, "one image.png"], [1, "four.jpg"], [0, "three.png"]],
        "val": [[2, "five.png"], [1, "sub/six.png"]],
    }
    assert Report.from_json(document, "kept") == report
    assert document["findings"][0]["items"][0]["file_name"] == "three.png"


SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]
CROSSED = [40.0, 5.0, 60.0, 25.0, 60.0, 5.0, 40.0, 25.0]
INSIDE = [15.0, 15.0, 20.0, 15.0, 20.0, 20.0, 15.0, 20.0]


@pytest.mark.parametrize(
    ("segmentation", "more", "code"),
    [
        ([SQUARE], {"category_id": 99}, "dangling_category"),
        ([SQUARE[:-1]], {}, "malformed"),
        ({"size": [64, 48], "counts": [64 * 48]}, {}, "rle_size"),
        ([CROSSED], {}, "self_intersecting"),
        ([SQUARE], {"area": 4000}, "area_mismatch"),
        ([SQUARE], {"bbox": [1, 1, -2, 2]}, "malformed"),
        ({"size": [48, 64], "counts": "QQ"}, {}, "malformed"),
        ([[70.0, 60.0, 75.0, 60.0, 75.0, 65.0]], {}, "empty_mask"),
        ([[10.2, 10.2, 10.2, 10.2, 10.2, 10.2]], {}, "empty_mask"),
        ([SQUARE, [1.0, 2.0, 3.0, 4.0]], {}, "short_polygon"),
        ([SQUARE, INSIDE], {}, "hole"),
        ([[50.0, 10.0, 90.0, 10.0, 90.0, 30.0]], {}, "polygon_outside"),
        ([SQUARE], {"bbox": [10, 10, 0, 20]}, "degenerate_box"),
        ([SQUARE], {"bbox": [10, 10, 20, 80]}, "box_outside"),
        ([SQUARE], {"bbox": [40, 30, 10, 10]}, "box_mismatch"),
        ([], {"bbox": [10, 10, 20, 20]}, "no_mask"),
    ],
)
def test_faults_of_one_annotation(tiny_copy, segmentation, more, code):
    add(tiny_copy, "train", segmentation, **more)
    said = found(tiny_copy)
    assert said[code] == [("one image.png", 500)]
    assert check(tiny_copy).ok == (CODES[code][0] == "warning")


def test_a_sound_annotation_adds_nothing(tiny_copy):
    add(tiny_copy, "train", [SQUARE], bbox=[10, 10, 20, 20])
    assert set(found(tiny_copy)) == SOUND


def test_faulty_ids(tiny_copy):
    add(tiny_copy, "train", [SQUARE], key=101)
    add(tiny_copy, "val", [INSIDE], key=103)  # ids are compared over all splits
    edit(tiny_copy, "val", lambda d: d["annotations"][0].update(image_id=777))
    edit(tiny_copy, "val", lambda d: d["images"][1].update(id=4))
    said = found(tiny_copy)
    assert said["duplicate_annotation_id"] == [("one image.png", 101), ("five.png", 103)]
    assert ("", 107) in said["dangling_image"]
    assert said["duplicate_image_id"] == [("sub/six.png", None)]


def test_faulty_images(tiny_copy):
    (tiny_copy / "images/three.png").unlink()
    (tiny_copy / "images/one image.png").write_bytes(b"no image at all")
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tiny_copy / "images/five.png")
    half = (tiny_copy / "images/four.jpg").read_bytes()
    (tiny_copy / "images/four.jpg").write_bytes(half[: len(half) // 2])
    said = found(tiny_copy)
    assert said["image_missing"] == [("three.png", None)]
    assert said["image_unreadable"] == [("one image.png", None), ("four.jpg", None)]
    assert said["image_size"] == [("five.png", None)]


def test_pictures_that_look_alike_in_two_splits(tiny_copy):
    smooth = np.add.outer(np.arange(48), 2 * np.arange(64)).astype(np.uint8)[:, :, None].repeat(3, 2)
    smooth[10:30, 20:40] = (200, 60, 20)
    for name, pixels in (("one image.png", smooth), ("three.png", smooth), ("five.png", smooth // 2 + 40)):
        Image.fromarray(pixels).save(tiny_copy / "images" / name)
    said = found(tiny_copy)
    assert said["near_duplicate"] == [("five.png", None)]
    assert said["same_image_twice"] == [("three.png", None)]
    assert "same_image" not in said


def test_places_are_counted_beyond_those_that_are_kept(tiny_copy, monkeypatch):
    monkeypatch.setattr("segcli.doctor.check.KEPT", 2)
    for i in range(5):
        add(tiny_copy, "train", [SQUARE], key=600 + i, area=4000)
    finding = next(f for f in check(tiny_copy).findings if f.code == "area_mismatch")
    assert (finding.count, len(finding.items)) == (5, 2)
    assert KEPT >= 100  # what --json lists


@pytest.mark.parametrize(("orientation", "code"), [(6, "exif_rotated"), (3, "exif_unsure")])
def test_exif(tiny_copy, orientation, code):
    """The labels were drawn on the pixels as stored; every viewer, and segcli, turns them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tiny_copy / "images/four.jpg"
    Image.open(path).save(path, exif=exif)
    assert found(tiny_copy)[code] == [("four.jpg", None)]


def test_exif_that_fits_is_fine(tiny_copy):
    """Labels made on the turned image: 48 x 64 stored, 64 x 48 seen and labelled."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tiny_copy / "images/four.jpg"
    Image.open(path).rotate(90, expand=True).save(path, exif=exif)
    assert set(found(tiny_copy)) == SOUND


def test_images_shared_between_splits(tiny_copy):
    image = (tiny_copy / "images/one image.png").read_bytes()
    (tiny_copy / "images/five.png").write_bytes(image)
    assert found(tiny_copy)["same_image"] == [("five.png", None)]
    edit(tiny_copy, "val", lambda d: d["images"][0].update(file_name="one image.png"))
    assert found(tiny_copy)["image_listed_twice"] == [("one image.png", None)]


def test_counts(tiny_copy):
    add(tiny_copy, "train", [SQUARE], key=600)
    add(tiny_copy, "train", [SQUARE], key=601)
    assert found(tiny_copy)["duplicate_object"] == [("one image.png", 601)]
    assert found(tiny_copy, max_objects=3)["many_objects"] == [("one image.png", None)]


def test_categories(tiny_copy):
    def only_cats(data):
        data["annotations"] = [a for a in data["annotations"] if a["category_id"] == 3]

    edit(tiny_copy, "val", only_cats)
    report = check(tiny_copy)
    lacking = next(f for f in report.findings if f.code == "split_lacks_category")
    assert [(i.split, i.detail) for i in lacking.items] == [("val", "dog (2 elsewhere)")]
    edit(tiny_copy, "train", only_cats)
    unused = next(f for f in check(tiny_copy).findings if f.code == "unused_category")
    assert [i.detail for i in unused.items] == ["dog"]


def test_imbalance(tiny_copy):
    for i in range(130):
        x = 0.4 * i
        add(tiny_copy, "train", [[x, 1.0, x + 5, 1.0, x + 5, 9.0, x, 9.0]], key=1000 + i)
    assert "imbalance" not in found(tiny_copy)

    def one_dog(data):
        dogs = [a for a in data["annotations"] if a["category_id"] == 17]
        data["annotations"] = [a for a in data["annotations"] if a["category_id"] == 3] + dogs[:1]

    edit(tiny_copy, "train", one_dog)
    edit(tiny_copy, "val", lambda d: d.update(annotations=[a for a in d["annotations"] if a["category_id"] == 3]))
    assert "imbalance" in found(tiny_copy)


def test_broken_annotation_file(tiny_copy):
    (tiny_copy / "annotations/val.json").write_text("{", encoding="utf-8")
    report = check(tiny_copy)
    assert [f.code for f in report.findings if f.severity == "error"] == ["annotation_file"]
    assert not report.ok
    assert report.images == 4


def test_label_maps(tmp_path):
    from segcli.commands.prepare import prepare

    root = prepare("shapes", tmp_path / "s", settings={"train": 3, "val": 1, "size": 96})
    assert "label_map" not in found(root)
    Image.fromarray(np.full((96, 96), 77, np.uint8)).save(root / "semantic/train/000002.png")
    Image.fromarray(np.zeros((96, 96, 3), np.uint8)).save(root / "panoptic/train/000003.png")
    (root / "semantic/val/000001.png").unlink()
    assert found(root)["label_map"] == [
        ("train/000002.png", None),
        ("train/000003.png", None),
        ("val/000001.png", None),
    ]


@pytest.fixture
def indexed(tiny_dataset, tmp_path):
    """The tiny dataset as `prepare` writes it, annotations with their index."""
    return prepare(str(tiny_dataset), tmp_path / "indexed", fix=True)


def test_with_an_index_and_without_the_same_is_found(indexed):
    """One image's annotations in memory at a time, or all of them."""
    reports, facts = [], []
    for _ in range(2):
        facts.append(describe(indexed)["splits"])
        reports.append(check(indexed))
        for file in indexed.glob("annotations/*.npz"):
            file.unlink()
    assert facts[0] == facts[1]
    assert reports[0] == reports[1]
    assert reports[0].annotations == 9


def test_an_edit_that_the_index_does_not_know(indexed):
    """The length is the same, so that the index seems to fit; what it says is not believed."""
    path = indexed / "annotations/train.json"
    before = path.read_bytes()
    assert before.count(b'"image_id":4') == 2
    path.write_bytes(before.replace(b'"image_id":4', b'"image_id":9'))
    report = found(indexed)
    assert report["dangling_image"] == [("", 105), ("", 106)]
    assert report["no_objects"] == [("three.png", None), ("four.jpg", None)]
    path.write_bytes(before.replace(b'"category_id":17', b'"category_id":71'))
    assert found(indexed)["dangling_category"] == [("one image.png", 102), ("두 번째 🐈.jpg", 103)]
