"""The same picture is found again after what happens to files; other pictures are not taken for it."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from segcli.data.near_duplicates import groups, thumbnail


def photograph(seed, size=(120, 160)):
    """Smooth random colours, like a scene out of focus."""
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 256, (9, 12, 3)).astype(np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)


def jpeg(pixels):
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=30)
    return np.asarray(Image.open(data))


@pytest.mark.parametrize(
    "change",
    [
        jpeg,
        lambda p: cv2.resize(p, (70, 52), interpolation=cv2.INTER_AREA),
        lambda p: (p * 0.7).astype(np.uint8),
        lambda p: (p // 2 + 100).astype(np.uint8),
        lambda p: p[1:-1, 2:-2],
    ],
    ids=["re-encoded", "scaled", "darker", "paler", "cropped"],
)
def test_one_picture(change):
    assert groups([thumbnail(photograph(0)), thumbnail(photograph(1)), thumbnail(change(photograph(0)))]) == [[0, 2]]


def test_different_pictures():
    assert groups([thumbnail(photograph(i)) for i in range(60)]) == []
    assert groups([]) == []


def test_flat_pictures_show_nothing_that_could_be_alike():
    assert groups([thumbnail(np.full((30, 30, 3), value, np.uint8)) for value in (0, 0, 200)]) == []


def test_groups_are_transitive_and_in_order():
    """Frames of a slow pan: the first and the last differ, each looks like its neighbour."""
    wide = photograph(3, (120, 400))
    frames = [thumbnail(wide[:, x : x + 160]) for x in (200, 0, 4, 8, 12, 16, 20, 24)]
    assert frames[1] @ frames[7] < 0.9
    assert groups(frames) == [[1, 2, 3, 4, 5, 6, 7]]


def test_more_images_than_one_block(monkeypatch):
    monkeypatch.setattr("segcli.data.near_duplicates.BLOCK", 4)
    pictures = [thumbnail(photograph(i)) for i in range(10)]
    assert groups([*pictures, pictures[9], pictures[0]]) == [[0, 11], [9, 10]]
