"""RoIAlign as two matrix products, for training on a CPU.

torchvision's RoIAlign scatters its gradient one sample at a time on one thread: in the lite models that was 38 % of a
training step. Bilinear sampling is separable, out = Y · F · Xᵀ with one row of weights per output cell, so both
directions are matrix products on all threads. The work grows with the whole map, not with the region: for small maps.
"""

import torch
from torch import Tensor

LARGEST = 10_000  # cells of a map; beyond that the products cost more than the scattering


def roi_align_products(
    feature_BCHW: Tensor, boxes: list[Tensor], size: int, scale: float, sampling: int, aligned: bool
) -> Tensor:
    """boxes: B tensors [n,4] xyxy on the canvas, `scale` cells to a pixel -> [Σn, C, size, size].

    The numbers are torchvision.ops.roi_align's (He et al., 2017): `sampling`² points a cell, averaged; `aligned` moves
    boxes by half a cell; points more than a cell outside the map read zero.
    """
    c, h, w = feature_BCHW.shape[1:]
    out = []
    for feature_CHW, box in zip(feature_BCHW, boxes, strict=True):
        n = len(box)
        if not n:
            continue
        x_nPW = _weights(box[:, 0], box[:, 2], w, size, scale, sampling, aligned)
        y_nPH = _weights(box[:, 1], box[:, 3], h, size, scale, sampling, aligned)
        columns = feature_CHW.reshape(c * h, w) @ x_nPW.reshape(n * size, w).T  # [C·H, n·P]
        columns = columns.view(c, h, n, size).permute(2, 1, 0, 3).reshape(n, h, c * size)
        out.append(torch.bmm(y_nPH, columns).view(n, size, c, size).transpose(1, 2))
    return torch.cat(out) if out else feature_BCHW.new_zeros(0, c, size, size) + feature_BCHW.sum() * 0


@torch.no_grad()
def _weights(
    low_n: Tensor, high_n: Tensor, length: int, size: int, scale: float, sampling: int, aligned: bool
) -> Tensor:
    """How much each of `length` cells counts in each of `size` bins of a region's side: [n, size, length]."""
    start = low_n * scale - (0.5 if aligned else 0.0)
    extent = (high_n - low_n) * scale
    if not aligned:
        extent = extent.clamp(min=1.0)
    step = torch.arange(size * sampling, device=low_n.device) + 0.5
    at = start[:, None] + step * (extent / (size * sampling))[:, None]
    inside = (at >= -1) & (at <= length)
    at = at.clamp(0, length - 1)
    first = at.floor().long()
    rest = at - first
    rows = torch.zeros(*at.shape, length, device=low_n.device, dtype=low_n.dtype)
    rows.scatter_(2, first[..., None], ((1 - rest) * inside)[..., None])
    rows.scatter_add_(2, (first + 1).clamp(max=length - 1)[..., None], (rest * inside)[..., None])
    return rows.view(len(low_n), size, sampling, length).mean(2)
