"""From DETR's queries to instances or a panoptic map on the original pixels (Carion et al. 2020, section 4.4).

Q queries, K kept queries; h w size of the mask logits, H W size of the original image.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.ops import boxes
from segcli.ops.mask_inference import Enlarge
from segcli.types import Instances, Panoptic, Rle, Segment, encode_masks


def detections(logits_QC: Tensor, boxes_Q4: Tensor, original: tuple[int, int], limit: int) -> tuple[Instances, Tensor]:
    """(the `limit` best queries as instances on the original pixels, on the CPU; their indices [n]), best first."""
    scores, labels = logits_QC.float().softmax(-1)[:, :-1].max(-1)
    query = scores.argsort(descending=True, stable=True)[:limit]
    h, w = original
    xyxy = boxes.to_xyxy(boxes_Q4[query].float()) * boxes_Q4.new_tensor([w, h, w, h], dtype=torch.float32)
    return Instances(boxes.clamp(xyxy, original), labels[query], scores[query]).to("cpu"), query


def to_rles(mask_logits_Nhw: Tensor, enlarge: Enlarge) -> list[Rle]:
    """Masks on the original image as the official code makes them: decided on the network's input, then nearest."""
    rles: list[Rle] = []
    for part in enlarge.chunks(len(mask_logits_Nhw)):
        masks = (enlarge.to_content(mask_logits_Nhw[part].float()) > 0).to(torch.uint8)
        masks = F.interpolate(masks[None], size=enlarge.original, mode="nearest")[0]
        rles += encode_masks(masks.cpu().numpy())
    return rles


def confident(class_logits_QC1: Tensor, score: float) -> tuple[Tensor, Tensor, Tensor]:
    """The queries that take part: (their indices [K], scores [K], labels [K]). "No object" is the last class."""
    p, label = class_logits_QC1.float().softmax(-1).max(-1)
    keep = ((label != class_logits_QC1.shape[-1] - 1) & (p > score)).nonzero()[:, 0]
    return keep, p[keep], label[keep]


def panoptic(
    mask_logits_Khw: Tensor,
    scores_K: Tensor,
    labels_K: Tensor,
    enlarge: Enlarge,
    *,
    num_things: int,
    smallest: int = 4,
) -> Panoptic:
    """ids [H,W] int32 and their segments, numbered from 1; 0 (void) only where there is no segment at all.

    A softmax over the masks assigns each pixel of the network's input to one query. Queries whose segment has at most
    `smallest` original pixels are dropped and their pixels go to the others, until none is left that small. Of several
    queries of one stuff class (labels from `num_things` on) the first counts the pixels of all; the others count none,
    and are dropped as the small ones are. Their pixels then go to whichever query is next, as in the official code.
    """
    labels = labels_K.tolist()
    segment_of = _segments(labels, num_things)
    alive = torch.ones(len(labels), dtype=torch.bool, device=mask_logits_Khw.device)
    while alive.any():
        owner_HW = _owners(mask_logits_Khw, alive, enlarge)
        ids = np.asarray(segment_of, np.int32)[owner_HW.cpu().numpy()]
        areas = np.bincount(ids.ravel(), minlength=len(labels))
        small = [a and area <= smallest for a, area in zip(alive.tolist(), areas.tolist(), strict=True)]
        if not any(small):
            return _number(ids, areas, labels, scores_K.tolist())
        alive &= ~torch.tensor(small, device=alive.device)
    return Panoptic(np.zeros(enlarge.original, np.int32), [])


def _segments(labels: list[int], num_things: int) -> list[int]:
    """For each query the first query of its segment: itself, or the first of its stuff class."""
    first: dict[int, int] = {}
    return [k if label < num_things else first.setdefault(label, k) for k, label in enumerate(labels)]


def _owners(mask_logits_Khw: Tensor, alive_K: Tensor, enlarge: Enlarge) -> Tensor:
    """[H,W] int64: the query with the largest logit among those alive; the softmax has the same order.

    Decided on the network's input, then carried to the original pixels by nearest neighbour (pixel centres).
    """
    best = mask_logits_Khw.new_full(enlarge.content, -torch.inf, dtype=torch.float32)
    owner = torch.zeros(enlarge.content, dtype=torch.int64, device=best.device)
    index_K = alive_K.nonzero()[:, 0]
    for part in enlarge.chunks(len(index_K)):
        value, at = enlarge.to_content(mask_logits_Khw[index_K[part]].float()).max(0)
        better = value > best
        best = torch.where(better, value, best)
        owner = torch.where(better, index_K[part][at], owner)
    rows, columns = (
        ((torch.arange(o, device=best.device) + 0.5) * (c / o)).long().clamp(max=c - 1)
        for o, c in zip(enlarge.original, enlarge.content, strict=True)
    )
    return owner[rows][:, columns]


def _number(ids: np.ndarray, areas: np.ndarray, labels: list[int], scores: list[float]) -> Panoptic:
    """Ids by query -> ids from 1."""
    number = np.zeros(len(labels), np.int32)
    segments: list[Segment] = []
    for k in np.flatnonzero(areas).tolist():
        number[k] = len(segments) + 1
        segments.append(Segment(len(segments) + 1, labels[k], scores[k]))
    return Panoptic(number[ids], segments)
