"""Pascal VOC's boxes: which image an xml is of, and which split."""

import json

import pytest
from sources import FORMATS, photo, text

from segcli.commands.prepare import prepare
from segcli.core.errors import DataError
from segcli.data.dataset import Dataset


def xml(path, name, label, filename=""):
    box = "<bndbox><xmin>3</xmin><ymin>3</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    content = f"<filename>{filename}</filename><object><name>{label}</name>{box}</object>"
    text(path / f"{name}.xml", f"<annotation>{content}</annotation>")


def folders(root, *parts):
    for part, label in zip(parts, ("cat", "dog"), strict=False):
        photo(root / part / "images/1.png")
        xml(root / part / "annotations", "1", label)


def test_of_two_images_with_one_name_each_xml_gets_that_of_its_own_folder(tmp_path):
    folders(tmp_path / "v", "train", "val")
    root = prepare(str(tmp_path / "v"), tmp_path / "out")
    for split, label in (("train", "cat"), ("val", "dog")):
        data = Dataset(root, split, task="detection")
        assert data.file_names == [f"{split}/images/1.png"]
        assert data.info.names[int(data.target(0).instances.labels[0])] == label


def test_what_can_be_of_two_images_is_refused(tmp_path):
    folders(tmp_path / "v", "train")
    photo(tmp_path / "v/train/other/1.jpg")
    with pytest.raises(DataError, match=r"annotations/1\.xml: its image could be .*images/1\.png, .*other/1\.jpg"):
        prepare(str(tmp_path / "v"), tmp_path / "out")
    xml(tmp_path / "v/train/annotations", "1", "cat", "1.jpg")  # its name decides
    data = Dataset(prepare(str(tmp_path / "v"), tmp_path / "out", split="train=1"), task="detection")
    assert data.file_names == ["1.jpg"]


def test_two_xml_of_one_image_are_refused(tmp_path):
    folders(tmp_path / "v", "train")
    xml(tmp_path / "v/train/more", "1", "dog")
    with pytest.raises(DataError, match=r"annotations/1\.xml and .*more/1\.xml: both are of the image .*1\.png"):
        prepare(str(tmp_path / "v"), tmp_path / "out")


def test_what_is_in_no_list_is_left_out_and_said(tmp_path):
    FORMATS["voc_boxes"](tmp_path / "v")
    text(tmp_path / "v/ImageSets/Main/train.txt", "a\n")
    text(tmp_path / "v/ImageSets/Main/val.txt", "c\n")
    root = prepare(str(tmp_path / "v"), tmp_path / "out")
    assert [Dataset(root, s, task="detection").file_names for s in ("train", "val")] == [["train/a.png"], ["val/c.png"]]
    notes = json.loads((root / "prepared.json").read_text("utf-8"))["notes"]
    assert "1 xml files are in no list of ImageSets/Main and are left out: b" in notes
