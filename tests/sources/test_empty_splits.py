"""A split without images, as exports leave it for a share of 0 %, is noted by name and no reason to refuse the rest."""

import json
import shutil

import pytest
from sources import FORMATS

from segcli.commands.prepare import prepare
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError
from segcli.data.canonical import prepared


def empty_coco(root, split):
    data = {"images": [], "annotations": [], "categories": json.loads(_train(root, "instances"))["categories"]}
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(data), encoding="utf-8")


def empty_panoptic(root, split):
    data = {"images": [], "annotations": [], "categories": json.loads(_train(root, "panoptic"))["categories"]}
    (root / "annotations" / f"panoptic_{split}.json").write_text(json.dumps(data), encoding="utf-8")


def empty_masks(root, split):
    for name in ("images", "masks"):
        (root / split / name).mkdir(parents=True, exist_ok=True)


def _train(root, kind):
    return next((root / "annotations").glob(f"{kind}_train*.json")).read_text(encoding="utf-8")


NOTED = "the split test is empty"
TRAIN = "the split train is empty: what the others hold is divided anew"


@pytest.mark.parametrize(
    ("name", "add"),
    [("coco", empty_coco), ("panoptic", empty_panoptic), ("masks", empty_masks)],
    ids=["coco", "panoptic", "masks"],
)
def test_an_empty_test_split(tmp_path, name, add):
    FORMATS[name](tmp_path / "source")
    add(tmp_path / "source", "test")
    root = prepare(str(tmp_path / "source"), tmp_path / "out")
    assert {split: n for split, n in DatasetInfo.load(root).splits.items() if n} == {"train": 2, "val": 1}
    assert NOTED in prepared(root)["notes"]


@pytest.mark.parametrize("name", ["labelme", "via", "yolo", "voc", "voc_boxes", "camvid", "cityscapes"])
def test_an_emptied_split_is_said_in_every_format(tmp_path, name):
    FORMATS[name](tmp_path / "source")
    empty(tmp_path / "source", "val")
    root = prepare(str(tmp_path / "source"), tmp_path / "out", samples=False)
    assert DatasetInfo.load(root).splits == {"train": 1, "val": 1}  # divided anew
    assert any(note.endswith("the split val is empty") for note in prepared(root)["notes"])


@pytest.mark.parametrize("name", FORMATS)
def test_a_test_folder_without_a_file_is_said(tmp_path, name):
    FORMATS[name](tmp_path / "source")
    (tmp_path / "source" / "test").mkdir()
    root = prepare(str(tmp_path / "source"), tmp_path / "out", samples=False)
    assert DatasetInfo.load(root).splits == {"train": 2, "val": 1}
    assert NOTED in prepared(root)["notes"]


def empty(root, split):
    """Take the files of a split out of its folders, and its names out of its list."""
    for path in sorted(root.rglob("*")):
        folders = path.relative_to(root).parts[:-1]
        if path.is_file() and (split in folders or f"{split}annot" in folders):
            path.unlink()
        elif path.name == f"{split}.txt":
            path.write_text("", encoding="utf-8")


def test_an_empty_train_split_of_coco(tmp_path):
    FORMATS["coco"](tmp_path / "source")
    empty_coco(tmp_path / "source", "test")
    source, val = tmp_path / "source", tmp_path / "source/annotations/instances_val.json"
    (source / "annotations/instances_train.json").replace(val)
    (source / "train").rename(source / "val2")
    data = json.loads(val.read_text(encoding="utf-8"))
    none = {**data, "images": [], "annotations": []}
    (source / "annotations/instances_train.json").write_text(json.dumps(none), encoding="utf-8")
    root = prepare(str(source), tmp_path / "out")
    assert DatasetInfo.load(root).splits == {"train": 1, "val": 1}
    assert TRAIN in prepared(root)["notes"]
    assert NOTED in prepared(root)["notes"]


@pytest.mark.parametrize("gone", ["emptied", "absent"])
def test_parts_of_a_yaml_that_are_not_there(tmp_path, gone):
    FORMATS["yolo"](tmp_path / "source")
    if gone == "absent":
        for kind in ("images", "labels"):
            shutil.rmtree(tmp_path / "source" / kind / "val")
    else:
        empty(tmp_path / "source", "val")
    root = prepare(str(tmp_path / "source"), tmp_path / "out")
    assert DatasetInfo.load(root).splits == {"train": 1, "val": 1}
    assert any("data.yaml: val: " in n and n.endswith("the split val is empty") for n in prepared(root)["notes"])


def test_a_yaml_that_names_a_folder_elsewhere_is_refused_not_left_out(tmp_path):
    FORMATS["yolo"](tmp_path / "source")
    (tmp_path / "source/images/val").rename(tmp_path / "outside")
    file = tmp_path / "source/data.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("images/val", "../outside"), encoding="utf-8")
    with pytest.raises(DataError, match="val: there is no") as caught:
        prepare(str(tmp_path / "source"), tmp_path / "out")
    assert "--trust-paths" in caught.value.hint


def test_nothing_but_empty_splits_is_refused(tmp_path):
    FORMATS["yolo"](tmp_path / "source")
    empty(tmp_path / "source", "train")
    empty(tmp_path / "source", "val")
    with pytest.raises(DataError, match=r"train: .* holds no image"):
        prepare(str(tmp_path / "source"), tmp_path / "out")


def test_names_in_a_list_that_nothing_is_called_are_counted(tmp_path):
    FORMATS["voc"](tmp_path / "source")
    (file,) = (tmp_path / "source").rglob("Segmentation/val.txt")
    file.write_text(file.read_text(encoding="utf-8") + "ghost\n", encoding="utf-8")
    notes = prepared(prepare(str(tmp_path / "source"), tmp_path / "out"))["notes"]
    assert "1 names in ImageSets/Segmentation have no labels and are left out: ghost" in notes


def test_annotations_without_images_are_no_empty_split(tmp_path):
    FORMATS["coco"](tmp_path / "source")
    empty_coco(tmp_path / "source", "test")
    file = tmp_path / "source/annotations/instances_test.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    one = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 5]}
    file.write_text(json.dumps({**data, "annotations": [one]}), encoding="utf-8")
    with pytest.raises(DataError, match=r"instances_test\.json: lists no image"):
        prepare(str(tmp_path / "source"), tmp_path / "out")
