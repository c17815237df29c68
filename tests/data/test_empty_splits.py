"""A split without images, as exports leave it for a share of 0 %, is noted by name and no reason to refuse the rest."""

import json

import pytest
from sources import FORMATS

from segcli.data.canonical import prepared
from segcli.errors import DataError
from segcli.info import DatasetInfo
from segcli.preparing import prepare


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
ASIDE = "left aside: panoptic_test.json"  # without an entry it is not told apart from other files


@pytest.mark.parametrize(
    ("name", "add", "said"),
    [("coco", empty_coco, NOTED), ("panoptic", empty_panoptic, ASIDE), ("masks", empty_masks, NOTED)],
    ids=["coco", "panoptic", "masks"],
)
def test_an_empty_test_split(tmp_path, name, add, said):
    FORMATS[name](tmp_path / "source")
    add(tmp_path / "source", "test")
    root = prepare(str(tmp_path / "source"), tmp_path / "out")
    assert {split: n for split, n in DatasetInfo.load(root).splits.items() if n} == {"train": 2, "val": 1}
    assert said in prepared(root)["notes"]


def test_an_empty_train_split_is_refused(tmp_path):
    FORMATS["coco"](tmp_path / "source")
    empty_coco(tmp_path / "source", "train")
    with pytest.raises(DataError, match=r"instances_train\.json: lists no image"):
        prepare(str(tmp_path / "source"), tmp_path / "out")


def test_annotations_without_images_are_no_empty_split(tmp_path):
    FORMATS["coco"](tmp_path / "source")
    empty_coco(tmp_path / "source", "test")
    file = tmp_path / "source/annotations/instances_test.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    one = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 5]}
    file.write_text(json.dumps({**data, "annotations": [one]}), encoding="utf-8")
    with pytest.raises(DataError, match=r"instances_test\.json: lists no image"):
        prepare(str(tmp_path / "source"), tmp_path / "out")
