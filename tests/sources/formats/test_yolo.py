"""YOLO folders as people have them: which images, and which label files, are meant."""

import json

import pytest
import yaml
from sources import FORMATS, NAMES, SCENE, H, W, masks_of, photo, text

from segcli.commands.prepare import diagnose, export, prepare
from segcli.core.errors import DataError
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


def rows(name: str) -> str:
    """The boxes of an image of the scene."""
    boxes = enumerate(SCENE[name].values())
    values = [(k, (x1 + x2) / 2 / W, (y1 + y2) / 2 / H, (x2 - x1) / W, (y2 - y1) / H) for k, (x1, y1, x2, y2) in boxes]
    return "".join(" ".join(map(str, row)) + "\n" for row in values)


def images(folder, labels=None) -> None:
    """The images of the scene in `folder`, with their label files beside them or in `labels`."""
    for name in SCENE:
        photo(folder / f"{name}.png")
        text((labels or folder) / f"{name}.txt", rows(name))


def boxes(root) -> dict[str, list[list[float]]]:
    data = Dataset(root, task="detection")
    return {name: data.target(i).instances.boxes.round().tolist() for i, name in enumerate(data.file_names)}


@pytest.mark.parametrize(
    ("image", "label", "names", "lists"),
    [
        ("{}.png", "{}.txt", "classes.txt", {}),  # labelImg, AnyLabeling
        ("{}.png", "txt/{}.txt", "txt/classes.txt", {}),
        ("photos/{}.png", "labels/{}.txt", "classes.txt", {}),
        (
            "obj_train_data/{}.png",
            "obj_train_data/{}.txt",
            "obj.names",
            {"train": "data/obj_train_data/{}.png"},
        ),  # CVAT
        ("x/{}.png", "x/{}.txt", "obj.names", {"Train": "x\\{}.png"}),
        ("train/{}.png", "train/{}.txt", "train/_darknet.labels", {}),  # Roboflow
    ],
)
def test_folders_without_a_yaml(tmp_path, image, label, names, lists):
    for name in SCENE:
        photo(tmp_path / "in" / image.format(name))
        text(tmp_path / "in" / label.format(name), "\ufeff" + rows(name))  # as Windows writes it
    text(tmp_path / "in" / names, "\ufeff" + "\r\n".join(NAMES) + "\r\n")
    for split, line in lists.items():
        text(tmp_path / "in" / f"{split}.txt", "".join(line.format(name) + "\n" for name in SCENE))
    root = prepare(str(tmp_path / "in"), tmp_path / "out")
    assert Dataset(root, task="detection").info.names == list(NAMES)
    assert {name.rpartition("/")[2][0]: found for name, found in boxes(root).items()} == {
        name: [list(map(float, box)) for box in found.values()] for name, found in SCENE.items()
    }


def test_lists_and_images_in_a_yaml(tmp_path):
    FORMATS["yolo"](tmp_path / "y")
    text(tmp_path / "y/list.txt", "data/images/train/a.png\nC:\\me\\images\\train\\b.png\n")
    content = {"path": ".", "train": "list.txt", "val": ["images/val/c.png"], "names": [*NAMES]}
    text(tmp_path / "y/data.yaml", yaml.safe_dump(content))
    root = prepare(str(tmp_path / "y"), tmp_path / "out")
    assert Dataset(root).info.splits == {"train": 2, "val": 1}
    assert {name.rpartition("/")[2]: len(found) for name, found in masks_of(root).items()} == dict.fromkeys(SCENE, 2)


def test_what_is_in_doubt_is_refused(tmp_path):
    images(tmp_path / "in", tmp_path / "in/one")
    with pytest.raises(DataError, match="what the classes are called is not said") as caught:
        prepare(str(tmp_path / "in"), tmp_path / "out")
    assert "classes.txt" in caught.value.hint
    text(tmp_path / "in/one/classes.txt", "cat\ndog\n")
    text(tmp_path / "in/two/a.txt", rows("b"))
    with pytest.raises(DataError, match=r"a\.png: its labels could be .*one/a\.txt, .*two/a\.txt"):
        prepare(str(tmp_path / "in"), tmp_path / "out")
    text(tmp_path / "in/classes.txt", "dog\ncat\n")
    (tmp_path / "in/two/a.txt").unlink()
    with pytest.raises(DataError, match="name different classes"):
        prepare(str(tmp_path / "in"), tmp_path / "out")


def test_images_that_a_list_leaves_out_are_named(tmp_path):
    images(tmp_path / "in")
    text(tmp_path / "in/classes.txt", "cat\ndog\n")
    text(tmp_path / "in/train.txt", "a.png\n")
    text(tmp_path / "in/valid.txt", "b.png\n")
    assert "1 images are in no list and are left out: c.png" in notes(prepare(str(tmp_path / "in"), tmp_path / "out"))


@pytest.mark.parametrize("values", [2, 3])
def test_keypoints_behind_boxes(tmp_path, values):
    for split, name in (("train", "a"), ("val", "b")):
        photo(tmp_path / "in/images" / split / f"{name}.png")
        points = [(0.5, 0.25, 2), (0, 0, 0)]
        row = ["1 0.5 0.5 0.5 0.5", *(" ".join(map(str, point[:values])) for point in points)]
        text(tmp_path / "in/labels" / split / f"{name}.txt", " ".join(row) + "\n")
    content = {"train": "images/train", "val": "images/val", "names": [*NAMES], "kpt_shape": [2, values]}
    text(tmp_path / "in/data.yaml", yaml.safe_dump({**content, "flip_idx": [1, 0]}))
    root = prepare(str(tmp_path / "in"), tmp_path / "out")
    data = Dataset(root, task="detection")
    assert data.annotations(0)[0]["keypoints"] == [W / 2, H / 4, 2, 0, 0, 0]
    assert data.info.categories[1].flip_pairs == ((0, 1),)
    assert "data.yaml: has no kpt_names: keypoints are called by their numbers" in notes(root)
    text(tmp_path / "in/data.yaml", yaml.safe_dump({**content, "kpt_names": {1: ["left_ear", "right_ear"]}}))
    named = Dataset(prepare(str(tmp_path / "in"), tmp_path / "named"), task="detection").info.categories[1]
    assert (named.keypoints, named.flip_pairs) == (("left_ear", "right_ear"), ((0, 1),))
    text(tmp_path / "in/data.yaml", yaml.safe_dump({**content, "kpt_shape": [3, values]}))
    with pytest.raises(DataError, match=r"a\.txt, line 1: .* numbers behind the box"):
        prepare(str(tmp_path / "in"), tmp_path / "again")


def test_lists_are_understood_whatever_way_leads_to_the_folder(tmp_path):
    images(tmp_path / "in/x")
    text(tmp_path / "in/obj.names", "cat\ndog\n")
    text(tmp_path / "in/train.txt", "data/x/a.png\ndata/x/b.png\n")
    text(tmp_path / "in/valid.txt", "data/x/c.png\n")
    (tmp_path / "here").mkdir()
    root = prepare(str(tmp_path / "here/../in"), tmp_path / "out")
    assert Dataset(root, task="detection").info.splits == {"train": 2, "val": 1}
    assert not [note for note in notes(root) if "left" in note]
    (tmp_path / "in/x/c.png").rename(tmp_path / "elsewhere.png")
    (tmp_path / "in/x/c.txt").rename(tmp_path / "elsewhere.txt")
    text(tmp_path / "in/valid.txt", f"{tmp_path}/elsewhere.png\n")
    outside = prepare(str(tmp_path / "in"), tmp_path / "trusted", trusted=True)
    assert len(Dataset(outside, "val", task="detection").annotations(0)) == 2


def test_what_has_no_place_is_said(tmp_path):
    photo(tmp_path / "in/images/train/a.png")
    text(tmp_path / "in/labels/train/a.txt", "0 0.5 0.5 0.5 0.5 0.5 0.25 2\n")
    text(tmp_path / "in/data.yaml", yaml.safe_dump({"train": "images/train", "names": ["cat"], "kpt_shape": [1, 3]}))
    root = prepare(str(tmp_path / "in"), tmp_path / "out", split="train=1")
    for to in ("yolo", "labelme", "cvat"):
        assert "keypoints have no place in this format" in export(str(root), to, tmp_path / to)["notes"]
