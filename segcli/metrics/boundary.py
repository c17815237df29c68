"""Boundary AP (Cheng et al., "Boundary IoU", CVPR 2021): mask AP that asks for right outlines on large objects, too."""

from collections.abc import Sequence

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from segcli.core.dataset_info import DatasetInfo
from segcli.metrics.instance import check
from segcli.ops.bootstrap import ApTally, mean_of_known
from segcli.types import Instances, Prediction, Rle, Target

WIDTH = 0.02  # of the band within a mask along its outline, as a share of the image's diagonal
THRESHOLDS = np.minimum(np.linspace(0.5, 0.95, 10), 1 - 1e-10)
AREAS = [("all", (0.0, 1e10))]


def build(*, info: DatasetInfo, max_detections: int = 100) -> "BoundaryScores":
    return BoundaryScores(info, max_detections)


class BoundaryScores:
    """{"boundary_AP"}: COCO's AP with the smaller of mask IoU and boundary IoU as the overlap; 0..1.

    Boundary IoU is the IoU of the two masks' bands: the pixels of a mask within 2 % of the image's diagonal from its
    outline or the image's border. Crowd regions overlap by their masks alone, as in the authors' code.
    """

    def __init__(self, info: DatasetInfo, max_detections: int = 100):
        self.names = info.names[: info.num_things]
        self.max_detections = max_detections
        self.tally = ApTally(len(self.names), AREAS, len(THRESHOLDS))

    def update(self, predictions: Sequence[Prediction], targets: Sequence[Target]) -> None:
        """Match one batch of images, masks on original pixels. Raises SegcliError as InstanceScores.update does."""
        for prediction, target in zip(predictions, targets, strict=True):
            assert prediction.image_id == target.image_id, "predictions and targets are of different images"
            found = prediction.instances if prediction.instances is not None else Instances.empty()
            check(found, prediction, target.size)
            self.tally.add(target.image_id, self._matching(found, target.instances))

    def merge(self, other: "BoundaryScores") -> None:
        """Take in the images that `other` has seen."""
        self.tally.merge(other.tally)

    def compute(self) -> dict[str, float]:
        """No key where no image shows an object."""
        return {key: float(value[0]) for key, value in self.replicates(self._once()).items()}

    def replicates(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """The score in each resample of the images, [B]; times [B,I]: how often each is drawn, by image id."""
        precision = self._precision(times)
        return {} if np.isnan(precision).all() else {"boundary_AP": mean_of_known(precision.reshape(len(times), -1))}

    def per_class(self) -> dict[str, dict[str, float]]:
        """Class name -> {"boundary_AP"}; empty for a class that no image shows."""
        values = self._precision(self._once())[0].mean(-1)
        return {n: {} if np.isnan(v) else {"boundary_AP": float(v)} for n, v in zip(self.names, values, strict=True)}

    def _once(self) -> np.ndarray:
        return np.ones((1, len(self.tally.objects)))

    def _precision(self, times: np.ndarray) -> np.ndarray:
        """[B,C,T]; NaN without an object."""
        if not self.tally.objects:
            return np.full((len(times), len(self.names), len(THRESHOLDS)), np.nan)
        return self.tally.average_precision(times)[:, :, 0]

    def _matching(self, found: Instances, truth: Instances) -> list[dict[str, object]]:
        """One image's matching, an entry for each class that is labelled or found."""
        labels, truth_labels = found.labels.cpu().numpy(), truth.labels.cpu().numpy()
        scores = np.zeros(0) if found.scores is None else found.scores.double().cpu().numpy()
        crowd = np.zeros(len(truth), bool) if truth.crowd is None else truth.crowd.cpu().numpy()
        found_rles, truth_rles = (i.rles() if len(i) else [] for i in (found, truth))
        out: list[dict[str, object]] = []
        for label in np.union1d(labels, truth_labels).tolist():
            mine = np.flatnonzero(labels == label)
            mine = mine[np.argsort(-scores[mine], kind="stable")][: self.max_detections]
            theirs = np.flatnonzero(truth_labels == label)
            theirs = theirs[np.argsort(crowd[theirs], kind="stable")]
            ignored = crowd[theirs]
            ious = overlaps([found_rles[i] for i in mine], [truth_rles[i] for i in theirs], ignored)
            matched, excused = match(ious, ignored)
            names = {"category_id": label + 1, "aRng": AREAS[0][1], "gtIgnore": ignored, "dtScores": scores[mine]}
            out.append({**names, "dtMatched": matched, "dtIgnore": excused})
        return out


def overlaps(found: Sequence[Rle], truth: Sequence[Rle], crowd: np.ndarray) -> np.ndarray:
    """The smaller of mask IoU and boundary IoU, [D,G]; below the lowest threshold the mask IoU will do."""
    if not len(found) or not len(truth):
        return np.zeros((len(found), len(truth)))
    out: np.ndarray = np.array(coco_mask.iou(list(found), list(truth), crowd.astype(np.uint8)))
    bands: dict[tuple[int, int], Band] = {}
    for d, g in zip(*np.nonzero((out >= THRESHOLDS[0]) & ~crowd), strict=True):
        for key, rle in (((0, d), found[d]), ((1, g), truth[g])):
            if key not in bands:
                bands[key] = Band(rle)
        out[d, g] = min(out[d, g], bands[0, d].iou(bands[1, g]))
    return out


class Band:
    """The pixels of a mask near its outline, cut out of the image."""

    def __init__(self, rle: Rle):
        height, width = rle["size"]
        self.x, self.y, w, h = (int(v) for v in coco_mask.toBbox(rle))
        # transposed: pycocotools' masks are column by column, and this way no pixel has to move
        mask = coco_mask.decode(rle).T[self.x : self.x + w, self.y : self.y + h]
        reach = max(1, round(WIDTH * float(np.hypot(height, width))))
        padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        self.pixels = mask - cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=reach)[1:-1, 1:-1]
        self.area = int(np.count_nonzero(self.pixels))

    def iou(self, other: "Band") -> float:
        x, y = max(self.x, other.x), max(self.y, other.y)
        (w, h), (ow, oh) = self.pixels.shape, other.pixels.shape
        right, bottom = min(self.x + w, other.x + ow), min(self.y + h, other.y + oh)
        if right <= x or bottom <= y:
            return 0.0
        one, two = (b.pixels[x - b.x : right - b.x, y - b.y : bottom - b.y] for b in (self, other))
        both = int(np.count_nonzero(one & two))
        return both / (self.area + other.area - both)


def match(ious: np.ndarray, ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """COCO's matching at every threshold: which detections match [T,D], and which of them a crowd region [T,D].

    ious [D,G]: detections best first, objects to find before crowd regions (`ignored` [G]). Each detection takes the
    free object that it overlaps most, or else a crowd region, which any number may take.
    """
    count = len(THRESHOLDS)
    matched, excused = np.zeros((count, len(ious)), bool), np.zeros((count, len(ious)), bool)
    free, regular = np.ones((count, len(ignored)), bool), np.count_nonzero(~ignored)
    rows = np.arange(count)
    for d, row in enumerate(ious):
        near = row >= THRESHOLDS[0]
        if not near.any():
            continue
        value = np.where(free[:, :regular], row[:regular], -1.0)
        if regular:
            best = regular - 1 - value[:, ::-1].argmax(1)  # the last one of equals
            hit = value[rows, best] >= THRESHOLDS
            free[rows[hit], best[hit]] = False
            matched[:, d] = hit
        if near[regular:].any():
            excused[:, d] = ~matched[:, d] & (row[regular:].max() >= THRESHOLDS)
            matched[:, d] |= excused[:, d]
    return matched, excused
