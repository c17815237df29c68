"""Stuff beside box queries: a mask embedding for each stuff class, whose product with the pixels' is that class's map.

Sky has no box of use, and at most one segment: learned kernels (Zhang et al., "K-Net", 2021) find it
without a query. One more of them stands for "other", any thing, so that the maps are learned and read as one softmax,
as in the semantic branch of Kirillov et al. ("Panoptic Feature Pyramid Networks", 2019).

Legend: B images, S stuff classes, S1 these and "other", E width of the embeddings; h w size of the maps, H W of the
canvas.
"""

import torch
from torch import Tensor, nn

from segcli.models.maskformer.masked_decoder import SPREAD
from segcli.ops.mask_losses import pixel_cross_entropy
from segcli.ops.segments import label_maps
from segcli.types import Target


class StuffKernels(nn.Module):
    """things: how many labels come before the first one of stuff."""

    def __init__(self, things: int, stuff: int, width: int):
        super().__init__()
        self.things, self.stuff = things, stuff
        self.kernels = nn.Conv2d(width, stuff + 1, 1)
        nn.init.normal_(self.kernels.weight, std=SPREAD)

    def forward(self, pixels_BEhw: Tensor) -> Tensor:
        """Logits [B,S+1,h,w], the last one "other"."""
        return self.kernels(pixels_BEhw)

    def loss(
        self, logits_BS1hw: Tensor, targets: list[Target], canvas: tuple[int, int], images: float | None = None
    ) -> Tensor:
        """Cross-entropy of logits [B,S+1,h,w], enlarged to the canvas: the mean over an image's labelled pixels and
        then over images; an image without any counts 0. images: how many there are, as a mean over the parts of a step.

        Raises DataError naming an image without a label map.
        """
        labels_BHW = label_maps(targets, canvas, "panoptic")
        ignore = targets[0].ignore  # no image has labels of another dataset
        thing, unknown = labels_BHW < self.things, labels_BHW == ignore
        labels_BHW = (labels_BHW - self.things).masked_fill(thing, self.stuff).masked_fill(unknown, ignore)
        sums_B = pixel_cross_entropy(logits_BS1hw, labels_BHW, ignore)
        return (sums_B / (~unknown).sum((1, 2)).clamp(min=1)).sum() / (images or len(targets))

    def read(self, logits_S1hw: Tensor, content: tuple[int | Tensor, int | Tensor]) -> tuple[Tensor, Tensor]:
        """One image's logits [S+1,h,w] -> (scores [S]: the mean probability of the cells where it is at least one half,
        0 where it is so nowhere; mask logits [S,h,w]). content: rows and columns that show the image, not padding."""
        p_Shw = logits_S1hw.float().softmax(0)[:-1]
        sides = zip(p_Shw.shape[1:], content, strict=True)
        rows_h, columns_w = (torch.arange(n, device=p_Shw.device) < shown for n, shown in sides)
        inside = (p_Shw >= 0.5) & rows_h[:, None] & columns_w
        score_S = (p_Shw * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
        return score_S, torch.logit(p_Shw, eps=1e-6)
