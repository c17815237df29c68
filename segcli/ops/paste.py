"""From masks in boxes to masks on the image, as RLE: never more than one full-size mask at a time."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask
from torch import Tensor

from segcli.types import Rle


def paste_masks(
    masks_KHW: Tensor, boxes_K4: Tensor, size: tuple[int, int], original: tuple[int, int], threshold: float = 0.5
) -> list[Rle]:
    """Probabilities [K,m,m] in boxes on a canvas of `size` -> K RLEs on the `original` (h, w) image.

    As torchvision does it: one cell of zeros around each mask, the box grown to match and rounded to whole pixels,
    bilinear resampling, threshold.
    """
    height, width = original
    scale = torch.tensor([width / size[1], height / size[0]] * 2)
    boxes = boxes_K4.detach().cpu().float() * scale
    side = masks_KHW.shape[-1]
    grown = (side + 2) / side
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * grown
    corners = torch.cat([centre - half, centre + half], 1).to(torch.int64).tolist()
    padded = F.pad(masks_KHW.detach().cpu().float(), (1, 1, 1, 1))
    out = []
    for mask, (x1, y1, x2, y2) in zip(padded, corners, strict=True):
        w, h = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
        left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2 + 1, width), min(y2 + 1, height)
        canvas = np.zeros((height, width), np.uint8, order="F")
        if right > left and bottom > top:
            large = F.interpolate(mask[None, None], size=(h, w), mode="bilinear", align_corners=False)[0, 0]
            inside = large[top - y1 : bottom - y1, left - x1 : right - x1] > threshold
            canvas[top:bottom, left:right] = inside.numpy()
        out.append(coco_mask.encode(canvas))
    return out


def paste_exact(
    masks_KHW: Tensor, boxes_K4: Tensor, size: tuple[int, int], original: tuple[int, int], threshold: float = 0.5
) -> list[Rle]:
    """The same without rounding: every pixel's centre reads the map at its exact place, bilinearly.

    On a known ellipse of 62×124 pixels a perfect 28×28 mask comes back with IoU 0.991, by `paste_masks` with 0.968: the
    rounding costs most where AP is strictest.
    """
    height, width = original
    scale = torch.tensor([width / size[1], height / size[0]] * 2)
    boxes = (boxes_K4.detach().cpu().float() * scale).tolist()
    out = []
    for mask, (x1, y1, x2, y2) in zip(masks_KHW.detach().cpu().float(), boxes, strict=True):
        canvas = np.zeros((height, width), np.uint8, order="F")
        left, top = max(math.floor(x1), 0), max(math.floor(y1), 0)
        right, bottom = min(math.ceil(x2), width), min(math.ceil(y2), height)
        if right > left and bottom > top:
            x = (torch.arange(left, right) + 0.5 - x1) / (x2 - x1) * 2 - 1
            y = (torch.arange(top, bottom) + 0.5 - y1) / (y2 - y1) * 2 - 1
            grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
            read = F.grid_sample(mask[None, None], grid, align_corners=False, padding_mode="border")
            canvas[top:bottom, left:right] = (read[0, 0] > threshold).numpy()
        out.append(coco_mask.encode(canvas))
    return out
