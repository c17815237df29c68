"""Scores of DensePose at labelled points: how many get the right chart, and how far off (u, v) is there."""

from collections.abc import Sequence

import numpy as np
import torch
from torchvision.ops import box_iou

from segcli.core.dataset_info import DatasetInfo
from segcli.fields.densepose import DensePose
from segcli.fields.geodesics import geodesics
from segcli.metrics._geodesic import AREA, matching
from segcli.ops.bootstrap import ApTally, mean_of_known
from segcli.types import Instances, Prediction, Target

FOUND = 0.5  # box IoU from which a detection has found an object
AP = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}  # of ten thresholds


def build(*, info: DatasetInfo) -> "DensePoseScores":
    return DensePoseScores(info)


class DensePoseScores:
    """densepose_part_accuracy: the share of all labelled points with the right chart; an object is read from the best
    detection of its class whose box overlaps its own by 0.5, and all points of one without are wrong.
    densepose_uv_error: the mean distance in (u, v), 0 to 1.41, at points with the right chart.
    densepose_GPS_AP, _AP50, _AP75: as published, by distances along the body's surface; densepose_GPSm_AP, …: by these
    and the overlap of masks (_geodesic.py). Of datasets that declare distances alone, the two above need none.
    """

    def __init__(self, info: DatasetInfo):
        self.names = info.names[: info.num_things]
        self.images: dict[int, np.ndarray] = {}  # image -> [C,3] of points, right ones, and their summed distances
        self.tallies = {name: ApTally(len(self.names), [AREA]) for name in ("GPS", "GPSm")}

    def update(self, predictions: Sequence[Prediction], targets: Sequence[Target]) -> None:
        """Both on original pixels; instances have the field "densepose"."""
        for prediction, target in zip(predictions, targets, strict=True):
            found, labelled = prediction.instances or Instances.empty(), target.instances
            sums = np.zeros((len(self.names), 3))
            overlap = box_iou(labelled.boxes, found.boxes) >= FOUND
            overlap &= labelled.labels[:, None] == found.labels
            for i, points in enumerate(DensePose.of(labelled).points):
                if labelled.crowd is not None and labelled.crowd[i]:
                    continue
                mine = sums[int(labelled.labels[i])]
                mine[0] += len(points)
                if len(points) and overlap[i].any():
                    assert found.scores is not None
                    best = int(torch.where(overlap[i], found.scores, -1).argmax())
                    said = DensePose.of(found).at(best, points[:, :2])
                    right = said[:, 0] == points[:, 2]
                    mine[1] += int(right.sum())
                    mine[2] += float((said[right, 1:] - points[right, 3:]).norm(dim=1).sum())
            self.images[target.image_id] = sums
            surface = DensePose.of(labelled).surface
            if surface.geodesics is not None:
                own = geodesics(surface.geodesics, surface.charts)
                for tally, matched in zip(self.tallies.values(), matching(found, labelled, own), strict=True):
                    tally.add(target.image_id, matched)

    def merge(self, other: "DensePoseScores") -> None:
        self.images |= other.images
        for name, tally in self.tallies.items():
            tally.merge(other.tallies[name])

    def compute(self) -> dict[str, float]:
        """No key where nothing is labelled, or nothing found."""
        out = _scores(sum(self.images.values(), np.zeros((len(self.names), 3))).sum(0))
        values = self._average_precision(np.ones((1, len(self.images))))
        return out | {key: float(value[0]) for key, value in values.items() if not np.isnan(value[0])}

    def replicates(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """`compute`'s scores in each resample, [B]; times [B,I]: how often each image is drawn, by image id."""
        sums = np.stack([self.images[i].sum(0) for i in sorted(self.images)])
        scores = [_scores(row) for row in times.astype(np.float64) @ sums]
        keys = _scores(sums.sum(0))
        out = {key: np.array([s.get(key, np.nan) for s in scores]) for key in keys}
        return out | self._average_precision(times)

    def _average_precision(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """[B] by key."""
        out: dict[str, np.ndarray] = {}
        for name, tally in self.tallies.items():
            if any(objects.any() for objects in tally.objects.values()):
                average = tally.average_precision(times.astype(np.float64))[:, :, 0]  # [B,C,10]
                out |= {
                    f"densepose_{name}_{key}": mean_of_known(average[:, :, part].mean(2)) for key, part in AP.items()
                }
        return out

    def per_class(self) -> dict[str, dict[str, float]]:
        sums = sum(self.images.values(), np.zeros((len(self.names), 3)))
        return {name: _scores(row) for name, row in zip(self.names, sums, strict=True)}


def _scores(sums: np.ndarray) -> dict[str, float]:
    points, right, distance = sums.tolist()
    out = {"densepose_part_accuracy": right / points} if points else {}
    return out | ({"densepose_uv_error": distance / right} if right else {})
