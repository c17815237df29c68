"""Panoptic quality (Kirillov et al., "Panoptic Segmentation", CVPR 2019), with the crowd and void rules of COCO's API.

Tallies of our own rather than hotcoco's evaluator, which needs the whole set in files at once.
"""

from collections.abc import Sequence

import numpy as np

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import SegcliError
from segcli.types import Panoptic, Prediction, Target

_IOU, _TP, _FP, _FN = range(4)
AT_ONCE = 2**26  # numbers of images and resamples that are held together (0.5 GB)


def build(*, info: DatasetInfo) -> "PanopticScores":
    return PanopticScores(info)


class PanopticScores:
    """PQ = SQ · RQ per class, averaged over the classes that are labelled or predicted; 0..1.

    A predicted segment matches the labelled one of its class that it covers with IoU > 0.5 (there is at most one).
    SQ is the mean IoU of matches, RQ = TP / (TP + FP/2 + FN/2). Void pixels don't count in a union, crowd segments
    are never missed, and an unmatched prediction that lies by more than half on void or on a crowd of its own class
    is not a false positive. Where a class has several crowds (COCO's have one at most), the last of the list counts
    there, as it does in COCO's API.
    """

    def __init__(self, info: DatasetInfo):
        self.names, self.num_things = info.names, info.num_things
        self.tally = np.zeros((len(self.names), 4))  # per class: sum of matched IoUs, TP, FP, FN
        self.images: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # image id -> its classes [K], their tally [K,4]

    def update(self, predictions: Sequence[Prediction], targets: Sequence[Target]) -> None:
        """Count one batch of images. Raises SegcliError where a map and its segments disagree."""
        for prediction, target in zip(predictions, targets, strict=True):
            assert prediction.image_id == target.image_id, "predictions and targets are of different images"
            assert prediction.panoptic is not None, "the prediction has no panoptic map"
            assert target.panoptic is not None, "the target has no panoptic map"
            own = count(prediction.panoptic, target.panoptic, len(self.names), target.image_id)
            present = np.flatnonzero(own.any(1))
            self.images[target.image_id] = present, own[present]
            self.tally += own

    def merge(self, other: "PanopticScores") -> None:
        """Take in the images that `other` has seen."""
        self.tally += other.tally
        self.images.update(other.images)

    def compute(self) -> dict[str, float]:
        """{"PQ", "SQ", "RQ", "PQ_things", "PQ_stuff"}; no key where there is nothing to score."""
        return panoptic_scores(self.tally, self.num_things)

    def replicates(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """`compute`'s scores in each resample of the images, [B]; times [B,I]: how often each is drawn, by image id."""
        known, classes = [self.images[i] for i in sorted(self.images)], len(self.names)
        summed = np.zeros((len(times), classes, 4))
        step = max(1, AT_ONCE // (4 * max(len(known), len(times))))
        for first in range(0, classes, step):
            tallies = np.zeros((len(known), min(step, classes - first), 4))
            for image, (present, own) in zip(tallies, known, strict=True):
                here = (present >= first) & (present < first + step)
                image[present[here] - first] = own[here]
            summed[:, first : first + step] = np.einsum("bi,ick->bck", times, tallies)
        scores = [panoptic_scores(one, self.num_things) for one in summed]
        return {key: np.array([s.get(key, np.nan) for s in scores]) for key in self.compute()}

    def per_class(self) -> dict[str, dict[str, float]]:
        """Class name -> {"PQ", "SQ", "RQ"}; empty for a class neither labelled nor predicted."""
        seen, pq, sq, rq = _quality(self.tally)
        return {
            name: {"PQ": float(pq[i]), "SQ": float(sq[i]), "RQ": float(rq[i])} if seen[i] else {}
            for i, name in enumerate(self.names)
        }


def count(predicted: Panoptic, labelled: Panoptic, classes: int, image_id: int) -> np.ndarray:
    """One image's tally [C,4]: sum of matched IoUs, true positives, false positives, false negatives."""
    if predicted.ids.shape != labelled.ids.shape:
        raise SegcliError(
            f"image {image_id}: the predicted panoptic map is {list(predicted.ids.shape)}, "
            f"the label map {list(labelled.ids.shape)}"
        )
    found = {s.id: s for s in predicted.segments}
    truth = {s.id: s for s in labelled.segments}
    overlap = _overlaps(labelled.ids, predicted.ids)
    truth_area, found_area = _areas(overlap, 0), _areas(overlap, 1)
    for kind, unknown in (
        ("labelled", truth_area.keys() - truth.keys()),
        ("predicted", found_area.keys() - found.keys()),
    ):
        if unknown - {0}:
            raise SegcliError(
                f"image {image_id}: the {kind} panoptic map has the segment {min(unknown - {0})}, its list has not"
            )
    if found.keys() - found_area.keys():
        missing = min(found.keys() - found_area.keys())
        raise SegcliError(f"image {image_id}: the predicted panoptic segment {missing} has no pixel in the map")

    out = np.zeros((classes, 4))
    hit_truth, hit_found = {0}, {0}
    for (t, p), pixels in overlap.items():
        if 0 in (t, p) or truth[t].crowd or truth[t].label != found[p].label:
            continue
        iou = pixels / (truth_area[t] + found_area[p] - pixels - overlap.get((0, p), 0))
        if iou > 0.5:
            out[truth[t].label, _IOU] += iou
            out[truth[t].label, _TP] += 1
            hit_truth.add(t)
            hit_found.add(p)
    for t, segment in truth.items():
        if t not in hit_truth and not segment.crowd:
            out[segment.label, _FN] += 1
    crowds = {segment.label: t for t, segment in truth.items() if segment.crowd}  # the last one of each class
    for p, segment in found.items():
        if p in hit_found:
            continue
        excused = sum(overlap.get((t, p), 0) for t in {0, crowds.get(segment.label, 0)})
        if excused / found_area[p] <= 0.5:
            out[segment.label, _FP] += 1
    return out


def panoptic_scores(tally: np.ndarray, num_things: int) -> dict[str, float]:
    """The averages over classes of a tally [C,4] whose first `num_things` rows are things."""
    seen, pq, sq, rq = _quality(tally)
    thing = np.arange(len(tally)) < num_things
    out = {}
    for key, values, part in (
        ("PQ", pq, seen),
        ("SQ", sq, seen),
        ("RQ", rq, seen),
        ("PQ_things", pq, seen & thing),
        ("PQ_stuff", pq, seen & ~thing),
    ):
        if part.any():
            out[key] = float(values[part].mean())
    return out


def _quality(tally: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per class: whether there is anything to score, and PQ, SQ, RQ (0 where nothing matched)."""
    iou, tp, fp, fn = tally.T
    weight = tp + fp / 2 + fn / 2
    sq = np.divide(iou, tp, out=np.zeros_like(iou), where=tp > 0)
    rq = np.divide(tp, weight, out=np.zeros_like(tp), where=weight > 0)
    return weight > 0, sq * rq, sq, rq


def _overlaps(labelled: np.ndarray, predicted: np.ndarray) -> dict[tuple[int, int], int]:
    """(labelled id, predicted id) -> pixels, of two id maps [H,W] with ids >= 0."""
    stride = int(predicted.max(initial=0)) + 1
    pairs, pixels = np.unique(labelled.astype(np.int64) * stride + predicted, return_counts=True)
    return {(int(v) // stride, int(v) % stride): int(n) for v, n in zip(pairs, pixels, strict=True)}


def _areas(overlap: dict[tuple[int, int], int], side: int) -> dict[int, int]:
    """Pixels of each id on one side (0 labelled, 1 predicted) of the overlaps."""
    out: dict[int, int] = {}
    for pair, pixels in overlap.items():
        out[pair[side]] = out.get(pair[side], 0) + pixels
    return out
