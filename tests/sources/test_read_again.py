"""Faults that a second reading of the label readers found: each is named, or read as it is meant."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image
from sources import FORMATS

from segcli.commands.prepare import prepare
from segcli.core.errors import DataError
from segcli.data.canonical import prepared
from segcli.data.dataset import Dataset
from segcli.data.image import read_image
from segcli.data.value_range import as_rgb
from segcli.doctor.check import check
from segcli.sources.coordinates import reread


def photo(path, seed=0, size=(24, 32)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3)).astype(np.uint8)).save(path)


def mask(path, *boxes, value=1, size=(24, 32)):
    pixels = np.zeros(size, np.uint8)
    for x1, y1, x2, y2 in boxes:
        pixels[y1:y2, x1:x2] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def nested(root, values=(1, 2)):
    """Two images, each with a mask file for each of two objects, drawn with `values`."""
    for i in range(2):
        photo(root / f"{i}" / "images" / f"{i}.png", i)
        mask(root / f"{i}" / "masks" / "a.png", (2, 2, 10, 10), value=values[0])
        mask(root / f"{i}" / "masks" / "b.png", (16, 8, 28, 20), value=values[1])
    return root


def names_of(root):
    data = Dataset(root)
    return [[data.info.names[k] for k in data.target(i).instances.labels.tolist()] for i in range(len(data))]


def test_a_file_for_every_object_has_the_class_that_the_legend_gives_its_value(tmp_path):
    (nested(tmp_path / "in") / "legend.csv").write_text("value,name,kind\n1,cell,object\n2,debris,object\n", "utf-8")
    assert names_of(prepare(str(tmp_path / "in"), tmp_path / "out", split="train=1")) == [["cell", "debris"]] * 2


def test_ignored_values_are_no_part_of_an_object_with_a_file_of_its_own(tmp_path):
    nested(tmp_path / "in", (200, 200))
    file = tmp_path / "in" / "0" / "masks" / "a.png"
    pixels = np.array(Image.open(file))
    pixels[2:10, 8:10] = 255
    Image.fromarray(pixels).save(file)
    settings = {"threshold": 100, "ignore": [255]}
    root = prepare(str(tmp_path / "in"), tmp_path / "out", split="train=1", settings=settings)
    assert Dataset(root).target(0).instances.masks[0].sum() == 8 * 6


def test_what_is_said_of_images_without_a_mask_is_what_is_done(tmp_path):
    for name in ("a", "b", "c"):
        photo(tmp_path / "in" / "images" / f"{name}.png", ord(name))
    for name in ("a", "b"):
        mask(tmp_path / "in" / "masks" / f"{name}.png", (2, 2, 10, 10))
    root = prepare(str(tmp_path / "in"), tmp_path / "out", split="train=1", settings={"masks": "binary"})
    assert len(Dataset(root, task="semantic")) == 2
    assert "1 images have no mask file and are left out: c.png" in prepared(root)["notes"]


def test_one_colour_picture_in_a_voc_folder_is_no_crash(tmp_path):
    root = tmp_path / "in"
    for i in range(3):
        photo(root / "JPEGImages" / f"{i}.png", i)
        mask(root / "SegmentationClass" / f"{i}.png", (2, 2, 10, 10))
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[2:10, 2:10] = (128, 0, 0)
    Image.fromarray(pixels).save(root / "SegmentationClass" / "2.png")
    (root / "Annotations").mkdir()
    (root / "Annotations" / "2.xml").write_text("<annotation><object><name>cat</name></object></annotation>", "utf-8")
    with pytest.raises(DataError, match=r"in|SegmentationClass"):
        prepare(str(root), tmp_path / "out")


def test_keypoints_move_with_the_polygon_that_they_belong_to():
    one = {"segmentation": [[0.1, 0.2, 0.5, 0.2, 0.5, 0.6]], "keypoints": [0.2, 0.3, 2, 0, 0, 0]}
    assert reread(one, "shares", (100, 200))[0]["keypoints"] == pytest.approx([40, 30, 2, 0, 0, 0])
    one = {"segmentation": [[1, 20, 5, 20, 5, 60]], "bbox": [1, 20, 4, 40], "keypoints": [2, 30, 1]}
    assert reread(one, "exchanged", (100, 200))[0]["keypoints"] == [30, 2, 1]


@pytest.mark.parametrize(
    ("said", "meant"), [("false", 0), ("no", 0), (" 0", 0), ("1", 1), ("true", 1), (float("nan"), 0)]
)
def test_crowds_in_words(tiny_copy, tmp_path, said, meant):
    file = tiny_copy / "annotations" / "train.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    data["annotations"][0]["iscrowd"] = said
    file.write_text(json.dumps(data), encoding="utf-8")
    root = prepare(str(tiny_copy), tmp_path / "out", fix=True)
    assert Dataset(root, "train").annotations(0)[0]["iscrowd"] == meant


def test_an_image_called_file_name_is_mended_like_any_other(tiny_copy, tmp_path):
    file = tiny_copy / "annotations" / "train.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    image = data["images"][2]
    (tiny_copy / "images" / image["file_name"]).rename(tiny_copy / "images" / "file_name_1.png")
    image |= {"file_name": "file_name_1.png", "width": None}
    file.write_text(json.dumps(data), encoding="utf-8")
    assert "file_name_1.png" in Dataset(prepare(str(tiny_copy), tmp_path / "out", fix=True), "train").file_names


def test_a_root_category_is_above_another_one(tmp_path):
    FORMATS["coco"](tmp_path / "in")
    for file in (tmp_path / "in" / "annotations").glob("*.json"):
        data = json.loads(file.read_text(encoding="utf-8"))
        data["categories"].append({"id": 9, "name": "none", "supercategory": "none"})
        file.write_text(json.dumps(data), encoding="utf-8")
    assert Dataset(prepare(str(tmp_path / "in"), tmp_path / "out")).info.names == ["cat", "dog", "none"]


def test_a_panoptic_json_without_entries_is_found_by_the_doctor(tmp_path):
    FORMATS["panoptic"](tmp_path / "in")
    root = prepare(str(tmp_path / "in"), tmp_path / "out")
    file = root / "panoptic" / "val.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**data, "annotations": []}), encoding="utf-8")
    found = {f.code: f.items[0].detail for f in check(root).findings}
    assert found["label_map"] == "no entry in the panoptic json"


def test_a_deep_image_of_one_row_keeps_its_row(tmp_path):
    assert as_rgb(np.zeros((1, 5, 4), np.uint16), None).shape == (1, 5, 3)
    assert as_rgb(np.zeros((5, 1, 2), np.uint16), None).shape == (5, 1, 3)
    cv2.imwrite(str(tmp_path / "row.tiff"), np.full((1, 9, 4), 5000, np.uint16))
    assert read_image(tmp_path / "row.tiff").shape == (1, 9, 3)


def test_a_labelmap_of_classes_that_are_called_by_numbers_has_colours(tmp_path):
    from segcli.sources.class_legend import in_folder

    (tmp_path / "labelmap.txt").write_text("0:0,0,0::\n1:128,0,0::\n", "utf-8")
    assert [(row.value, row.name) for row in in_folder(tmp_path).rows] == [(0, "0"), (128 << 16, "1")]
