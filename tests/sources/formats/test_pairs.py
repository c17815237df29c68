"""Folders of images and masks as courses, challenges and tools lay them out, told by names alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sources import SCENE, H, W, ids, photo, picture, text

from segcli.commands.prepare import prepare
from segcli.core.errors import DataError
from segcli.data.dataset import Dataset

NAMES = ("a", "b", "c", "d", "e")
CLASSES = "name,r,g,b\nbackground,0,0,0\nroad,255,255,255\n"


def one(number: int) -> np.ndarray:
    """A mask of 0 and 255 in one piece, elsewhere for each number."""
    mask = np.zeros((H, W), np.uint8)
    mask[3 : 9 + number, 4:20] = 255
    return mask


def write(root: Path, image: str, mask: str) -> Path:
    """Images and masks at these places, in which {} is the name."""
    for number, name in enumerate(NAMES):
        photo(root / image.format(name))
        file = root / mask.format(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one(number)).save(file)
    return root


def objects(root: Path) -> dict[str, int]:
    """Image -> pixels of its objects."""
    data = Dataset(root)
    return {Path(n).stem: int(data.target(i).instances.masks.sum()) for i, n in enumerate(data.file_names)}


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("train/{}.png", "train_masks/{}_mask.gif"),  # Carvana
        ("train/images/{}.tif", "train/gt/{}.tif"),  # Inria
        ("training/images/{}_training.tif", "training/1st_manual/{}_manual1.gif"),  # DRIVE
        ("ISIC_{}.png", "ISIC_{}_segmentation.png"),
        ("train/{}_sat.png", "train/{}_mask.png"),  # DeepGlobe
        ("{}_img.png", "{}_masks.tif"),  # Cellpose's own data
        ("{}.png", "{}_cp_masks.png"),  # what Cellpose saves
        ("imgs/{}.png", "masks/{}_mask.png"),
        ("Images/{}.png", "Masks/{}.png"),
    ],
)
def test_layouts(tmp_path, image, mask):
    root = prepare(str(write(tmp_path / "in", image, mask)), tmp_path / "out")
    stem = Path(image).stem
    assert objects(root) == {stem.format(name): 16 * (6 + number) for number, name in enumerate(NAMES)}
    assert "every mask is one object" in json.loads((root / "prepared.json").read_text("utf-8"))["masks"]["said"]


@pytest.mark.parametrize(
    ("image", "mask", "legend", "content"),
    [
        ("train/{}.png", "train_labels/{}_L.png", "class_dict.csv", CLASSES),  # Kaggle's CamVid
        ("default/{}.png", "defaultannot/{}.png", "label_colors.txt", "0 0 0 background\n255 255 255 road\n"),  # CVAT
        ("img_dir/{}.png", "ann_dir/{}.png", "legend.csv", "value,name\n0,background\n255,road\n"),  # MMSegmentation
        ("valid/{}.png", "valid/{}_mask.png", "valid/_classes.csv", "Pixel Value, Class\n0, background\n255, road\n"),
    ],
)
def test_classes_of_pixels_by_their_legend(tmp_path, image, mask, legend, content):
    source = write(tmp_path / "in", image, mask)
    if "Value" not in content and "value" not in content:
        for file in source.glob(mask.format("*")):
            Image.open(file).convert("RGB").save(file)
    text(source / legend, content)
    data = Dataset(prepare(str(source), tmp_path / "out"), task="semantic")
    assert data.info.names == ["background", "road"]
    assert sorted(int((data.target(i).semantic == 1).sum()) for i in range(5)) == [16 * (6 + n) for n in range(5)]


def test_a_field_of_view_is_no_label(tmp_path):
    write(tmp_path / "in", "training/images/{}_training.png", "training/1st_manual/{}_manual1.gif")
    write(tmp_path / "in", "training/images/{}_training.png", "training/mask/{}_training_mask.gif")
    write(tmp_path / "in", "test/images/{}_test.png", "test/mask/{}_test_mask.gif")
    root = prepare(str(tmp_path / "in"), tmp_path / "out")
    assert len(objects(root)) == 5
    assert "5 images have no mask file and are left out" in " ".join(
        json.loads((root / "prepared.json").read_text("utf-8"))["notes"]
    )


def test_classes_that_nothing_names_are_refused(tmp_path):
    source = write(tmp_path / "in", "img_dir/{}.png", "ann_dir/{}.png")
    with pytest.raises(DataError, match="is not said") as caught:
        prepare(str(source), tmp_path / "out")
    assert "legend.csv" in caught.value.hint
    named = prepare(str(source), tmp_path / "out", settings={"classes": {0: "background", 255: "road"}})
    assert Dataset(named, task="semantic").info.names == ["background", "road"]


def test_what_has_no_partner_is_named_and_two_masks_are_refused(tmp_path):
    source = write(tmp_path / "in", "imgs/{}.png", "masks/{}.png")
    photo(source / "imgs/lone.png")
    picture(source / "masks/stray.png", one(1))
    root = prepare(str(source), tmp_path / "out")
    said = " ".join(json.loads((root / "prepared.json").read_text("utf-8"))["notes"])
    assert "1 images have no mask file and are left out: lone.png" in said
    assert "1 mask files belong to no image and are left aside: stray.png" in said
    beside = write(tmp_path / "beside", "{}.png", "{}_mask.png")
    picture(beside / "a_seg.png", one(2))
    with pytest.raises(DataError, match=r"a\.png: could belong to a_(mask|seg)\.png and to a_(mask|seg)\.png"):
        prepare(str(beside), tmp_path / "again")


def test_photographs_alone_are_no_pairs(tmp_path):
    for name in NAMES:
        photo(tmp_path / "in" / f"{name}.png")
    photo(tmp_path / "in/a_mask.png")
    with pytest.raises(DataError, match="in no format"):
        prepare(str(tmp_path / "in"), tmp_path / "out")


def test_ids_of_16_bits_are_objects(tmp_path):
    for name in SCENE:
        photo(tmp_path / "in" / f"{name}.png")
        picture(tmp_path / "in" / f"{name}_cp_masks.tif", ids(name, 1, 2, dtype=np.uint16))
    data = Dataset(prepare(str(tmp_path / "in"), tmp_path / "out"))
    assert sum(len(data.annotations(i)) for i in range(3)) == 6


def test_an_image_with_two_masks_is_refused_unless_one_is_called_as_it(tmp_path):
    write(tmp_path / "in", "imgs/{}.png", "masks/{}_mask.png")
    Image.fromarray(one(3)).save(tmp_path / "in/masks/a_label.png")
    with pytest.raises(DataError, match=r"a\.png: its mask could be .*a_label\.png, .*a_mask\.png"):
        prepare(str(tmp_path / "in"), tmp_path / "out")
    Image.fromarray(one(4)).save(tmp_path / "in/masks/a.png")
    root = prepare(str(tmp_path / "in"), tmp_path / "out")
    assert objects(root)["a"] == 16 * 10
    assert "a_label.png, a_mask.png" in " ".join(json.loads((root / "prepared.json").read_text("utf-8"))["notes"])
