"""Scores of per-pixel class maps: one confusion matrix, and what follows from it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from segcli.errors import SegcliError
from segcli.info import DatasetInfo
from segcli.types import IGNORE, Prediction, Target


def build(*, info: DatasetInfo) -> "SemanticScores":
    return SemanticScores(info)


class SemanticScores:
    """mIoU, frequency-weighted IoU and pixel accuracy over all pixels of all images; 0..1.

    Pixels labelled IGNORE (255) count nowhere. A predicted IGNORE is a wrong answer, not an abstention: it misses the
    labelled class. A class that is neither labelled nor predicted anywhere is left out of the mean; one that is only
    predicted counts 0.
    """

    def __init__(self, info: DatasetInfo):
        self.names, self.num_things = info.names, info.num_things
        n = len(self.names)
        self.pixels = np.zeros((n, n + 1), np.int64)  # row: labelled class; column: predicted class, last = none
        self.images: dict[int, np.ndarray] = {}  # image id -> [3,C]: pixels right, labelled, labelled or predicted

    def update(self, predictions: Sequence[Prediction], targets: Sequence[Target]) -> None:
        """Count one batch of images; `semantic` maps [H,W] on original pixels.

        Raises SegcliError where a map is of another size, or holds a number that is no class.
        """
        for prediction, target in zip(predictions, targets, strict=True):
            assert prediction.image_id == target.image_id, "predictions and targets are of different images"
            assert prediction.semantic is not None, "the prediction has no semantic map"
            assert target.semantic is not None, "the target has no semantic map"
            pixels = confusion(prediction.semantic, target.semantic.numpy(), len(self.names), target.image_id)
            self.pixels += pixels
            self.images[target.image_id] = np.stack(tallies(pixels))

    def merge(self, other: "SemanticScores") -> None:
        """Take in the images that `other` has seen."""
        self.pixels += other.pixels
        self.images.update(other.images)

    def compute(self) -> dict[str, float]:
        """{"mIoU", "fwIoU", "pixel_accuracy"}; no key where nothing is labelled. "mIoU_things" beside stuff."""
        return self._scores(*tallies(self.pixels))

    def _scores(self, hits: np.ndarray, labelled: np.ndarray, union: np.ndarray) -> dict[str, float]:
        out, n = semantic_scores(hits, labelled, union), self.num_things
        if out and 0 < n < len(self.names):
            things = semantic_scores(hits[:n], labelled[:n], union[:n])
            out.update({"mIoU_things": things["mIoU"]} if things else {})
        return out

    def replicates(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """`compute`'s scores in each resample of the images, [B]; times [B,I]: how often each is drawn, by image id."""
        images = np.stack([self.images[i] for i in sorted(self.images)]).astype(np.float64)
        scores = [self._scores(*one) for one in np.einsum("bi,ikc->bkc", times, images)]
        return {key: np.array([s.get(key, np.nan) for s in scores]) for key in self.compute()}

    def per_class(self) -> dict[str, dict[str, float]]:
        """Class name -> {"IoU", "accuracy"}; no key where there is nothing to score."""
        hits, labelled, union = tallies(self.pixels)
        out: dict[str, dict[str, float]] = {name: {} for name in self.names}
        for label, name in enumerate(self.names):
            if union[label]:
                out[name]["IoU"] = float(hits[label] / union[label])
            if labelled[label]:
                out[name]["accuracy"] = float(hits[label] / labelled[label])
        return out

    def diagnostics(self) -> dict[str, Any]:
        """confusion: pixels by labelled (row) and predicted class (column), last = none."""
        return {"classes": [*self.names, "none"], "confusion": self.pixels.tolist()}


def confusion(predicted: np.ndarray, labelled: np.ndarray, classes: int, image_id: int) -> np.ndarray:
    """Pixel counts [C,C+1] of one image's maps [H,W]; the last column is predicted IGNORE."""
    if predicted.shape != labelled.shape:
        raise SegcliError(
            f"image {image_id}: the predicted map is {list(predicted.shape)}, the label map {list(labelled.shape)}"
        )
    counts = labelled != IGNORE
    truth, answer = labelled[counts].astype(np.int64), predicted[counts].astype(np.int64)
    answer[answer == IGNORE] = classes
    for kind, values, limit in (("label", truth, classes - 1), ("predicted", answer, classes)):
        if values.size and (values.min() < 0 or values.max() > limit):
            worst = values.min() if values.min() < 0 else values.max()
            raise SegcliError(f"image {image_id}: the {kind} map holds {worst}, but there are {classes} classes")
    return np.bincount(truth * (classes + 1) + answer, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def semantic_scores(hits: np.ndarray, labelled: np.ndarray, union: np.ndarray) -> dict[str, float]:
    """mIoU, fwIoU and pixel_accuracy of each class's pixels: right, labelled, labelled or predicted; {} without any."""
    total = labelled.sum()
    if not total:
        return {}
    seen = union > 0
    iou = hits[seen] / union[seen]
    return {
        "mIoU": float(iou.mean()),
        "fwIoU": float((labelled[seen] * iou).sum() / total),
        "pixel_accuracy": float(hits.sum() / total),
    }


def tallies(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per class: pixels that are right, pixels labelled, and pixels labelled or predicted."""
    hits, labelled = pixels.diagonal(), pixels.sum(1)
    return hits, labelled, labelled + pixels[:, :-1].sum(0) - hits
