"""Boxes as tensors: conversions, intersection over union and its generalisation. The last axis is always 4."""

import torch
from torch import Tensor


def to_cxcywh(boxes: Tensor) -> Tensor:
    """xyxy [...,4] -> centre x, centre y, width, height [...,4], in the same units."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], -1)


def to_xyxy(boxes: Tensor) -> Tensor:
    """Centre x, centre y, width, height [...,4] -> xyxy [...,4], in the same units."""
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], -1)


def area(boxes: Tensor) -> Tensor:
    """xyxy [...,4] -> [...]; 0 for boxes that are turned inside out."""
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(min=0)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union in 0..1 of xyxy boxes whose leading axes broadcast.

    [N,4] with [N,4] gives [N]; a[:, None] with b[None] gives the N × M table. Two boxes without area have 0.
    """
    return _iou_and_union(a, b)[0]


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU in -1..1 (Rezatofighi et al. 2019) of xyxy boxes whose leading axes broadcast, as `iou` does.

    The share of the smallest enclosing box that neither box covers is subtracted, so far-apart boxes have a gradient.
    """
    iou, union = _iou_and_union(a, b)
    sides = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    hull = sides.clamp(min=0).prod(-1)
    return iou - (hull - union) / hull.clamp(min=_TINY)


def clamp(boxes: Tensor, size: tuple[int | Tensor, int | Tensor]) -> Tensor:
    """xyxy pixels [...,4], moved inside an image of `size` (h, w), numbers or scalars."""
    high = torch.stack([torch.as_tensor(side, device=boxes.device) for side in (size[1], size[0])] * 2)
    return torch.minimum(boxes.clamp(min=0), high.to(boxes.dtype))


def from_masks(masks_NHW: Tensor) -> Tensor:
    """Tight half-open xyxy boxes [N,4] float32 of bool masks [N,H,W]; all zero for an empty mask. No host transfer."""
    sides = []
    for axis in (1, 2):
        line = masks_NHW.any(axis).float()  # over the rows first: which columns hold the mask
        first, length = line.argmax(1), line.shape[1]
        end = length - line.flip(1).argmax(1)
        sides.append(torch.stack([first, end]) * line.any(1))
    (x1, x2), (y1, y2) = sides
    return torch.stack([x1, y1, x2, y2], 1).float()


_TINY = 1e-12  # 0/0 becomes 0; no visible box has so small an area, in pixels or as a share of the image


def _iou_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    sides = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    common = sides.clamp(min=0).prod(-1)
    union = area(a) + area(b) - common
    return common / union.clamp(min=_TINY), union
