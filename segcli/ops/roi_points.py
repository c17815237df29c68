"""Where RoIAlign and RoIPool read a feature map, to be drawn: the positions that torchvision.ops computes inside."""

import torch
from torch import Tensor


def sampling_points(box_4: Tensor, stride: float, size: int, sampling: int, aligned: bool) -> Tensor:
    """[size·sampling, size·sampling, 2]: (x, y) of the points, in rows, in cells of the map (0 = the middle of the
    first).

    RoIAlign (He et al., 2017, section 3) divides the box into size² bins, reads `sampling`² points of each bilinearly
    and averages them. box: xyxy on the canvas; aligned: see `ops.cpu.roi_align`.
    """
    shift = 0.5 if aligned else 0.0
    low, high = box_4[:2] / stride - shift, box_4[2:] / stride - shift
    extent = high - low if aligned else (high - low).clamp(min=1.0)
    steps = (torch.arange(size * sampling, device=box_4.device) + 0.5) / (size * sampling)
    x, y = (low[k] + extent[k] * steps for k in (0, 1))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def pool_bins(box_4: Tensor, stride: float, size: int, cells: tuple[int, int]) -> Tensor:
    """[size, size, 4] int64: RoIPool's bins (Girshick, 2015), in rows: x1, y1, x2, y2 in whole cells, half-open.

    The box is rounded to cells first, then the borders of each bin outwards; neighbouring bins may share cells. cells:
    (height, width) of the map, within which bins are cut.
    """
    rounded = torch.floor(box_4 / stride + 0.5)  # C's round: half a cell goes up
    sides = (rounded[2:] - rounded[:2] + 1).clamp(min=1.0)
    step = torch.arange(size, device=box_4.device)
    low, high = (
        torch.stack([(rounded[k] + f(step, sides[k] / size)).clamp(0, cells[1 - k]) for k in (0, 1)])
        for f in (lambda n, width: torch.floor(n * width), lambda n, width: torch.ceil((n + 1) * width))
    )
    x1, y1 = torch.meshgrid(low[0], low[1], indexing="xy")
    x2, y2 = torch.meshgrid(high[0], high[1], indexing="xy")
    return torch.stack([x1, y1, x2, y2], -1).long()
