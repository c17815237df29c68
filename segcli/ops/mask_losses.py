"""Focal and dice loss of mask logits that are upsampled to the labels' size, and cross-entropy of per-pixel logits,
in the memory of a few maps.

Written with autograd alone, every matched mask of every decoder layer leaves a dozen maps of the label's size behind
until the backward pass. Here each small group of masks goes forward and, in the same breath, backward: what remains is
one gradient at the size of the logits. The values are those of `ops.losses` behind `F.interpolate`.

M matched masks, N labelled masks, B images, C classes; h w size of the logits, H W size of the labels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

PIXELS = 2**19  # label pixels that are worked on at once: a few MB a map, near a CPU's cache


def mask_losses(
    logits_Mhw: Tensor, masks_NHW: Tensor, object_M: Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> tuple[Tensor, Tensor]:
    """(focal [M], the mean over pixels; dice [M] in 0..1) of each logit map, upsampled bilinearly to H × W.

    masks bool [N,H,W]; object_M says which of them each logit map is to be. M may be 0.
    """
    return _MaskLosses.apply(logits_Mhw, masks_NHW, object_M, alpha, gamma)


def pixel_cross_entropy(logits_BChw: Tensor, labels_BHW: Tensor, ignore: int) -> Tensor:
    """Cross-entropy summed over the pixels of each image whose label is not `ignore`, [B].

    Logits are upsampled bilinearly to H × W. labels int64 in 0..C-1 or `ignore`. An image of `ignore` alone gives 0.
    """
    return _PixelCrossEntropy.apply(logits_BChw, labels_BHW, ignore)


class _MaskLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits_Mhw: Tensor, masks_NHW: Tensor, object_M: Tensor, alpha: float, gamma: float
    ) -> tuple[Tensor, Tensor]:
        count, small, size = len(logits_Mhw), logits_Mhw.shape[1:], masks_NHW.shape[1:]
        focal_M, dice_M = logits_Mhw.new_empty(2, count, dtype=torch.float32)
        needs_gradient = ctx.needs_input_grad[0]
        gradients = logits_Mhw.new_empty(2, count if needs_gradient else 0, *small, dtype=torch.float32)
        step = max(1, PIXELS // max(1, size.numel()))
        for at in range(0, count, step):
            part = slice(at, at + step)
            masks = masks_NHW[object_M[part]]
            x = upsample(logits_Mhw[part].float(), size)
            focal_M[part], dice_M[part], slopes = _losses_and_slopes(x, masks, alpha, gamma, needs_gradient)
            for gradient, slope in zip(gradients, slopes, strict=False):
                gradient[part] = upsample_adjoint(slope, small)
        ctx.save_for_backward(*gradients)
        ctx.dtype = logits_Mhw.dtype
        return focal_M, dice_M

    @staticmethod
    def backward(ctx: Any, focal_M: Tensor, dice_M: Tensor) -> tuple[Tensor, None, None, None, None]:
        by_focal, by_dice = ctx.saved_tensors
        gradient = by_focal * focal_M[:, None, None] + by_dice * dice_M[:, None, None]
        return gradient.to(ctx.dtype), None, None, None, None


def _losses_and_slopes(
    x: Tensor, masks: Tensor, alpha: float, gamma: float, slopes: bool
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """focal [m] and dice [m] of logits x [m,H,W] against bool masks, and (with `slopes`) their derivatives by x."""
    area, pixels = masks.sum((1, 2)), masks[0].numel()
    signed = torch.where(masks, x, -x)  # the logit of the right answer
    surprise = F.softplus(-signed)  # -log of its probability
    right = signed.sigmoid()
    wrong = 1 - right
    balance = torch.where(masks, alpha / pixels, (1 - alpha) / pixels)
    weight = balance * (wrong.square() if gamma == 2 else wrong**gamma)
    focal = (weight * surprise).sum((1, 2))
    p = torch.where(masks, right, wrong)
    overlap = 2 * (right * masks).sum((1, 2)) + 1
    total = p.sum((1, 2)) + area + 1
    dice = 1 - overlap / total
    if not slopes:
        return focal, dice, ()
    by_focal = weight * (wrong + gamma * right * surprise)
    by_focal = torch.where(masks, -by_focal, by_focal)
    outside = (overlap / total.square())[:, None, None]
    by_p = torch.where(masks, outside - (2 / total)[:, None, None], outside)
    return focal, dice, (by_focal, by_p * (right * wrong))


class _PixelCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_BChw: Tensor, labels_BHW: Tensor, ignore: int) -> Tensor:
        small, size = logits_BChw.shape[2:], labels_BHW.shape[1:]
        sums = []
        gradient = torch.empty_like(logits_BChw) if ctx.needs_input_grad[0] else None
        for i, (logits, labels) in enumerate(zip(logits_BChw, labels_BHW, strict=True)):
            counts = labels != ignore
            index = torch.where(counts, labels, 0)[None]
            log_p = upsample(logits.float(), size).log_softmax(0)
            sums.append(-(log_p.gather(0, index)[0] * counts).sum())
            if gradient is not None:
                slope = log_p.exp_()
                slope.scatter_add_(0, index, -torch.ones_like(index, dtype=slope.dtype))
                gradient[i] = upsample_adjoint(slope.mul_(counts), small)
        ctx.save_for_backward(gradient)
        return torch.stack(sums)

    @staticmethod
    def backward(ctx: Any, sums_B: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * sums_B[:, None, None, None].to(gradient.dtype), None, None


def upsample(maps_Nhw: Tensor, size: torch.Size) -> Tensor:
    """[N,h,w] -> [N,H,W], bilinear, corners not aligned."""
    return F.interpolate(maps_Nhw[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def upsample_adjoint(slopes_NHW: Tensor, small: torch.Size) -> Tensor:
    """The derivative by `upsample`'s input [N,h,w], given the derivative by its output."""
    n, (height, width) = len(slopes_NHW), slopes_NHW.shape[1:]
    shape = [n, 1, *small]
    return torch.ops.aten.upsample_bilinear2d_backward(slopes_NHW[:, None], [height, width], shape, False)[:, 0]
