"""Which objects a model can be trusted with, by their size in its input."""

import math

import pytest

from segcli.data.dataset import Dataset
from segcli.engine.object_size import enlargement, extents, too_large
from segcli.ops.preprocess import Preprocess


def test_sizes_of_a_dataset(tiny_dataset):
    data = Dataset(tiny_dataset, "train")
    areas = sorted(
        annotation["area"] ** 0.5
        for i in range(len(data))
        for annotation in data.annotations(i)
        if annotation["area"] > 0 and not annotation.get("iscrowd")
    )
    same, twice = Preprocess(None, max(data.sizes[0]), "opencv"), Preprocess(None, 2 * max(data.sizes[0]), "opencv")
    median, largest = extents(data, same)
    assert areas[0] < median < largest <= areas[-1] + 0.05
    assert abs(extents(data, twice)[1] - 2 * largest) <= 0.2, "in pixels of the model's input"
    assert extents(data, twice)[0] == median, "in pixels of the images"


def test_the_whole_view_has_what_looks_larger_in_tiles_than_in_training_and_is_not_too_small_in_it():
    tile, whole = enlargement((1024, 1024), (320, 320)), enlargement((2000, 2000), (320, 320))
    assert too_large(100.0, tile, whole) == pytest.approx(320)
    assert too_large(100.0, tile, enlargement((20000, 20000), (320, 320))) == pytest.approx(2000), (
        "32 pixels are left there"
    )
    assert too_large(None, tile, whole) == math.inf
