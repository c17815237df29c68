"""Masks that were drawn on an image of another size lie where the image shows their object, to a tenth of a pixel."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from segcli.data.rescale_labels import refitted, stored


@pytest.mark.parametrize("factor", [0.37, 0.5, 0.8, 1.7, 3.0])
def test_a_scaled_mask_is_not_moved(factor):
    y, x = np.mgrid[:120, :200] + 0.5
    mask = ((x - 90) / 50) ** 2 + ((y - 61) / 34) ** 2 < 1
    size = (round(120 * factor), round(200 * factor))
    found = coco_mask.decode(refitted({"segmentation": stored(mask)}, size))
    across, down = (found.sum(0) * (np.arange(size[1]) + 0.5)).sum(), (found.sum(1) * (np.arange(size[0]) + 0.5)).sum()
    centre = np.array([across / size[1], down / size[0]]) / found.sum() * (200, 120)
    assert np.abs((centre - (90, 61)) * factor).max() < 0.1
    assert found.sum() / factor**2 == pytest.approx(mask.sum(), rel=0.01)
