"""Two predictions of one image held against each other."""

import numpy as np
import pytest

from segcli.core.errors import ModelError
from segcli.export.agreement import Comparison, require
from segcli.types import Prediction

MAP = np.array([[0, 1], [1, 0]], np.uint8)


def compared(one, other):
    comparison = Comparison()
    comparison.add(one, other)
    return comparison.result()


def test_equal_label_maps_agree():
    found = compared(Prediction(0, (2, 2), semantic=MAP), Prediction(0, (2, 2), semantic=MAP.copy()))
    assert (found.labels, found.problems()) == (1.0, [])


def test_an_output_that_the_file_lacks_is_no_agreement():
    found = compared(Prediction(0, (2, 2), semantic=MAP), Prediction(0, (2, 2)))
    with pytest.raises(ModelError, match="one of them alone gives semantic"):
        require(found, "model.xml")
