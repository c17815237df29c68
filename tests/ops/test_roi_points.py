import pytest
import torch
from torchvision.ops import roi_align, roi_pool

from segcli.models.rcnn.pooler import Pooler
from segcli.ops.roi_points import pool_bins, sampling_points

BOXES = [[3.2, 5.7, 61.9, 40.1], [10.0, 8.0, 13.0, 60.5], [-6.0, 20.0, 30.3, 90.0]]  # the last one leaves the map


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("box", BOXES)
def test_roi_align_reads_the_cells_around_the_points_and_no_others(box, aligned):
    """Where a cell changes, the output moves if a point lies less than a cell away from it, and only then."""
    height, width, stride, size = 12, 16, 8, 5
    box = torch.tensor(box)
    points = sampling_points(box, stride, size, 2, aligned).flatten(0, 1)
    features = torch.zeros(1, 1, height, width, requires_grad=True)
    for method in (Pooler(size, [stride], aligned=aligned), None):
        if method is None:
            out = roi_align(features, [box[None]], (size, size), 1 / stride, 2, aligned)
        else:
            out = method([features], [box[None]])
        read = torch.autograd.grad(out.sum(), features)[0][0, 0] > 0
        x, y = points.unbind(-1)
        inside = (x >= -1) & (x <= width) & (y >= -1) & (y <= height)
        x, y = x.clamp(0, width - 1)[inside], y.clamp(0, height - 1)[inside]
        near_x = (torch.arange(width)[None, :] - x[:, None]).abs() < 1
        near_y = (torch.arange(height)[None, :] - y[:, None]).abs() < 1
        assert torch.equal(read, (near_y[:, :, None] & near_x[:, None, :]).any(0))


def test_the_mean_of_what_the_points_read_is_the_output():
    features, box = torch.rand(1, 3, 12, 16), torch.tensor(BOXES[0])
    points = sampling_points(box, 8, 5, 2, True)
    grid = (points + 0.5) / torch.tensor([16, 12]) * 2 - 1
    read = torch.nn.functional.grid_sample(features, grid[None], align_corners=False, padding_mode="border")
    expected = roi_align(features, [box[None]], (5, 5), 1 / 8, 2, True)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(read, 2), expected)


@pytest.mark.parametrize("box", BOXES)
def test_roi_pool_takes_the_maximum_of_its_bins(box):
    features, box = torch.rand(1, 1, 12, 16), torch.tensor(box)
    bins = pool_bins(box, 8, 5, (12, 16))
    expected = roi_pool(features, [box[None]], (5, 5), 1 / 8)[0, 0]
    for row in range(5):
        for column in range(5):
            x1, y1, x2, y2 = bins[row, column].tolist()
            cells = features[0, 0, y1:y2, x1:x2]
            assert expected[row, column] == (cells.max() if cells.numel() else 0)
