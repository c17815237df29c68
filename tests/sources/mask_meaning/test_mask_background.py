"""Masks whose background is not 0: the surroundings of objects are never taken for an object without being asked."""

import numpy as np
import pytest
from PIL import Image

from segcli.commands.prepare import prepare
from segcli.core.errors import DataError
from segcli.data.annotations import load

H, W = 40, 48


def source(root, paint, names=None):
    for i in range(6):
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 255, (H, W, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
        Image.fromarray(paint(i).astype(np.uint8)).save(root / "masks" / f"{i}.png")
    if names:
        (root / "classes.txt").write_text("\n".join(names), encoding="utf-8")
    return str(root)


def squares(background, values):
    """Map i: two or three squares on a background."""

    def paint(i):
        out = np.full((H, W), background)
        for k in range(2 + i % 2):
            out[5 + i : 12 + i, 3 + 15 * k : 13 + 15 * k] = values(k)
        return out

    return paint


@pytest.mark.parametrize(
    ("background", "values", "flag"),
    [
        (255, lambda k: 0, "--masks binary"),
        (1, lambda k: 0, "--masks binary"),
        (1, lambda k: k + 2, "--ignore 1"),
        (7, lambda k: k + 1, "--ignore 7"),
    ],
)
def test_a_value_around_everything_else_is_no_object(tmp_path, background, values, flag):
    path = source(tmp_path / "in", squares(background, values))
    with pytest.raises(DataError, match=f"the value {background} lies around everything else") as error:
        prepare(path, tmp_path / "out")
    assert flag in error.value.hint
    assert not (tmp_path / "out").exists()


def test_left_out_by_the_flag_the_objects_are_there_alone(tmp_path):
    path = source(tmp_path / "in", squares(1, lambda k: k + 2))
    out = prepare(path, tmp_path / "out", settings={"ignore": [1]})
    areas = [a["area"] for split in ("train", "val") for a in load(out / "annotations" / f"{split}.json")[1]]
    assert areas == [70] * 15


def test_binary_with_the_object_named_first(tmp_path):
    path = source(tmp_path / "in", squares(255, lambda k: 0), ["leaf", "soil"])
    out = prepare(path, tmp_path / "out", settings={"masks": "binary"})
    labels = np.asarray(Image.open(next((out / "semantic" / "train").glob("*.png"))))
    assert labels[0, 0] == 1  # soil
    assert labels.max() == 1  # no pixel is ignored
    assert (labels == 0).sum() in (140, 210)


def test_objects_that_fill_their_picture_now_and_then_are_objects(tmp_path):
    def paint(i):
        out = squares(0, lambda k: k + 1)(i)
        return np.where(out == 0, 4, out) if i == 0 else out

    prepare(source(tmp_path / "in", paint), tmp_path / "out")
