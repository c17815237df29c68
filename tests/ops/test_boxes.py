"""Box arithmetic against torchvision and against hand-made cases."""

import torch
import torchvision.ops as tv

from segcli.ops import boxes
from segcli.types import mask_boxes


def random_boxes(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * 80
    return torch.cat([corner, corner + torch.rand(n, 2, generator=generator) * 40 + 0.5], 1)


def test_conversions_are_inverse_and_mean_what_they_say():
    one = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    assert boxes.to_cxcywh(one).tolist() == [[20, 40, 20, 40]]
    many = random_boxes(50, 0)
    torch.testing.assert_close(boxes.to_xyxy(boxes.to_cxcywh(many)), many)


def test_iou_and_giou_tables_equal_torchvision():
    a, b = random_boxes(30, 1), random_boxes(20, 2)
    torch.testing.assert_close(boxes.iou(a[:, None], b), tv.box_iou(a, b))
    torch.testing.assert_close(boxes.giou(a[:, None], b), tv.generalized_box_iou(a, b))
    torch.testing.assert_close(boxes.giou(a[:20], b), tv.generalized_box_iou(a[:20], b).diagonal())


def test_boxes_without_area_give_finite_values_and_gradients():
    point = torch.tensor([[5.0, 5.0, 5.0, 5.0]], requires_grad=True)
    value = boxes.giou(point, point)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(point.grad).all()
    assert boxes.iou(point, torch.tensor([[5.0, 5.0, 9.0, 9.0]])).item() == 0


def test_clamp_uses_height_for_y_and_width_for_x():
    assert boxes.clamp(torch.tensor([[-5.0, -5.0, 500.0, 500.0]]), (100, 200)).tolist() == [[0, 0, 200, 100]]


def test_boxes_of_masks_reach_the_border_and_are_zero_for_empty_masks():
    masks = torch.zeros(4, 7, 9, dtype=torch.bool)
    masks[0, 2:5, 3:9] = True
    masks[1, 6, 0] = masks[1, 1, 4] = True
    masks[3] = True
    found = boxes.from_masks(masks)
    assert found.tolist() == [[3, 2, 9, 5], [0, 1, 5, 7], [0, 0, 0, 0], [0, 0, 9, 7]]
    assert found.numpy().tolist() == mask_boxes(masks.numpy()).tolist()
    assert boxes.from_masks(masks[:0]).shape == (0, 4)
