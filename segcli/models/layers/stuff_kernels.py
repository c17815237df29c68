"""Stuff beside box queries: a mask embedding for each stuff class, whose product with the pixels' is that class's map.

Sky has no box that says anything, and at most one segment: K-Net's kernels (Zhang et al., 2021) find it without a
query, as Panoptic FCN (Li et al., "Fully Convolutional Networks for Panoptic Segmentation", 2021) does beside its
things. One more kernel stands for "a thing is here", so that the maps are learned and read as one softmax.

Legend: B images, S stuff classes, E width of the embeddings; h w size of the maps, H W of the canvas.
"""

import torch
from torch import Tensor, nn

from segcli.models.layers.masked_decoder import SPREAD
from segcli.ops.mask_losses import pixel_cross_entropy
from segcli.ops.segments import label_maps
from segcli.types import IGNORE, Target


class StuffKernels(nn.Module):
    """things: how many labels come before the first one of stuff."""

    def __init__(self, things: int, stuff: int, width: int):
        super().__init__()
        self.things, self.stuff = things, stuff
        self.kernels = nn.Conv2d(width, stuff + 1, 1)
        nn.init.normal_(self.kernels.weight, std=SPREAD)

    def forward(self, pixels_BEhw: Tensor) -> Tensor:
        """Logits [B,S+1,h,w], the last one "a thing"."""
        return self.kernels(pixels_BEhw)

    def loss(self, logits_BShw: Tensor, targets: list[Target], canvas: tuple[int, int]) -> Tensor:
        """Cross-entropy, the mean over an image's labelled pixels and then over images; an image without any counts 0.

        Raises DataError naming an image without a label map.
        """
        labels_BHW = label_maps(targets, canvas, "panoptic")
        thing, unknown = labels_BHW < self.things, labels_BHW == IGNORE
        labels_BHW = (labels_BHW - self.things).masked_fill(thing, self.stuff).masked_fill(unknown, IGNORE)
        sums_B = pixel_cross_entropy(logits_BShw, labels_BHW, IGNORE)
        return (sums_B / (~unknown).sum((1, 2)).clamp(min=1)).mean()

    def read(self, logits_Shw: Tensor) -> tuple[Tensor, Tensor]:
        """One image's (scores [S]: the mean probability where it is at least one half, 0 where it is so nowhere; mask
        logits [S,h,w])."""
        p_Shw = logits_Shw.float().softmax(0)[:-1]
        inside = p_Shw >= 0.5
        score_S = (p_Shw * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
        return score_S, torch.logit(p_Shw, eps=1e-6)
