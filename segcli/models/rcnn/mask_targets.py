"""Mask targets: ground-truth masks cropped to proposals."""

import torch
from torch import Tensor
from torchvision.ops import roi_align

from segcli.models.interface import Samples


def crop_targets(samples: Samples, size: int, aligned: bool = False) -> Tensor:
    """The ground-truth mask of every sample, cropped to the sample's box and resampled: [K, size, size] in 0..1.

    aligned=False, torchvision's way, samples half a pixel too far to the right and below.
    """
    out = []
    for boxes, matched, target in zip(samples.boxes, samples.matched, samples.targets, strict=True):
        masks = target.instances.masks
        if not len(boxes):
            continue
        assert isinstance(masks, Tensor), "training masks are dense"
        used, index = matched.unique(return_inverse=True)
        rois = torch.cat([index[:, None].to(boxes), boxes], 1)
        out.append(roi_align(masks[used][:, None].to(boxes), rois, (size, size), 1.0, aligned=aligned)[:, 0])
    return torch.cat(out) if out else torch.zeros(0, size, size)
