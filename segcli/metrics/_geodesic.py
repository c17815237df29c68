"""Average precision of DensePose by geodesic point similarity (Güler et al., 2018, section 3), for bodies of which the
distances along the surface are known.

GPS of a detection and an object is the mean over the object's labelled points of exp(-g² / 2σ²), where g is the
distance along the surface between what is said and what is labelled there; 0 where nothing is said. It takes the place
of IoU: ten thresholds of .5 to .95, as COCO's. Detections of objects without points, and of crowds, do not count where
no labelled object is theirs and their boxes overlap by 0.8, as in detectron2's evaluation.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

from segcli.fields.densepose import DensePose
from segcli.fields.geodesics import Geodesics
from segcli.types import Instances

THRESHOLDS = np.linspace(0.5, 0.95, 10)
MOST = 20  # detections of a class in an image that are compared
UNLABELLED = 0.8  # box IoU with an object without points from which a detection is taken for it
AREA = ("all", (0.0, 1e10))


def matching(found: Instances, labelled: Instances, surface: Geodesics) -> Iterator[dict[str, Any]]:
    """How an image's detections and objects are matched, class by class, as `ApTally.add` takes it."""
    points = DensePose.of(labelled).points
    crowd = torch.zeros(len(labelled), dtype=torch.bool) if labelled.crowd is None else labelled.crowd
    has = np.array([len(own) > 0 for own in points], bool) & ~crowd.numpy()
    scores = torch.zeros(0) if found.scores is None else found.scores
    best_first = torch.argsort(scores, descending=True, stable=True).tolist()
    overlap = box_iou(found.boxes, labelled.boxes).numpy()
    for label in {*labelled.labels.tolist(), *found.labels.tolist()}:
        objects = np.flatnonzero(labelled.labels.numpy() == label)
        detections = [k for k in best_first if found.labels[k] == label][:MOST]
        right = np.zeros((len(THRESHOLDS), len(detections)), bool)
        taken = np.zeros((len(THRESHOLDS), len(labelled)), bool)
        for column, k in enumerate(detections):
            alike = np.zeros(len(labelled))
            for i in objects[has[objects] & (overlap[k, objects] > 0)]:
                alike[i] = surface.similarity(DensePose.of(found).at(k, points[i][:, :2]), points[i][:, 2:])
            for t, threshold in enumerate(THRESHOLDS):
                free = np.where(taken[t], 0, alike)
                if free.max(initial=0) >= threshold:
                    taken[t, free.argmax()] = right[t, column] = True
        bare = objects[~has[objects]]
        unlabelled = (overlap[np.ix_(detections, bare)] >= UNLABELLED).any(1)
        yield {
            "category_id": label + 1,
            "aRng": AREA[1],
            "gtIgnore": ~has[objects],
            "dtScores": scores[detections].tolist(),
            "dtMatched": right,
            "dtIgnore": ~right & unlabelled,
        }
