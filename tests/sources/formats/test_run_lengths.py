"""Kaggle's tables of run lengths: what the headings mean, and in which order pixels are counted."""

import json
from pathlib import Path

import numpy as np
import pytest
from scene import H, W, photo, picture, text
from tool_exports import runs

from segcli.commands.prepare import diagnose, prepare
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError
from segcli.data.dataset import Dataset
from segcli.sources.detection import detect


def box(x1: int, y1: int, x2: int, y2: int, shape: tuple[int, int] = (H, W)) -> np.ndarray:
    out = np.zeros(shape, bool)
    out[y1:y2, x1:x2] = True
    return out


def table(root: Path, heading: str, *rows: str, images: str = "ab") -> Path:
    for name in images:
        photo(root / f"{name}.png")
    return text(root / "train.csv", "\n".join([heading, *rows]) + "\n").parent


def boxes(source: Path, out: Path, **settings) -> dict[str, list[tuple[str, list[float]]]]:
    """Image -> class and box of its objects."""
    root = prepare(str(source), out, settings=settings or None)
    found = {}
    for split in Dataset(root, task="detection").info.splits:
        data = Dataset(root, split, task="detection")
        for i, name in enumerate(data.file_names):
            one = data.target(i).instances
            found[name] = [
                (data.info.names[k], b) for k, b in zip(one.labels.tolist(), one.boxes.tolist(), strict=True)
            ]
    return found


CAT, DOG = box(2, 3, 12, 13), box(15, 5, 28, 20)


def test_a_class_in_the_image_cell_and_empty_cells(tmp_path):
    rows = [f"a.png_2,{runs(CAT)}", "a.png_1,", f"b.png_1,{runs(DOG)}", "b.png_2,-1"]
    found = boxes(table(tmp_path / "in", "ImageId_ClassId,EncodedPixels", *rows), tmp_path / "out")
    assert found == {"a.png": [("2", [2, 3, 12, 13])], "b.png": [("1", [15, 5, 28, 20])]}


def test_names_without_suffix_in_folders_of_their_own(tmp_path):
    """The Data Science Bowl's layout; its table of predictions lies beside."""
    for name in ("id1", "id2"):
        photo(tmp_path / f"stage1_train/{name}/images/{name}.png")
    lines = ["ImageId,EncodedPixels", f"id1,{runs(CAT)}", f"id1,{runs(DOG)}", "id2,"]
    text(tmp_path / "stage1_train_labels.csv", "\n".join(lines))
    text(tmp_path / "stage1_sample_submission.csv", "ImageId,EncodedPixels\nx,1 1\n")
    found = boxes(tmp_path, tmp_path.parent / f"{tmp_path.name}_out")
    assert {Path(name).stem: one for name, one in found.items()} == {
        "id1": [("object", [2, 3, 12, 13]), ("object", [15, 5, 28, 20])],
        "id2": [],
    }


def test_masks_beside_the_table_are_taken(tmp_path):
    """The Data Science Bowl has both, and both say the same."""
    for name in ("id1", "id2"):
        photo(tmp_path / f"stage1_train/{name}/images/{name}.png")
        picture(tmp_path / f"stage1_train/{name}/masks/{name}0.png", CAT.astype(np.uint8) * 255)
    text(tmp_path / "stage1_train_labels.csv", f"ImageId,EncodedPixels\nid1,{runs(CAT)}\nid2,{runs(CAT)}\n")
    assert detect(tmp_path) == "masks"
    assert detect(tmp_path / "stage1_train_labels.csv") == "run_lengths"


def test_rows_are_asked_for_and_then_read(tmp_path):
    rows = [f"a.png,{runs(CAT, 'C')}", f"a.png,{runs(DOG, 'C')}", f"b.png,{runs(DOG, 'C')}"]
    source = table(tmp_path / "in", "ImageId,EncodedPixels", *rows)
    with pytest.raises(DataError, match="fit the images better along the rows") as caught:
        prepare(str(source), tmp_path / "out")
    assert "pixel_order=rows" in str(caught.value.hint)
    found = boxes(source, tmp_path / "out", pixel_order="rows")
    assert [b for _, b in found["a.png"]] == [[2, 3, 12, 13], [15, 5, 28, 20]]


@pytest.mark.parametrize(("order", "said"), [("F", None), ("C", "better along the rows")])
def test_square_images_tell_by_their_content(tmp_path, order, said):
    rng = np.random.default_rng(0)
    rows = ["ImageId,EncodedPixels"]
    for number in range(10):
        x, y = rng.integers(2, 30, 2).tolist()
        mask = box(x, y, x + 25, y + 6, (64, 64))
        picture(tmp_path / f"in/{number}.png", np.where(mask, 200, 60)[..., None].repeat(3, 2).astype(np.uint8))
        rows.append(f"{number}.png,{runs(mask, order)}")
    text(tmp_path / "in/train.csv", "\n".join(rows))
    if said is None:
        assert len(boxes(tmp_path / "in", tmp_path / "out")) == 10
    else:
        with pytest.raises(DataError, match=said):
            prepare(str(tmp_path / "in"), tmp_path / "out")


def test_square_images_that_do_not_tell(tmp_path):
    picture(tmp_path / "in/a.png", np.zeros((64, 64, 3), np.uint8))
    text(tmp_path / "in/t.csv", f"ImageId,EncodedPixels\na.png,{runs(box(2, 3, 12, 13, (64, 64)))}\n")
    with pytest.raises(DataError, match="either way"):
        prepare(str(tmp_path / "in"), tmp_path / "out")


def test_names_of_classes_stay_whole_but_for_the_attributes_of_imaterialist(tmp_path):
    rows = [f"a.png,large_bowel,{runs(CAT)}", f"a.png,6_19_20,{runs(DOG)}", "b.png,,"]
    found = boxes(table(tmp_path / "in", "id,class,rle", *rows), tmp_path / "out")
    assert found == {"a.png": [("large_bowel", [2, 3, 12, 13]), ("6", [15, 5, 28, 20])], "b.png": []}
    assert DatasetInfo.load(tmp_path / "out").names == ["6", "large_bowel"]


def test_rows_without_a_pixel_are_counted(tmp_path):
    source = table(tmp_path / "in", "ImageId,EncodedPixels", "a.png,5 0", f"b.png,{runs(CAT)}")
    assert sorted(map(len, boxes(source, tmp_path / "out").values())) == [0, 1]
    notes = json.loads((tmp_path / "out/prepared.json").read_text("utf-8"))["notes"]
    assert "1 rows have no pixel and are left out: a.png" in notes


def test_rows_of_a_class_with_several_regions(tmp_path):
    both = runs(CAT | DOG)
    source = table(tmp_path / "in", "ImageId,ClassId,EncodedPixels", f"a.png,3,{both}", f"b.png,3,{both}")
    with pytest.raises(DataError, match="2 of 2 rows") as caught:
        prepare(str(source), tmp_path / "out")
    assert "--masks split-components" in str(caught.value.hint)
    assert len(boxes(source, tmp_path / "regions", masks="split-components")["a.png"]) == 2
    assert boxes(source, tmp_path / "rows", masks="instances")["a.png"] == [("3", [2, 3, 28, 20])]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (f"{H * W} 2", "line 2: a run reaches pixel 769, and the image of 32 x 24 has 768"),
        ("0 5", "line 2: a run begins at pixel 0"),
        ("5 9 3 4", "line 2: its runs overlap or go back"),
        ("1 2 3", "line 2: its runs '1 2 3' are not pairs"),
        ("1 x", "are not pairs"),
    ],
)
def test_broken_runs_are_listed(tmp_path, cell, said):
    source = table(tmp_path / "in", "ImageId,EncodedPixels", f"a.png,{cell}", f"b.png,{runs(CAT)}")
    found = {f.code: f for f in diagnose(str(source)).findings if f.severity == "error"}
    assert len(found) == 1
    assert said in json.dumps([str(item) for one in found.values() for item in one.items])


def test_broken_tables(tmp_path):
    with pytest.raises(DataError, match="line 2: has 3 cells, and the heading 2"):
        prepare(str(table(tmp_path / "a", "ImageId,EncodedPixels", "a.png,1 2,3")), tmp_path / "out")
    with pytest.raises(DataError, match="not found in"):
        prepare(str(table(tmp_path / "b", "ImageId,EncodedPixels", "z.png,1 2")), tmp_path / "out")
    with pytest.raises(DataError, match="lists no image"):
        prepare(str(table(tmp_path / "c", "ImageId,EncodedPixels")), tmp_path / "out")
