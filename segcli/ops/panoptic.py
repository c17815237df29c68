"""MaskFormer's panoptic rule (Cheng et al., 2021, section 3.4): each pixel belongs to one query, some queries drop out.

Q queries, C classes (without "no object"); h w size of the mask logits, H W size of the original image.
"""

import numpy as np
import torch
from torch import Tensor

from segcli.ops.mask_inference import Enlarge
from segcli.types import Panoptic, Segment


def panoptic(
    class_logits_QC1: Tensor,
    mask_logits_Qhw: Tensor,
    enlarge: Enlarge,
    *,
    num_things: int,
    score: float = 0.8,
    overlap: float = 0.8,
    within: bool = False,
) -> Panoptic:
    """ids [H,W] int32 (0 = void) and their segments, numbered from 1.

    Queries whose best class is an object with a probability above `score` compete for pixels by probability × mask.
    A query that keeps less than `overlap` of the pixels on which its own mask is at least one half is dropped, and its
    pixels become void. Queries of one stuff class (labels from `num_things` on) make one segment. within: pixels that a
    query wins where its own mask is below one half become void, too (Mask2Former's and EoMT's rule).
    """
    p, label = class_logits_QC1.float().softmax(-1).max(-1)
    keep = (label != class_logits_QC1.shape[-1] - 1) & (p > score)
    masks_Khw = mask_logits_Qhw[keep].float()
    return panoptic_of(p[keep], label[keep], masks_Khw, enlarge, num_things, overlap, within=within)


def panoptic_of(
    p_K: Tensor,
    label_K: Tensor,
    mask_logits_Khw: Tensor,
    enlarge: Enlarge,
    num_things: int,
    overlap: float,
    *,
    within: bool = False,
) -> Panoptic:
    """The rule for the queries that take part: their scores, labels and mask logits."""
    p = p_K
    owner_HW, own_HW, area = _compete(mask_logits_Khw, p, enlarge)
    won = left = _pixels(owner_HW, len(p))
    if within:
        owner_HW = torch.where(own_HW, owner_HW, -1)
        left = _pixels(owner_HW, len(p))
    id_of = np.zeros(len(p) + 1, np.int32)  # by owner; the last entry is for owner -1
    segments: list[Segment] = []
    stuff: dict[int, int] = {}
    for k, (pixels, shown, own, name) in enumerate(zip(won, left, area.tolist(), label_K.tolist(), strict=True)):
        if not shown or not own or pixels / own < overlap:
            continue
        if name in stuff:
            id_of[k] = stuff[name]
            continue
        id_of[k] = len(segments) + 1
        segments.append(Segment(int(id_of[k]), name, float(p[k])))
        if name >= num_things:
            stuff[name] = int(id_of[k])
    return Panoptic(id_of[owner_HW.cpu().numpy()], segments)


def _pixels(owner_HW: Tensor, queries: int) -> list[int]:
    """How many pixels each query has."""
    return torch.bincount(owner_HW.flatten() + 1, minlength=queries + 1)[1:].tolist()


def _compete(mask_logits_Khw: Tensor, p_K: Tensor, enlarge: Enlarge) -> tuple[Tensor, Tensor, Tensor]:
    """owner [H,W] int64, the query with the largest p × mask (-1 without queries); own [H,W] bool, whether that query's
    mask is ≥ 0.5 there; area [K] of each mask ≥ 0.5."""
    best_HW = mask_logits_Khw.new_full(enlarge.original, -1.0)
    owner_HW = torch.full(enlarge.original, -1, device=best_HW.device)
    own_HW = torch.zeros_like(owner_HW, dtype=torch.bool)
    areas = [owner_HW.new_zeros(0)]
    for part in enlarge.chunks(len(p_K)):
        masks = enlarge(mask_logits_Khw[part]).sigmoid_()
        inside = masks >= 0.5
        areas.append(inside.sum((1, 2)))
        value, index = masks.mul_(p_K[part, None, None]).max(0)
        better = value > best_HW
        best_HW = torch.where(better, value, best_HW)
        owner_HW = torch.where(better, index + part.start, owner_HW)
        own_HW = torch.where(better, inside.gather(0, index[None])[0], own_HW)
    return owner_HW, own_HW, torch.cat(areas)
