"""Where an image is missing, a label picture of its name is never taken for it."""

import json
from pathlib import Path

import pytest
import sources

from segcli.core.errors import DataError
from segcli.sources.formats import coco, panoptic
from segcli.sources.label_pictures import holds_labels


def test_a_panoptic_map_is_not_the_image_that_is_missing(tmp_path):
    sources.panoptic(tmp_path)
    (tmp_path / "train" / "b.png").unlink()
    entries = panoptic.build(path=tmp_path).splits["train"]
    assert [entry.path.is_file() for entry in entries] == [True, False]
    assert all(entry.path.parent.name == "train" for entry in entries)


def test_nor_are_all_maps_where_all_images_are_missing(tmp_path):
    sources.panoptic(tmp_path)
    for file in (tmp_path / "train").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="are not found in"):
        panoptic.build(path=tmp_path)
    (tmp_path / "annotations/panoptic_train").rename(
        tmp_path / "annotations/train"
    )  # one of the usual places of images
    with pytest.raises(DataError, match="are not found in"):
        panoptic.build(path=tmp_path / "annotations/panoptic_train.json", maps=str(tmp_path / "annotations/train"))


@pytest.mark.parametrize("folder", ["masks", "annotations/panoptic_train", "SegmentationObject/train", "train_masks"])
def test_masks_beside_coco_are_no_images(tmp_path, folder):
    sources.coco(tmp_path)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "train" / "b.png").rename(tmp_path / folder / "b.png")
    lost = next(e for e in coco.build(path=tmp_path).splits["train"] if e.label[0].file_name == "b.png")
    assert not lost.path.is_file()


@pytest.mark.parametrize("folder", ["annotations", "labels/images", "my pictures", "with_mask", "annotations/train"])
def test_images_in_other_folders_are_found(tmp_path, folder):
    sources.coco(tmp_path)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "b.png"):
        (tmp_path / "train" / name).rename(tmp_path / folder / name)
    assert all(entry.path.is_file() for entry in coco.build(path=tmp_path).splits["train"])


def test_a_name_that_says_masks_is_believed(tmp_path):
    sources.coco(tmp_path)
    file = tmp_path / "annotations/instances_train.json"
    content = json.loads(file.read_text("utf-8"))
    (tmp_path / "train").rename(tmp_path / "masks")
    for image in content["images"]:
        image["file_name"] = "masks/" + image["file_name"]
    sources.text(file, content)
    assert all(entry.path.is_file() for entry in coco.build(path=tmp_path).splits["train"])


def test_the_deepest_name_that_speaks_counts():
    root = Path("labels")
    assert holds_labels(root / "masks" / "train", root)
    assert not holds_labels(root / "masks" / "images" / "train", root)
    assert not holds_labels(root, root)
