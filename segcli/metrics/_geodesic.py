"""Average precision of DensePose by geodesic point similarity (Güler et al., 2018, section 3), for bodies of which the
distances along the surface are known.

GPS of a detection and an object is the mean over the object's labelled points of exp(-g² / 2σ²), where g is the
distance along the surface between what is said and what is labelled there; 0 where nothing is said. It takes the place
of IoU: ten thresholds of .5 to .95, as COCO's. Detections of objects without points, and of crowds, do not count where
no labelled object is theirs and their boxes overlap by 0.8, as in detectron2's evaluation.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torchvision.ops import box_iou

from segcli.fields.densepose import DensePose
from segcli.fields.geodesics import Geodesics
from segcli.types import Instances

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 20  # detections of an image that are compared
UNLABELLED = 0.8  # box IoU with an object without points from which a detection is taken for it
KEYS = {"densepose_AP": slice(None), "densepose_AP50": slice(0, 1), "densepose_AP75": slice(5, 6)}


@dataclasses.dataclass
class Ranked:
    """Of one image: labels [C], objects with points of each class; rows: a detection's class, score, and at each
    threshold whether it is right and whether it does not count, bool [10]."""

    labels: np.ndarray
    rows: list[tuple[int, float, np.ndarray, np.ndarray]]


def ranked(found: Instances, labelled: Instances, classes: int, surface: Geodesics) -> Ranked:
    """How an image's detections, best first, are matched with its objects."""
    points = [own if not _crowd(labelled, i) else own[:0] for i, own in enumerate(DensePose.of(labelled).points)]
    has = np.array([len(own) > 0 for own in points], bool)
    totals = np.bincount(labelled.labels.numpy()[has], minlength=classes)
    if not len(found):
        return Ranked(totals, [])
    assert found.scores is not None
    overlap, rows = box_iou(found.boxes, labelled.boxes).numpy(), []
    taken = np.zeros((len(THRESHOLDS), len(labelled)), bool)
    for k in torch.argsort(found.scores, descending=True, stable=True)[:MOST].tolist():
        same = (labelled.labels == found.labels[k]).numpy()
        alike = np.zeros(len(labelled))
        for i in np.flatnonzero(same & has & (overlap[k] > 0)):
            alike[i] = surface.similarity(DensePose.of(found).at(k, points[i][:, :2]), points[i][:, 2:])
        right = np.zeros(len(THRESHOLDS), bool)
        for t, threshold in enumerate(THRESHOLDS):
            free = np.where(taken[t], 0, alike)
            if free.size and free.max() >= threshold:
                taken[t, free.argmax()] = right[t] = True
        unlabelled = bool((same & ~has & (overlap[k] >= UNLABELLED)).any())
        rows.append((int(found.labels[k]), float(found.scores[k]), right, ~right & unlabelled))
    return Ranked(totals, rows)


def _crowd(labelled: Instances, i: int) -> bool:
    return labelled.crowd is not None and bool(labelled.crowd[i])


def average_precision(images: Sequence[Ranked], times: np.ndarray) -> np.ndarray:
    """[B,C,10] in each resample, by class and threshold, NaN for a class without an object in it. times [B,I]: how
    often each image is drawn. Precision is read at 101 recalls, as COCO's is."""
    totals = times @ np.stack([image.labels for image in images])  # [B,C]
    out = np.where(totals > 0, 0.0, np.nan)[..., None].repeat(len(THRESHOLDS), 2)
    for label in range(totals.shape[1]):
        rows = [(p, *row[1:]) for p, image in enumerate(images) for row in image.rows if row[0] == label]
        rows.sort(key=lambda row: -row[1])
        if not rows:
            continue
        drawn = times[:, [row[0] for row in rows]].astype(np.float64)  # [B,D]
        right, aside = (np.stack([row[k] for row in rows]) for k in (2, 3))  # [D,10]
        for t in range(len(THRESHOLDS)):
            hits = (drawn * right[:, t]).cumsum(1)
            precision = hits / np.maximum((drawn * ~aside[:, t]).cumsum(1), 1e-9)
            envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
            recall = hits / np.maximum(totals[:, label, None], 1e-9)
            for b in np.flatnonzero(totals[:, label] > 0):
                place = np.searchsorted(recall[b], RECALLS, side="left")
                out[b, label, t] = np.append(envelope[b], 0)[place].mean()
    return out
