"""YOLO folders as people have them: which images, and which label files, are meant."""

import json

import yaml
from sources import FORMATS, text

from segcli.commands.prepare import diagnose, prepare
from segcli.data.dataset import Dataset


def notes(root):
    return json.loads((root / "prepared.json").read_text("utf-8"))["notes"]


def test_train_and_val_of_the_same_folder_are_divided(tmp_path):
    FORMATS["yolo"](tmp_path / "y")
    text(tmp_path / "y/data.yaml", yaml.safe_dump({"train": "images", "val": "images", "names": ["cat", "dog"]}))
    root = prepare(str(tmp_path / "y"), tmp_path / "out")
    assert "data.yaml: val names the same images as train: they are divided anew" in notes(root)
    assert sorted(Dataset(root).file_names) == ["train/a.png", "train/b.png", "val/c.png"]
    assert "image_listed_twice" not in {f.code for f in diagnose(str(tmp_path / "y")).findings}


def test_a_folder_called_images_around_the_dataset(tmp_path):
    source = tmp_path / "images/mine"
    FORMATS["yolo"](source)
    assert sum(len(Dataset(prepare(str(source), tmp_path / "out")).annotations(i)) for i in range(3)) == 6
    for split in ("train", "val"):  # labels beside the images
        for file in (source / "labels" / split).iterdir():
            file.rename(source / "images" / split / file.name)
    beside = prepare(str(source), tmp_path / "beside")
    assert sum(len(Dataset(beside).annotations(i)) for i in range(3)) == 6


def test_a_yaml_among_the_images(tmp_path):
    FORMATS["yolo"](tmp_path / "y")
    text(tmp_path / "y/images/data.yaml", yaml.safe_dump({"train": "train", "val": "val", "names": ["cat", "dog"]}))
    root = prepare(str(tmp_path / "y/images/data.yaml"), tmp_path / "out")
    assert sum(len(Dataset(root).annotations(i)) for i in range(3)) == 6


def test_label_files_of_no_image_are_counted_whatever_they_are_called(tmp_path):
    FORMATS["yolo"](tmp_path / "y")
    text(tmp_path / "y/labels/train/s.txt", "0 0.5 0.5 0.1 0.1\n")  # a part of "classes.txt"
    text(tmp_path / "y/labels/classes.txt", "cat\ndog\n")
    root = prepare(str(tmp_path / "y"), tmp_path / "out")
    assert "1 label files belong to no image and are left aside: s.txt" in notes(root)
