"""Pictures on which nothing can be seen are named: of one colour, or nearly black; dark and plain ones are not."""

import numpy as np
import pytest
from PIL import Image

from segcli.commands.prepare import diagnose
from segcli.doctor.rules.images import BLACK, FLAT, PIXELS, shown

H, W = 30, 40


def levels(low, high, seed=0):
    """Grey levels from `low` to `high`, both there."""
    values = np.random.default_rng(seed).integers(low, high + 1, (H, W, 3)).astype(np.uint8)
    values[0, 0], values[-1, -1] = low, high
    return values


def test_reports_name_pictures_that_show_nothing_and_say_why(tmp_path):
    red = levels(0, BLACK - 1, 1)
    red[5, 7, 0] = 255  # one channel is enough to be no black picture
    pictures = {
        "black": levels(0, BLACK - 1),
        "dark": levels(0, BLACK, 2),
        "one colour": np.full((H, W, 3), (200, 10, 60), np.uint8),
        "noise": levels(100, 100 + FLAT, 3),
        "plain": levels(100, 101 + FLAT, 4),
        "red": red,
    }
    mask = np.zeros((H, W), np.uint8)
    mask[5:20, 5:20] = 1
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    found = {f.code: f.items for f in diagnose(str(tmp_path)).findings}
    said = {item.file_name: item.detail for item in found["blank_image"]}
    assert said == {
        "black.png": "nearly black: its values end at 15 of 255",
        "noise.png": "one colour, [100, 100, 100]",
        "one colour.png": "one colour, [200, 10, 60]",
    }


@pytest.mark.parametrize("shape", [(7, 5), (300, 1), (2, 90_000), (700, 650), (1000, 1300)])
@pytest.mark.parametrize("turned", [False, True])
def test_every_so_many_rows_and_columns_are_looked_at_however_the_pixels_lie(shape, turned):
    step = max(1, round((shape[0] * shape[1] / PIXELS) ** 0.5))
    pixels = np.zeros((*shape, 3), np.uint8)
    if turned:
        pixels = pixels.swapaxes(0, 1)[::-1]
    rows, columns = ((n - 1) // step * step for n in pixels.shape[:2])  # the last ones that count
    pixels[rows, columns] = 8, BLACK - 1, 9
    assert shown(pixels) == f"nearly black: its values end at {BLACK - 1} of 255"
    pixels[rows, columns, 2] = BLACK
    assert shown(pixels) == ""
    if step > 1:
        pixels[rows, columns] = 0
        pixels[1::step] = pixels[:, 1::step] = 255
        assert shown(pixels) == "one colour, [0, 0, 0]"
