"""Test-time augmentation: an image and its mirror image, and what both views say of it.

Detections of one class whose IoU is at least 0.5 are the same object: its score is the mean of both, its box their mean
by score, its mask that of the surer view. One that a single view has keeps half its score, as in weighted boxes fusion
(Solovyev et al. 2021, section 3).
"""

import dataclasses

import numpy as np
import torch
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment

from segcli.commands.predict.seams import place_mask
from segcli.core.coco_json import Rle
from segcli.core.errors import UsageError
from segcli.data.annotations import crop_rle
from segcli.ops.boxes import iou
from segcli.types import Instances, Prediction

SAME = 0.5


def both_views(prediction: Prediction, mirrored: Prediction) -> Prediction:
    """The prediction for an image and that for its mirror image, as one. Raises UsageError for maps and for objects
    with fields, which have no mean here."""
    a, b = objects_of(prediction), turn_back(objects_of(mirrored), prediction.size)
    pairs = partners(a, b, prediction.size)
    found_a, found_b = pairs.T if len(pairs) else np.zeros((2, 0), np.int64)
    sa, sb = scores_of(a), scores_of(b)
    scores_a, boxes_a = sa / 2, a.boxes.clone()
    scores_a[found_a] += sb[found_b] / 2
    share = (sa[found_a] / (sa[found_a] + sb[found_b]).clamp(min=1e-9))[:, None]
    boxes_a[found_a] = a.boxes[found_a] * share + b.boxes[found_b] * (1 - share)
    masks = None
    alone = np.setdiff1d(np.arange(len(b)), found_b)
    if a.masks is not None and b.masks is not None:
        rles, other = [*a.rles()], b.rles()
        for i, j in pairs.tolist():
            rles[i] = other[j] if sb[j] > sa[i] else rles[i]
        masks = rles + [other[j] for j in alone.tolist()]
    out = Instances(
        torch.cat([boxes_a, b.boxes[alone]]),
        torch.cat([a.labels, b.labels[alone]]),
        torch.cat([scores_a, sb[alone] / 2]),
        masks=masks,
    )
    order = scores_of(out).argsort(descending=True, stable=True)
    return dataclasses.replace(prediction, instances=out[order])


def objects_of(prediction: Prediction) -> Instances:
    """The detections of a prediction, on the CPU. Raises UsageError where it has none, or they have fields."""
    found = prediction.instances
    if found is None or prediction.panoptic is not None:
        raise UsageError("--tta: this model gives maps: two views of a pixel can't outvote one another")
    if found.fields:
        raise UsageError(f"--tta: the {', '.join(found.fields)} of mirrored objects have no mean")
    return found.to("cpu")


def scores_of(found: Instances) -> torch.Tensor:
    """Their scores [N]."""
    return found.boxes.new_zeros(len(found)) if found.scores is None else found.scores


def turn_back(found: Instances, size: tuple[int, int]) -> Instances:
    """Objects of a mirror image on the image itself, of `size` (H, W)."""
    boxes = found.boxes.clone()
    boxes[:, [0, 2]] = size[1] - found.boxes[:, [2, 0]]
    masks = None if found.masks is None else [_mirrored(rle, size) for rle in found.rles()]
    return dataclasses.replace(found, boxes=boxes, masks=masks)


def partners(a: Instances, b: Instances, size: tuple[int, int]) -> np.ndarray:
    """Pairs [P,2] of positions in `a` and `b` that are one object: a class, an IoU of at least 0.5, the largest sum."""
    overlap = overlaps(a, b)
    overlap[a.labels.numpy()[:, None] != b.labels.numpy()[None]] = 0
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    good = overlap[rows, columns] >= SAME
    return np.stack([rows[good], columns[good]], 1)


def overlaps(a: Instances, b: Instances) -> np.ndarray:
    """IoU [N,M] of masks, or else of boxes."""
    if not len(a) or not len(b):
        return np.zeros((len(a), len(b)))
    if a.masks is not None and b.masks is not None:
        return np.asarray(coco_mask.iou(a.rles(), b.rles(), [0] * len(b)))
    return iou(a.boxes[:, None].double(), b.boxes[None].double()).numpy()


def _mirrored(rle: Rle, size: tuple[int, int]) -> Rle:
    x, y, w, h = (int(v) for v in coco_mask.toBbox(rle))
    cut = crop_rle(rle, x, y, x + max(w, 1), y + max(h, 1))
    return place_mask(cut[:, ::-1], size[1] - x - cut.shape[1], y, size)
