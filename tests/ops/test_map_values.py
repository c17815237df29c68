"""Values of maps, found by runs of equal pixels, are those that sorting all pixels finds."""

import numpy as np
import pytest

from segcli.ops.map_values import COUNTED, distinct, ranked


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.int64, bool])
@pytest.mark.parametrize("top", [2, 200, COUNTED + 5, 2**15])
@pytest.mark.parametrize("wide", [1, 9])
def test_runs_say_what_sorting_says(kind, top, wide):
    values = np.random.default_rng(top).integers(0, top, (13, 7)).astype(kind).repeat(wide, 1)
    for array in (values, values[::-1, 1:-1], values.astype(np.int64) - 3, values.astype(np.int64) * 2**30):
        present, places, pixels = np.unique(array, return_inverse=True, return_counts=True)
        found = ranked(array)
        assert [part.tolist() for part in found] == [
            present.tolist(),
            pixels.tolist(),
            places.reshape(array.shape).tolist(),
        ]
        assert distinct(array).tolist() == present.tolist()


def test_nothing_has_no_values():
    assert distinct(np.zeros((0, 4), np.int32)).tolist() == []
