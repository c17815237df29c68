"""Textures on people and of people: against the indices of the reference implementation, and there and back."""

import numpy as np
import pytest
import torch
from PIL import Image

from segcli.core.errors import DataError
from segcli.drawing.textures import SIDE, dressed, read_atlas, undressed
from segcli.fields.body_surface import Surface
from segcli.fields.densepose import DensePose


def found(maps: list[np.ndarray], boxes: list[list[float]], charts: int = 24) -> DensePose:
    return DensePose.predicted([torch.from_numpy(m) for m in maps], torch.tensor(boxes), Surface(charts=charts))


def test_places_are_read_as_the_reference_reads_them(tmp_path):
    """detectron2's DensePoseResultsVisualizerWithTexture, written out: chart 6 i + j + 1 is in column i, row j."""
    rng = np.random.default_rng(0)
    side = 20
    picture = rng.integers(1, 256, (6 * side, 4 * side, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "atlas.png")
    own = np.stack([rng.integers(0, 25, (30, 40)), *rng.integers(0, 256, (2, 30, 40))]).astype(np.uint8)
    image = rng.integers(0, 256, (60, 70, 3), dtype=np.uint8)
    out = dressed(image, found([own], [[10, 20, 50, 50]]), read_atlas(tmp_path / "atlas.png", 24))
    expected = image.copy()
    for y, x in np.ndindex(30, 40):
        chart, u, v = own[0, y, x], own[1, y, x] / 255, own[2, y, x] / 255
        if chart:
            i, j = divmod(int(chart) - 1, 6)
            at = picture[side * j : side * (j + 1), side * i : side * (i + 1)]
            expected[20 + y, 10 + x] = at[int((1 - np.float32(v)) * (side - 1)), int(np.float32(u) * (side - 1))]
    assert (out != expected).any(2).mean() < 1e-3, "but for places between two pixels of the atlas"


def test_what_is_clear_shows_the_image_and_the_best_detection_is_on_top(tmp_path):
    squares = np.zeros((6, 1, 4, 4, 4), np.uint8)
    squares[:3, 0] = [[[[200, 0, 0, 255]]], [[[0, 200, 0, 128]]], [[[0, 0, 200, 0]]]]
    Image.fromarray(squares.transpose(0, 2, 1, 3, 4).reshape(24, 4, 4)).save(tmp_path / "a.png")
    atlas = read_atlas(tmp_path / "a.png", 3)
    image = np.full((8, 30, 3), 100, np.uint8)
    maps = [np.full((3, 8, 10), chart, np.uint8) for chart in (1, 2, 3, 1)]
    out = dressed(image, found(maps, [[0, 0, 10, 8], [5, 0, 15, 8], [15, 0, 25, 8], [40, 0, 50, 8]], 3), atlas)
    assert out[4, [2, 7, 12, 20, 27]].tolist() == [[200, 0, 0], [200, 0, 0], [50, 150, 50], [100] * 3, [100] * 3]
    Image.fromarray(squares.transpose(0, 2, 1, 3, 4).reshape(24, 4, 4)[..., :3] * np.uint8([1, 0, 0])).save(
        tmp_path / "rgb.png"
    )
    assert read_atlas(tmp_path / "rgb.png", 3)[:, 0, 0, 3].tolist() == [255, 0, 0], "black is clear"


def test_a_texture_taken_from_a_person_dresses_the_same_person_as_before(tmp_path):
    u, v = np.meshgrid(np.linspace(0, 255, 48), np.linspace(255, 0, 64))
    own = np.stack([np.ones((64, 48)), u, v]).astype(np.uint8)
    own[0, :, :24] = 8
    own[0, 50:] = 0
    rows, columns = np.mgrid[:80, :60]
    image = np.stack([rows * 3, columns * 4, 255 - rows * 2], 2).astype(np.uint8)
    person = found([own], [[6, 8, 54, 72]])
    taken = undressed(image, person, 0)
    assert taken.shape == (6 * SIDE, 4 * SIDE, 4)
    one = taken[:SIDE, :SIDE]
    assert not one[-4:, :, 3].any(), "what is not on the body is clear"
    assert one[5:90, 70:, 3].all(), "what lies between pixels is filled"
    assert not one[:, :50, 3].any()
    assert taken[SIDE : 2 * SIDE, SIDE : 2 * SIDE, 3].any(), "chart 8 is the second of the second column"
    Image.fromarray(taken).save(tmp_path / "taken.png")
    again = dressed(np.zeros_like(image), person, read_atlas(tmp_path / "taken.png", 24))
    on = np.zeros((80, 60), bool)
    on[8:72, 6:54] = own[0] > 0
    assert np.abs(again[on].astype(int) - image[on]).max() <= 12, "within a pixel of the image"
    assert not again[~on].any()


def test_pictures_that_are_no_texture_are_refused_by_name(tmp_path):
    Image.new("RGB", (800, 1190)).save(tmp_path / "odd.png")
    with pytest.raises(
        DataError, match=r"odd.png: a texture of 24 charts is 4 squares wide and 6 high, and this is 800 × 1190"
    ):
        read_atlas(tmp_path / "odd.png", 24)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"text.png: is no picture"):
        read_atlas(tmp_path / "text.png", 24)
    with pytest.raises(DataError, match=r"none.png"):
        read_atlas(tmp_path / "none.png", 24)
