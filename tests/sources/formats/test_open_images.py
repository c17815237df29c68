"""Open Images: boxes and masks of one object meet, flags stay, what is not on the disk is counted."""

import json
from pathlib import Path

import numpy as np
import pytest
from scene import H, W, picture
from tool_exports import EXPORTS

from segcli.commands.prepare import prepare
from segcli.core.errors import DataError
from segcli.data.dataset import Dataset

BOXES, MASKS = "train-annotations-bbox.csv", "train-annotations-object-segmentation.csv"


def source(root: Path, boxes: str = "", masks: str = "") -> Path:
    """The scene, with lines more."""
    EXPORTS["open_images"](root)
    for name, line in ((BOXES, boxes), (MASKS, masks)):
        with (root / name).open("a", encoding="utf-8") as stream:
            stream.write(f"\n{line}\n" if line else "")
    return root


def test_boxes_without_a_mask_flags_and_absent_images(tmp_path):
    more = "a,xclick,/m/0cat,1,0.25,0.5,0.25,0.5,1,0,1,0,0\nzzz,xclick,/m/0cat,1,0.25,0.5,0.25,0.5,1,0,1,0,0"
    root = prepare(str(source(tmp_path / "in", more)), tmp_path / "out")
    found = Dataset(root, "train", task="detection").annotations(0)
    assert len(found) == 3  # a mask and its box are one
    assert (found[0]["truncated"], found[0].get("iscrowd", 0)) == (1, 0)
    assert (found[2]["bbox"], found[2]["iscrowd"], found[2]["occluded"]) == ([8, 6, 8, 6], 1, 1)
    assert "segmentation" not in found[2]
    assert "1 images with 1 rows are not in the folder: zzz" in notes(root)


def notes(root: Path) -> list[str]:
    return json.loads((root / "prepared.json").read_text("utf-8"))["notes"]


def test_what_belongs_to_no_image_here_is_counted(tmp_path):
    picture(tmp_path / "in/pngs/zzz_m.png", np.ones((H, W), np.uint8))
    (tmp_path / "in/relations.csv").write_text("ImageID,LabelName1,LabelName2\n", encoding="utf-8")
    root = prepare(str(source(tmp_path / "in", masks="zzz_m.png,zzz,/m/0cat,9,,,,,,")), tmp_path / "out")
    assert "1 images with 1 rows are not in the folder: zzz" in notes(root)
    assert "1 tables are of another kind and are left aside: relations.csv" in notes(root)
    assert not any("that no row names" in note for note in notes(root))


def test_a_mask_of_another_size_is_not_moved(tmp_path):
    mask = np.zeros((15, 20), np.uint8)
    mask[3:12, 3:17] = 1  # in the middle
    source(tmp_path / "in")
    picture(tmp_path / "in/masks/a_m0cat_1.png", mask)
    found = Dataset(prepare(str(tmp_path / "in"), tmp_path / "out"), "train", task="detection").annotations(0)
    assert found[0]["bbox"] == [5, 5, W - 10, H - 10]


@pytest.mark.parametrize(
    ("boxes", "masks", "said"),
    [
        ("a,xclick,/m/0cat,1,0.5,0.25,0.25,0.5,1,0,1,0,0", "", "its corners 0.5, 0.25, 0.25, 0.5 are no fractions"),
        ("a,xclick,/m/0cat,1,10,20,0.25,0.5,1,0,1,0,0", "", "are no fractions"),
        ("a,xclick,/m/0cat", "", "has 3 cells, and the heading 13"),
        ("", "none.png,a,/m/0cat,9,,,,,,", "the mask 'none.png' is nowhere below the folder"),
        ("", "tall.png,a,/m/0cat,9,,,,,,", "the mask tall.png has 8 x 24 pixels, and a.png 32 x 24"),
        ("", "empty.png,a,/m/0cat,9,,,,,,", "the mask empty.png has no pixel"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, boxes, masks, said):
    picture(tmp_path / "in/masks/tall.png", np.ones((H, 8), np.uint8))
    picture(tmp_path / "in/masks/empty.png", np.zeros((H, W), np.uint8))
    with pytest.raises(DataError) as caught:
        prepare(str(source(tmp_path / "in", boxes, masks)), tmp_path / "out")
    assert said in str(caught.value)
    assert (BOXES if boxes else MASKS) in str(caught.value)
