"""Scores of per-pixel class maps: three counts a class, and which class was taken for which."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import SegcliError
from segcli.types import Prediction, Target, ignore_label

MOST = 2000  # classes whose confusion matrix is kept: of 20,000 it would take 3 GB
AT_ONCE = 2**25  # counts of resamples that are held together (256 MB)


def build(*, info: DatasetInfo) -> "SemanticScores":
    return SemanticScores(info)


class SemanticScores:
    """mIoU, frequency-weighted IoU and pixel accuracy over all pixels of all images; 0..1.

    Pixels without a label (`types.ignore_label`) count nowhere. Predicted, that is a wrong answer, not an abstention:
    it misses the labelled class. A class that is neither labelled nor predicted anywhere is left out of the mean; one
    that is only predicted counts 0.

    sums [3,C]: pixels right, labelled, labelled or predicted. pixels [C,C+1]: labelled class (row), predicted class
    (column), last = none; None for more than MOST classes. images: image id -> (the classes on it [K], its sums [3,K]).
    """

    def __init__(self, info: DatasetInfo):
        self.names, self.num_things = info.names, info.num_things
        n = len(self.names)
        self.sums = np.zeros((3, n), np.int64)
        self.pixels = np.zeros((n, n + 1), np.int64) if n <= MOST else None
        self.images: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def update(self, predictions: Sequence[Prediction], targets: Sequence[Target]) -> None:
        """Count one batch of images; `semantic` maps [H,W] on original pixels.

        Raises SegcliError where a map is of another size, or holds a number that is no class.
        """
        for prediction, target in zip(predictions, targets, strict=True):
            assert prediction.image_id == target.image_id, "predictions and targets are of different images"
            assert prediction.semantic is not None, "the prediction has no semantic map"
            assert target.semantic is not None, "the target has no semantic map"
            pair = answers(prediction.semantic, target.semantic.numpy(), len(self.names), target.image_id)
            if self.pixels is None:
                own = tallies(*pair, len(self.names))
            else:
                pixels = confusion(*pair, len(self.names))
                self.pixels += pixels
                own = tallies_of(pixels)
            self.sums += own
            present = np.flatnonzero(own[2])
            self.images[target.image_id] = present, own[:, present]

    def merge(self, other: "SemanticScores") -> None:
        """Take in the images that `other` has seen."""
        self.sums += other.sums
        if self.pixels is not None and other.pixels is not None:
            self.pixels += other.pixels
        self.images.update(other.images)

    def compute(self) -> dict[str, float]:
        """{"mIoU", "fwIoU", "pixel_accuracy"}; no key where nothing is labelled. "mIoU_things" beside stuff."""
        return self._scores(*self.sums)

    def _scores(self, hits: np.ndarray, labelled: np.ndarray, union: np.ndarray) -> dict[str, float]:
        out, n = semantic_scores(hits, labelled, union), self.num_things
        if out and 0 < n < len(self.names):
            things = semantic_scores(hits[:n], labelled[:n], union[:n])
            out.update({"mIoU_things": things["mIoU"]} if things else {})
        return out

    def replicates(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """`compute`'s scores in each resample of the images, [B]; times [B,I]: how often each is drawn, by image id."""
        classes, scores = len(self.names), []
        known = [self.images[i] for i in sorted(self.images)]
        places = [(np.arange(3)[:, None] * classes + present).ravel() for present, _ in known]
        ends = np.cumsum([0, *map(len, places)])
        values = np.concatenate([own.ravel() for _, own in known]).astype(np.float64)
        images = sparse.csr_matrix((values, np.concatenate(places), ends), (len(known), 3 * classes))
        step = max(1, AT_ONCE // (3 * classes))
        for start in range(0, len(times), step):
            sums = (images.T @ times[start : start + step].T).T  # whole numbers: exact in any order
            scores += [self._scores(*one) for one in sums.reshape(-1, 3, classes)]
        return {key: np.array([s.get(key, np.nan) for s in scores]) for key in self.compute()}

    def per_class(self) -> dict[str, dict[str, float]]:
        """Class name -> {"IoU", "accuracy"}; no key where there is nothing to score."""
        hits, labelled, union = self.sums
        out: dict[str, dict[str, float]] = {name: {} for name in self.names}
        for label, name in enumerate(self.names):
            if union[label]:
                out[name]["IoU"] = float(hits[label] / union[label])
            if labelled[label]:
                out[name]["accuracy"] = float(hits[label] / labelled[label])
        return out

    def diagnostics(self) -> dict[str, Any]:
        """confusion: pixels by labelled (row) and predicted class (column), last = none; null above MOST classes."""
        pixels = None if self.pixels is None else self.pixels.tolist()
        return {"classes": [*self.names, "none"], "confusion": pixels}


def answers(predicted: np.ndarray, labelled: np.ndarray, classes: int, image_id: int) -> tuple[np.ndarray, np.ndarray]:
    """The labelled and the predicted class of each pixel [P] with a label, from an image's maps [H,W]; the predicted
    one is `classes` where the map says none.

    Raises SegcliError where the maps differ in size, or hold a number that is no class.
    """
    if predicted.shape != labelled.shape:
        raise SegcliError(
            f"image {image_id}: the predicted map is {list(predicted.shape)}, the label map {list(labelled.shape)}"
        )
    ignore = ignore_label(classes)
    counts = labelled != ignore
    truth, answer = labelled[counts].astype(np.int64), predicted[counts].astype(np.int64)
    answer[answer == ignore] = classes
    for kind, values, limit in (("label", truth, classes - 1), ("predicted", answer, classes)):
        if values.size and (values.min() < 0 or values.max() > limit):
            worst = values.min() if values.min() < 0 else values.max()
            raise SegcliError(f"image {image_id}: the {kind} map holds {worst}, but there are {classes} classes")
    return truth, answer


def confusion(truth: np.ndarray, answer: np.ndarray, classes: int) -> np.ndarray:
    """Pixel counts [C,C+1] of `answers`; the last column is "none"."""
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


def tallies(truth: np.ndarray, answer: np.ndarray, classes: int) -> np.ndarray:
    """[3,C] of `answers`: pixels of a class that are right, labelled, and labelled or predicted."""
    hits, labelled = (np.bincount(part, minlength=classes) for part in (truth[truth == answer], truth))
    return np.stack([hits, labelled, labelled + np.bincount(answer, minlength=classes + 1)[:-1] - hits])


def tallies_of(pixels: np.ndarray) -> np.ndarray:
    """The same of a confusion matrix [C,C+1]."""
    hits, labelled = pixels.diagonal(), pixels.sum(1)
    return np.stack([hits, labelled, labelled + pixels[:, :-1].sum(0) - hits])
