"""RoIAlign by weighted rows gives torchvision's values and gradients, at borders and outside the map too."""

import pytest
import torch
from torchvision.ops import roi_align

from segcli.ops.cpu.roi_align import roi_align_rows


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("size", [1, 7, 14])
def test_values_and_gradients(aligned, size):
    torch.manual_seed(size)
    feature = torch.randn(3, 5, 23, 31, requires_grad=True)
    corners = torch.rand(20, 2) * torch.tensor([260.0, 190.0]) - 10
    boxes = torch.cat([corners, corners + torch.rand(20, 2) * 120 + 0.01], 1)
    lists = [boxes[:12], boxes[:0], boxes[12:]]
    ours = roi_align_rows(feature, lists, size, 1 / 8, 2, aligned)
    weight = torch.randn_like(ours)
    (gradient,) = torch.autograd.grad((ours * weight).sum(), feature)
    theirs = roi_align(feature, lists, (size, size), 1 / 8, 2, aligned)
    (expected,) = torch.autograd.grad((theirs * weight).sum(), feature)
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert torch.allclose(gradient, expected, atol=1e-5)


def test_no_box_at_all_stays_connected():
    feature = torch.randn(2, 5, 8, 8, requires_grad=True)
    out = roi_align_rows(feature, [torch.zeros(0, 4)] * 2, 7, 1 / 8, 2, False)
    assert out.shape == (0, 5, 7, 7)
    out.sum().backward()
    assert torch.equal(feature.grad, torch.zeros_like(feature))
