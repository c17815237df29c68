"""Pooling of regions: RoIPool and RoIAlign by hand, against torchvision, and the choice of the pyramid level."""

import math

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign, roi_pool

from segcli.models.rcnn.pooler import Pooler

STRIDES = [4, 8, 16, 32]


def ramp(height: int, width: int) -> torch.Tensor:
    """[1,2,H,W]: the column index, then the row index."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y])[None].float()


def test_roi_align_averages_exact_positions_and_roi_pool_takes_the_largest_whole_cell():
    """A box from 8.4 to 24.4 on a stride-4 ramp spans the cells 2.1 to 6.1; pixel centres lie half a cell further."""
    features, boxes = [ramp(12, 12)], [torch.tensor([[8.4, 8.4, 24.4, 24.4]])]
    align = Pooler(2, [4], method="roi_align")(features, boxes)
    assert align[0, 0, 0].tolist() == pytest.approx([3.1, 5.1])  # the middles of 2.1..4.1 and 4.1..6.1
    assert align[0, 1, :, 0].tolist() == pytest.approx([3.1, 5.1])
    pool = Pooler(2, [4], method="roi_pool")(features, boxes)
    assert pool[0, 0, 0].tolist() == [4.0, 6.0]  # rounded to 2..6; the halves overlap in cell 4


@pytest.mark.parametrize("method", ["roi_align", "roi_pool"])
def test_a_fixed_number_of_regions_is_pooled_from_every_level_also_where_nothing_is_computed(method):
    features = [torch.rand(1, 3, 64 // s, 96 // s) for s in STRIDES]
    pooler = Pooler(7, STRIDES, method=method)
    found = pooler.fixed(features, 10)
    assert found.shape == (10, 3, 7, 7)
    box = torch.tensor([[0.0, 0.0, 24.0, 16.0]])  # a quarter of 96 and of 64
    for row, (feature, stride) in zip((0, 2, 4, 7), zip(features, STRIDES, strict=True), strict=True):
        torch.testing.assert_close(found[row], Pooler(7, [stride], method=method)([feature], [box])[0])
    assert pooler.fixed([f.to("meta") for f in features], 10).shape == (10, 3, 7, 7)


def test_roi_pool_equals_its_definition():
    """Girshick, 2015: borders rounded to whole cells, bins from floor to ceil, their maximum; empty bins are 0."""
    generator = torch.Generator().manual_seed(0)
    feature = torch.randn(2, 3, 20, 24, generator=generator)
    corners = torch.rand(2, 8, 2, generator=generator) * 120 - 8  # some boxes stick out
    boxes = [torch.cat([c, c + torch.rand(8, 2, generator=generator) * 60], 1) for c in corners]
    found = Pooler(7, [4], method="roi_pool")([feature], boxes)
    expected = torch.stack([pooled_by_hand(feature[i], box, 7) for i in range(2) for box in boxes[i]])
    assert torch.equal(found, expected)


def pooled_by_hand(feature: torch.Tensor, box: torch.Tensor, size: int) -> torch.Tensor:
    left, top, right, bottom = (math.floor(v / 4 + 0.5) for v in box.tolist())
    width, height = max(right - left + 1, 1), max(bottom - top + 1, 1)
    out = torch.zeros(len(feature), size, size)
    for i in range(size):
        for j in range(size):
            y1, y2 = top + math.floor(i * height / size), top + math.ceil((i + 1) * height / size)
            x1, x2 = left + math.floor(j * width / size), left + math.ceil((j + 1) * width / size)
            part = feature[:, max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
            if part.numel():
                out[:, i, j] = part.amax((1, 2))
    return out


def test_boxes_are_pooled_from_the_level_that_fits_their_size():
    sides = torch.tensor([10.0, 111.0, 112.0, 223.0, 224.0, 447.0, 448.0, 5000.0])
    boxes = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], 1)
    assert Pooler(7, STRIDES).levels(boxes).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def pyramid_and_boxes() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    features = [torch.randn(2, 5, 256 // s, 320 // s, generator=generator) for s in STRIDES]
    corners = torch.rand(2, 40, 2, generator=generator) * 150
    side = torch.logspace(0.7, 2.8, 40)[None, :, None] * (0.8 + 0.4 * torch.rand(2, 40, 2, generator=generator))
    return features, list(torch.cat([corners, corners + side], 2))


def test_roi_align_on_a_pyramid_equals_torchvision():
    features, boxes = pyramid_and_boxes()
    reference = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    expected = reference(dict(zip("0123", features, strict=True)), boxes, [(256, 320)] * 2)
    assert torch.allclose(Pooler(7, STRIDES)(features, boxes), expected, atol=1e-6)


def test_roi_pool_on_a_pyramid_equals_torchvision_level_by_level():
    features, boxes = pyramid_and_boxes()
    pooler = Pooler(7, STRIDES, method="roi_pool")
    found, levels = pooler(features, boxes), pooler.levels(torch.cat(boxes))
    assert set(levels.tolist()) == {0, 1, 2, 3}
    for i, stride in enumerate(STRIDES):
        expected = roi_pool(features[i], boxes, 7, 1 / stride)
        assert torch.equal(found[levels == i], expected[levels == i])


def test_no_boxes():
    features, _ = pyramid_and_boxes()
    assert Pooler(7, STRIDES)(features, [torch.zeros(0, 4)] * 2).shape == (0, 5, 7, 7)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="roi_align, roi_pool"):
        Pooler(7, STRIDES, method="roi_warp")
