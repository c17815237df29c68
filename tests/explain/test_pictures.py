"""Numbers become pictures, of boxes and maps of any size."""

import numpy as np
import pytest
import torch

from segcli.explain.pictures import feature_colours, fitted, lay
from segcli.explain.view import Picture, Shown

WHITE = np.full((3, 3, 3), 255, np.uint8)


@pytest.mark.parametrize(
    ("box", "pixels"),
    [((4.3, 4.2, 4.4, 4.4), 1), ((2, 2, 5, 6), 12), ((-2, 8, 3, 14), 6), ((12, 0, 14, 5), 0), ((-9, -9, -5, -5), 0)],
)
def test_a_map_is_laid_over_what_the_picture_has_of_its_box(box, pixels):
    picture = np.zeros((10, 10, 3), np.uint8)
    lay(picture, np.array(box, np.float64), WHITE, 1.0)
    assert (picture == 255).all(2).sum() == pixels
    assert (picture > 0).all(2).sum() == pixels


def test_each_cell_can_have_a_share_of_its_own():
    picture = np.full((1, 2, 3), 100, np.uint8)
    lay(picture, np.array([0.0, 0, 2, 1]), np.full((1, 2, 3), 200, np.uint8), np.array([[0.0, 0.5]]))
    assert picture[0, :, 0].tolist() == [100, 150]


def test_colours_are_the_main_directions():
    torch.manual_seed(0)
    strength = torch.tensor([9.0, 6, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    rotation = torch.linalg.qr(torch.randn(12, 12)).Q
    rows = torch.randn(40 * 50, 12) * strength @ rotation.T
    _, (_, found) = feature_colours(rows.T.unflatten(1, (40, 50)))
    expected = torch.linalg.svd(rows - rows.mean(0)).Vh[:3].T
    torch.testing.assert_close((found.T @ expected).abs(), torch.eye(3), atol=0.02, rtol=0)


def test_strips_are_larger_and_lie_one_below_the_other():
    strip, factor = fitted(np.zeros((20, 400, 3), np.uint8))
    assert strip.shape == (78, 1568, 3)
    assert factor == pytest.approx(3.92)
    assert fitted(np.zeros((300, 400, 3), np.uint8))[0].shape == (420, 560, 3)
    assert Shown([Picture(strip, "")] * 2, columns=4).in_a_row() == 1
    assert Shown([Picture(strip, ""), Picture(np.zeros((9, 9, 3), np.uint8), "")], columns=4).in_a_row() == 4
    assert Shown(facts=["nothing"]).in_a_row() == 3
