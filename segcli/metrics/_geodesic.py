"""Average precision of DensePose by geodesic point similarity (Güler et al., 2018, section 3), for bodies of which the
distances along the surface are known.

GPS of a detection and an object is the mean over the object's labelled points of exp(-g² / 2σ²), where g is the
distance along the surface between what is said and what is labelled there; 0 where nothing is said. GPSm, of the later
protocol, also weighs what is said to be on the body: sqrt(GPS · IoU) of the pixels on any chart and of the labelled
`dp_masks`. Each takes the place of IoU: ten thresholds of .5 to .95, as COCO's. Detections of objects without points
(for GPSm: or without dp_masks), and of crowds, do not count where no labelled object is theirs and their boxes overlap
by 0.8, as in detectron2's evaluation.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from segcli.fields.densepose import DensePose
from segcli.fields.geodesics import Geodesics
from segcli.metrics.interface import CocoEntry
from segcli.types import Instances

THRESHOLDS = np.linspace(0.5, 0.95, 10)
MOST = 20  # detections of a class in an image that are compared
UNLABELLED = 0.8  # box IoU with an object without points from which a detection is taken for it
AREA = ("all", (0.0, 1e10))


def matching(found: Instances, labelled: Instances, surface: Geodesics) -> tuple[list[CocoEntry], list[CocoEntry]]:
    """How an image's detections and objects are matched by GPS and by GPSm, class by class, as `ApTally.add` takes
    it."""
    people = DensePose.of(labelled)
    crowd = torch.zeros(len(labelled), dtype=torch.bool) if labelled.crowd is None else labelled.crowd
    pointed = np.array([len(own) > 0 for own in people.points], bool) & ~crowd.numpy()
    outlined = pointed & np.array([own is not None for own in people.coarse], bool)
    scores = torch.zeros(0) if found.scores is None else found.scores
    best_first = torch.argsort(scores, descending=True, stable=True).tolist()
    overlap = box_iou(found.boxes, labelled.boxes).numpy()
    by_points: list[CocoEntry] = []
    by_masks: list[CocoEntry] = []
    for label in {*labelled.labels.tolist(), *found.labels.tolist()}:
        objects = np.flatnonzero(labelled.labels.numpy() == label)
        detections = [k for k in best_first if found.labels[k] == label][:MOST]
        gps, gpsm = np.zeros((2, len(detections), len(objects)))
        for d, o in np.argwhere(pointed[objects] & (overlap[np.ix_(detections, objects)] > 0)).tolist():
            k, i = detections[d], int(objects[o])
            points = people.points[i]
            gps[d, o] = surface.similarity(DensePose.of(found).at(k, points[:, :2]), points[:, 2:])
            if outlined[i] and gps[d, o] > 0:
                gpsm[d, o] = np.sqrt(gps[d, o] * _mask_iou(found, k, labelled, i))
        for out, alike, scored in ((by_points, gps, pointed), (by_masks, gpsm, outlined)):
            right = _right(alike)
            bare = objects[~scored[objects]]
            unlabelled = (overlap[np.ix_(detections, bare)] >= UNLABELLED).any(1)
            one: CocoEntry = {"category_id": label + 1, "aRng": AREA[1], "gtIgnore": ~scored[objects]}
            one |= {"dtScores": scores[detections].tolist(), "dtMatched": right, "dtIgnore": ~right & unlabelled}
            out.append(one)
    return by_points, by_masks


def _right(alike: np.ndarray) -> np.ndarray:
    """Similarities [D,O] of detections, best first, and objects -> bool [T,D]: which of them find one of their own."""
    right = np.zeros((len(THRESHOLDS), len(alike)), bool)
    for t, threshold in enumerate(THRESHOLDS):
        free = alike.copy()
        for d in range(len(alike)):
            if free[d].max(initial=0) >= threshold:
                right[t, d] = True
                free[:, free[d].argmax()] = 0
    return right


def _mask_iou(found: Instances, k: int, labelled: Instances, i: int) -> float:
    """IoU of the pixels where detection k says a chart and where object i has a labelled part."""
    one, other = found.boxes[k].tolist(), labelled.boxes[i].tolist()
    said = lambda at: DensePose.of(found).at(k, at)[:, 0] > 0
    real = lambda at: DensePose.of(labelled).coarse_at(i, at) > 0
    corner = max(one[0], other[0]), max(one[1], other[1])
    both = _centres([*corner, min(one[2], other[2]), min(one[3], other[3])])
    shared = int((said(both) & real(both)).sum())
    every = int(said(_centres(one)).sum()) + int(real(_centres(other)).sum()) - shared
    return shared / max(every, 1)


def _centres(box: Sequence[float]) -> Tensor:
    """Centres [P,2] of the pixels that a box touches."""
    x1, y1, x2, y2 = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
    y, x = torch.meshgrid(torch.arange(y1, max(y1, y2)), torch.arange(x1, max(x1, x2)), indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1) + 0.5
