"""Whether an exported file predicts what the model predicts: measured on real images, within stated bounds."""

import dataclasses

import numpy as np
from scipy.optimize import linear_sum_assignment

from segcli.core.errors import ModelError
from segcli.fields.keypoints import Keypoints
from segcli.types import Instances, Panoptic, Prediction

LOWEST = 0.05  # detections of a lower score need no counterpart: there a thousandth decides which of them there are
FEWEST = 5  # but for an image's best ones, however unsure the model is
NEAR = 1.0  # pixels within which a box counts as the same object's, also of another score
FAR = 1e3


@dataclasses.dataclass
class Agreement:
    """What was measured over `images` images. boxes: the farthest side, pixels; scores: the largest difference;
    detections: how many were compared; unmatched: how many one of the two has alone; masks: IoU of all masks, as one
    intersection over one union; labels: the share of equal pixels of label maps (with objects' parts told apart in
    panoptic maps); keypoints: the distance, pixels, that 99 % are within. None: the model has no such output."""

    images: int = 0
    boxes: float | None = None
    scores: float | None = None
    detections: int = 0
    unmatched: int = 0
    masks: float | None = None
    labels: float | None = None
    keypoints: float | None = None
    missing: tuple[str, ...] = ()  # outputs that one of the two alone has

    def problems(self) -> list[str]:
        """What is beyond its bound, in words."""
        if self.missing:
            return [f"one of them alone gives {', '.join(self.missing)}"]
        bounds = [
            (self.boxes, 0.05, False, "boxes differ by {:.3f} pixels (at most 0.05)"),
            (self.scores, 1e-3, False, "scores differ by {:.4f} (at most 0.001)"),
            (self.masks, 0.999, True, "masks have an IoU of {:.5f} (at least 0.999)"),
            (self.labels, 0.999, True, "{:.5f} of the label maps' pixels are equal (at least 0.999)"),
            (self.keypoints, 0.05, False, "99 % of keypoints differ by up to {:.3f} pixels (at most 0.05)"),
            (self.unmatched, 0.01 * self.detections, False, "{} detections have no counterpart (at most 1 %)"),
        ]
        return [
            words.format(value)
            for value, bound, least, words in bounds
            if value is not None and (value < bound if least else value > bound)
        ]


class Comparison:
    """Collects pairs of predictions of one image each."""

    def __init__(self) -> None:
        self.found = Agreement()
        self.inside = self.either = 0
        self.equal = self.pixels = 0
        self.distances: list[np.ndarray] = []

    def add(self, one: Prediction, other: Prediction) -> None:
        """one: the model's, other: the file's."""
        self.found.images += 1
        kinds = ("semantic", "panoptic", "instances")
        missing = {kind for kind in kinds if (getattr(one, kind) is None) != (getattr(other, kind) is None)}
        self.found.missing = tuple(sorted(missing.union(self.found.missing)))
        if one.semantic is not None and other.semantic is not None:
            self._labels(one.semantic == other.semantic)
        if one.panoptic is not None and other.panoptic is not None:
            self._labels(_same_segment(one.panoptic, other.panoptic))
        if one.instances is not None and other.instances is not None:
            self._objects(one.instances, other.instances)

    def result(self) -> Agreement:
        found = self.found
        if self.pixels:
            found.labels = self.equal / self.pixels
        if self.either:
            found.masks = self.inside / self.either
        if self.distances:
            found.keypoints = float(np.quantile(np.concatenate(self.distances), 0.99))
        return found

    def _labels(self, same: np.ndarray) -> None:
        self.equal += int(same.sum())
        self.pixels += same.size

    def _objects(self, one: Instances, other: Instances) -> None:
        counted = [_counted(instances) for instances in (one, other)]
        pairs = [(i, j) for i, j in _match(one, other) if i < counted[0] or j < counted[1]]
        self.found.detections += counted[0]
        self.found.unmatched += counted[0] - sum(i < counted[0] for i, _ in pairs)
        self.found.unmatched += counted[1] - sum(j < counted[1] for _, j in pairs)
        assert one.scores is not None
        assert other.scores is not None
        for i, j in pairs:
            self.found.boxes = max(self.found.boxes or 0.0, float((one.boxes[i] - other.boxes[j]).abs().max()))
            self.found.scores = max(self.found.scores or 0.0, float((one.scores[i] - other.scores[j]).abs()))
            if one.masks is not None and other.masks is not None:
                a, b = one.mask(i), other.mask(j)
                self.inside += int((a & b).sum())
                self.either += int((a | b).sum())
            if "keypoints" in one.fields:
                a, b = (Keypoints.of(objects).points.numpy()[k, :, :2] for objects, k in ((one, i), (other, j)))
                self.distances.append(np.abs(a - b).max(-1))


def require(found: Agreement, file: str) -> None:
    """Raise ModelError where a bound is exceeded."""
    problems = found.problems()
    if problems:
        raise ModelError(
            f"{file}: was not kept: on {found.images} images it differs from the run: {'; '.join(problems)}",
            hint="--no-check keeps a file whatever it predicts; segcli eval then tells what it is worth",
        )


def _counted(instances: Instances) -> int:
    """How many of an image's detections, best first, need a counterpart."""
    assert instances.scores is not None
    return max(int((instances.scores >= LOWEST).sum()), min(len(instances), FEWEST))


def _match(one: Instances, other: Instances) -> list[tuple[int, int]]:
    """Pairs of detections of one class whose boxes are the same object's."""
    if not len(one) or not len(other):
        return []
    assert one.scores is not None
    assert other.scores is not None
    apart = (one.boxes[:, None] - other.boxes).abs().amax(-1) + (one.scores[:, None] - other.scores).abs()
    cost = apart.masked_fill(one.labels[:, None] != other.labels, FAR).clamp(max=FAR).numpy()
    rows, columns = linear_sum_assignment(cost)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if cost[i, j] < NEAR]


def _same_segment(one: Panoptic, other: Panoptic) -> np.ndarray:
    """bool [H,W]: where both say the same segment, whatever number it has: the one that most pixels say."""
    size = int(max(one.ids.max(), other.ids.max())) + 1
    table = np.bincount(one.ids.ravel().astype(np.int64) * size + other.ids.ravel(), minlength=size * size)
    partner = table.reshape(size, size).argmax(1)
    labels = [np.full(size, -1) for _ in range(2)]
    for of, segments in zip(labels, (one.segments, other.segments), strict=True):
        for segment in segments:
            of[segment.id] = segment.label
    return (partner[one.ids] == other.ids) & (labels[0][one.ids] == labels[1][other.ids])
