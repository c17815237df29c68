"""Masks and maps on the original pixels as tensors alone, for exported graphs: what mask_inference.py, panoptic.py and
paste.py compute image by image and part by part, in one piece and without a branch on a value.

N maps of any kind, Q queries, C classes (without "no object"); h w the maps' size, H W the original image.
"""

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.ops.boxes import from_masks
from segcli.ops.preprocess_graph import Framed, linear_places


def enlarge(maps_Nhw: Tensor, framed: Framed, *, direct: bool = False) -> Tensor:
    """`mask_inference.Enlarge`: [N,h,w] -> [N,H,W]. direct: one bilinear step instead of two."""
    canvas = framed.image.shape[2:]
    if not direct:
        return to_original(F.interpolate(maps_Nhw[None], size=canvas, mode="bilinear", align_corners=False)[0], framed)
    places = []
    for axis in (0, 1):
        cells = maps_Nhw.shape[1 + axis]
        shown = framed.content[axis] * cells / canvas[axis]  # not a whole number: a map's cells may lie half in padding
        at = torch.arange(framed.size[axis], device=maps_Nhw.device, dtype=torch.float64)
        places.append(((at + 0.5) * (shown / framed.original[axis]) - 0.5).clamp(0, cells - 1))
    return read(maps_Nhw, *places)


def to_original(canvas_Nhw: Tensor, framed: Framed) -> Tensor:
    """[N,*canvas] -> [N,H,W], from the content alone."""
    return read(
        canvas_Nhw, *(linear_places(*of) for of in zip(framed.size, framed.original, framed.content, strict=True))
    )


def read(maps_Nhw: Tensor, rows_H: Tensor, columns_W: Tensor) -> Tensor:
    """Bilinear readings [N,H,W] at every pair of a row and a column, both in cells and inside the map."""
    return _between(_between(maps_Nhw, rows_H, 1), columns_W, 2)


def _between(maps_Nhw: Tensor, places: Tensor, axis: int) -> Tensor:
    first = places.floor()
    rest = (places - first).float()
    rest = rest[:, None] if axis == 1 else rest
    low = first.long()
    high = torch.minimum(low + 1, torch.full_like(low, maps_Nhw.shape[axis] - 1))
    return maps_Nhw.index_select(axis, low) * (1 - rest) + maps_Nhw.index_select(axis, high) * rest


def semantic(p_QC: Tensor, mask_logits_Qhw: Tensor, framed: Framed, *, direct: bool = False) -> Tensor:
    """`mask_inference.semantic_of`: labels [H,W] int32."""
    masks = mask_logits_Qhw.float()
    if not direct:
        canvas = framed.image.shape[2:]
        masks = F.interpolate(masks[None], size=canvas, mode="bilinear", align_corners=False)[0]
    masks = masks.sigmoid()
    scores_Chw = (p_QC.T @ masks.flatten(1)).unflatten(1, masks.shape[1:])
    return largest(enlarge(scores_Chw, framed, direct=True) if direct else to_original(scores_Chw, framed))


def largest(scores_CHW: Tensor) -> Tensor:
    """The class with the largest score, [H,W] int32."""
    return scores_CHW.argmax(0).int()


def instances(
    p_QC: Tensor,
    mask_logits_Qhw: Tensor,
    framed: Framed,
    limit: int,
    *,
    direct: bool = False,
    boxes_Q4: Tensor | None = None,
) -> dict[str, Tensor]:
    """`mask_inference.instances_of`: boxes, labels, scores, masks of the `limit` best (query, class) pairs with a mask
    that is not empty."""
    queries, classes = p_QC.shape
    p, index = p_QC.flatten().topk(min(limit, queries * classes))
    query, label = index // classes, index % classes
    logits = enlarge(mask_logits_Qhw[query].float(), framed, direct=direct)
    inside = logits > 0
    area = inside.sum((1, 2))
    score = p * (logits.sigmoid() * inside).sum((1, 2)) / area.clamp(min=1)
    boxes = from_masks(inside) if boxes_Q4 is None else boxes_Q4[query]
    order = ranked(torch.where(area > 0, score, -1.0))
    order = order[(area > 0)[order]]
    return {"boxes": boxes[order], "labels": label[order], "scores": score[order], "masks": inside[order]}


def ranked(scores_N: Tensor) -> Tensor:
    """Positions from the highest score to the lowest."""
    return scores_N.argsort(descending=True)


@dataclasses.dataclass(frozen=True)
class PanopticRule:
    """See `panoptic.panoptic_of`; direct: see `enlarge`."""

    num_things: int
    overlap: float
    direct: bool


def panoptic(
    p_Q: Tensor, label_Q: Tensor, keep_Q: Tensor, mask_logits_Qhw: Tensor, framed: Framed, rule: PanopticRule
) -> dict[str, Tensor]:
    """`panoptic.panoptic_of` of the queries that `keep_Q` says: panoptic [H,W] int32 (0 = void), and of its segments,
    numbered from 1, segment_labels and segment_scores [n]."""
    masks_QHW = enlarge(mask_logits_Qhw.float(), framed, direct=rule.direct).sigmoid()
    area_Q = (masks_QHW >= 0.5).sum((1, 2))
    value_HW, owner_HW = torch.where(keep_Q[:, None, None], masks_QHW * p_Q[:, None, None], -1.0).max(0)
    taken_HW = value_HW >= 0
    won_Q = torch.zeros_like(area_Q).scatter_add(0, owner_HW.flatten(), taken_HW.flatten().long())
    real_Q = keep_Q & (won_Q > 0) & (area_Q > 0) & (won_Q >= rule.overlap * area_Q)
    number = torch.arange(len(p_Q), device=p_Q.device)
    same = (label_Q[:, None] == label_Q) & (label_Q >= rule.num_things) & real_Q[:, None] & real_Q
    same = same | (number[:, None] == number)
    first_Q = same.long().argmax(1)  # the first query of its stuff class: their segments are one
    begins_Q = real_Q & (first_Q == number)
    id_Q = torch.where(real_Q, begins_Q.long().cumsum(0)[first_Q], 0)
    segment = begins_Q.nonzero()[:, 0]
    ids_HW = torch.where(taken_HW, id_Q[owner_HW], 0).int()
    return {"panoptic": ids_HW, "segment_labels": label_Q[segment], "segment_scores": p_Q[segment]}


def scaled(boxes_N4: Tensor, per_pixel: Sequence[Tensor]) -> Tensor:
    """Boxes xyxy times (rows, columns) scalars."""
    y, x = per_pixel
    return boxes_N4 * torch.stack([x, y, x, y]).to(boxes_N4.dtype)


def paste(masks_Nmm: Tensor, boxes_N4: Tensor, framed: Framed, *, exact: bool) -> Tensor:
    """Masks of boxes on the canvas on the original pixels, bool [N,H,W]: `paste.paste_exact`, or without `exact`
    `paste.paste_masks`."""
    boxes = scaled(boxes_N4.float(), [o / c for o, c in zip(framed.original, framed.content, strict=True)])
    side = masks_Nmm.shape[-1]
    masks = masks_Nmm.float()
    if not exact:
        masks = F.pad(masks, (1, 1, 1, 1))
        centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * ((side + 2) / side)
        boxes = torch.cat([centre - half, centre + half], 1).trunc()
    cells = masks.shape[-1]
    number = torch.arange(cells, device=masks.device)
    weights, inside = [], []
    for axis, length in ((1, framed.size[0]), (0, framed.size[1])):
        low, high = boxes[:, axis, None], boxes[:, axis + 2, None]
        at = torch.arange(length, device=masks.device)
        extent = (high - low) if exact else (high - low + 1).clamp(min=1)
        places = ((at + 0.5 - low) / extent * cells - 0.5).clamp(0, cells - 1)
        weights.append((1 - (places[..., None] - number).abs()).clamp(min=0))  # [N,length,cells]
        inside.append((at >= low.floor()) & (at < (high.ceil() if exact else high + 1)))
    drawn = weights[0] @ masks @ weights[1].mT > 0.5
    return drawn & inside[0][:, :, None] & inside[1][:, None]
