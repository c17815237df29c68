"""Paired bootstrap over images (Efron and Tibshirani, 1993): how far a score may be off with other such images.

Every run draws the same images in the same resamples, so that two runs' scores can be subtracted resample by resample.
What images share (a hard one is hard for both models) then cancels out.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

RESAMPLES = 1000
RECALLS = np.linspace(0, 1, 101)  # where COCO reads precision


def draw(images: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each image is drawn in each resample, float32 [B,I]; every row sums up to I."""
    rng, out = np.random.default_rng(seed), np.empty((resamples, images), np.float32)
    for row in out:
        row[:] = np.bincount(rng.integers(0, images, images), minlength=images)
    return out


class ApTally:
    """What box or mask AP needs to know of each image, so that it can be computed again for any multiset of images.

    `add` takes one image's matching as pycocotools lists it (`evalImgs`: one dict a class and area range).
    """

    def __init__(self, classes: int, areas: Sequence[tuple[str, Sequence[float]]], thresholds: int = 10):
        self.classes, self.thresholds = classes, thresholds
        self.areas = {tuple(float(v) for v in limits): i for i, (_, limits) in enumerate(areas)}
        self.objects: dict[int, np.ndarray] = {}  # image -> objects to find [C,A]
        self.found: dict[int, list[tuple[int, int, np.ndarray, np.ndarray, np.ndarray]]] = {}

    def add(self, image_id: int, matching: Sequence[dict[str, Any] | None]) -> None:
        """One image's matching; category id = label + 1."""
        objects = np.zeros((self.classes, len(self.areas)), np.float32)
        found = []
        for one in matching:
            if one is None:
                continue
            label, area = one["category_id"] - 1, self.areas[tuple(float(v) for v in one["aRng"])]
            objects[label, area] = len(one["gtIgnore"]) - np.count_nonzero(one["gtIgnore"])
            if len(one["dtScores"]):
                scores = np.asarray(one["dtScores"], np.float64)
                hit = np.asarray(one["dtMatched"], bool).reshape(self.thresholds, -1)
                ignored = np.asarray(one["dtIgnore"], bool).reshape(self.thresholds, -1)
                found.append((label, area, scores, hit, ignored))
        self.objects[image_id], self.found[image_id] = objects, found

    def merge(self, other: "ApTally") -> None:
        """Take in the images of another tally."""
        self.objects.update(other.objects)
        self.found.update(other.found)

    def average_precision(self, times: np.ndarray) -> np.ndarray:
        """AP of every resample, class and area range at every IoU threshold: [B,C,A,T]; NaN without an object.

        times [B,I]: how often each image counts, images in ascending order of their ids; its dtype is the result's.
        """
        order = sorted(self.objects)
        objects = np.stack([self.objects[i] for i in order])  # [I,C,A]
        totals = np.einsum("bi,ica->bca", times, objects)
        grouped: dict[tuple[int, int], list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]] = {}
        for position, image_id in enumerate(order):
            for label, area, scores, matched, ignored in self.found[image_id]:
                grouped.setdefault((label, area), []).append((position, scores, matched, ignored))
        out = np.zeros((len(times), self.classes, len(self.areas), self.thresholds), times.dtype)
        out[totals == 0] = np.nan
        for (label, area), parts in grouped.items():
            scores = np.concatenate([p[1] for p in parts])
            best_first = np.argsort(-scores, kind="stable")
            image = np.concatenate([np.full(len(p[1]), p[0]) for p in parts])[best_first]
            hit, ignored = (np.concatenate([p[k] for p in parts], 1)[:, best_first] for k in (2, 3))
            some = totals[:, label, area] > 0
            for t in range(self.thresholds):
                counted = ~ignored[t]
                value = _weighted(image[counted], hit[t, counted], times[some], totals[some, label, area])
                out[some, label, area, t] = value
        return out


def _weighted(image: np.ndarray, hit: np.ndarray, times: np.ndarray, total: np.ndarray) -> np.ndarray:
    """AP [B] of detections, best first, whose images count `times` [B,I] each; `total` [B]: objects to find.

    Precision has to be known at the hits alone: between them recall stands still.
    """
    at = np.flatnonzero(hit)
    if not len(at):
        return np.zeros(len(times), times.dtype)
    images, last = times.shape[1], at[-1] + 1
    out = np.empty(len(times), times.dtype)
    step = max(1, 4_000_000 // int(last))  # resamples at a time: bounds memory
    dense = None
    if images * len(at) <= 8 * last:  # detections of each image up to each hit [I,K]: one product for all resamples
        dense = np.zeros((len(at), images), np.float32)
        np.add.at(dense, (np.searchsorted(at, np.arange(last)), image[:last]), 1)
        dense = dense.cumsum(0).T
    for first in range(0, len(times), step):
        part = times[first : first + step]
        seen = part @ dense if dense is not None else part[:, image[:last]].cumsum(1)[:, at]
        right = part[:, image[at]].cumsum(1)
        precision = np.divide(right, seen, out=np.zeros_like(right), where=seen > 0)
        envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        objects = np.maximum(total[first : first + step, None], 1)
        recall = right.astype(np.float64) / objects
        reached = np.searchsorted(RECALLS, recall, side="right")  # of the 101 recalls
        gained = np.diff(reached, axis=1, prepend=0)
        out[first : first + step] = (envelope * gained).sum(1) / len(RECALLS)
    return out


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of [B,N] without NaN; NaN where all are."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    total = np.where(known, values, 0).sum(-1, dtype=np.float64)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def digest(image_ids: Sequence[int]) -> str:
    """The same for two runs whose resamples are of the same images, drawn alike."""
    ids = np.array(sorted(image_ids), np.int64)
    return hashlib.sha256(ids.tobytes() + draw(len(ids), 2).tobytes()).hexdigest()[:16]
