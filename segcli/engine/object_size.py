"""How large the objects are that a model was trained on: which it can be trusted with after an image was resized."""

import statistics

import numpy as np

from segcli.data.annotations import area_of
from segcli.data.dataset import Dataset
from segcli.ops.preprocess import Preprocess
from segcli.sources.drawn import DrawnDataset

LOOKED = 300  # images at most, spread over the split
DRAWN = 30  # of images that have to be drawn for it, a tenth of a second each
LEAST = 16.0  # pixels of an object in the model's input: four cells of a map of stride 4
CLEAR = 32.0  # from so many on, COCO's scores no longer call an object small
NEARLY_ALL = 95  # percent of the training objects: what looks larger is unknown to the model
Size = tuple[int, int]  # (H, W)


def extents(dataset: Dataset, preprocess: Preprocess) -> tuple[float | None, float | None]:
    """√areas of the split's objects, crowds aside: the median, in pixels of the images, and the one that NEARLY_ALL do
    not exceed, in pixels of the model's input; None, None without objects."""
    before, after = [], []
    looked = DRAWN if isinstance(dataset, DrawnDataset) else LOOKED
    for i in range(0, len(dataset), max(1, -(-len(dataset) // looked))):
        scale = enlargement(dataset.sizes[i], preprocess.output_size(*dataset.sizes[i]))
        for annotation in dataset.annotations(i):
            area = 0.0 if annotation.get("iscrowd") else area_of(annotation, dataset.sizes[i])
            if area > 0:
                before.append(area**0.5)
                after.append(area**0.5 * scale)
    if not before:
        return None, None
    return round(statistics.median(before), 1), round(float(np.percentile(after, NEARLY_ALL)), 1)


def enlargement(before: Size, after: Size) -> float:
    """How many times as long the √area of an object becomes."""
    return (after[0] * after[1] / (before[0] * before[1])) ** 0.5


def too_large(largest: float | None, tile: float, whole: float) -> float:
    """The √area, in pixels of an image, from which objects are seen better in the whole image than in its tiles.

    In tiles they look larger than `largest`, the second of `extents`, and so than in training; in the whole image they
    have CLEAR pixels or more. tile, whole: how many times as long they become in the model's input. Infinite where it
    is not known how large they were in training. That a detector is asked at every scale only for the sizes that it
    learned there is the idea of SNIP (Singh and Davis 2018).
    """
    return float("inf") if largest is None else max(largest / tile, CLEAR / whole)


def too_small(extent: float | None, before: Size, after: Size) -> float | None:
    """The pixels that an object of `extent` has left where an image was resized from `before` to `after`, (H, W) each;
    None where these are LEAST or more, or as many as before."""
    if extent is None:
        return None
    left = extent * enlargement(before, after)
    return left if left < min(LEAST, extent) - 1e-6 else None
