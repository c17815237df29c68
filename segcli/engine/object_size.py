"""How large the objects are that a model was trained on: what it is worth to look for after an image was shrunk."""

import statistics

from segcli.data.annotations import area_of
from segcli.data.dataset import Dataset

LOOKED = 300  # images at most, spread over the split
LEAST = 16.0  # pixels of an object in the model's input: four cells of a map of stride 4


def median_extent(dataset: Dataset) -> float | None:
    """The median √area of the split's objects, in pixels of the images, crowds aside; None without objects."""
    extents = []
    for i in range(0, len(dataset), max(1, -(-len(dataset) // LOOKED))):
        for annotation in dataset.annotations(i):
            area = 0.0 if annotation.get("iscrowd") else area_of(annotation, dataset.sizes[i])
            if area > 0:
                extents.append(area**0.5)
    return round(statistics.median(extents), 1) if extents else None


def too_small(extent: float | None, before: tuple[int, int], after: tuple[int, int]) -> float | None:
    """The pixels that an object of `extent` has left where an image was resized from `before` to `after`, (H, W) each;
    None where these are LEAST or more, or as many as before."""
    if extent is None:
        return None
    left = extent * (after[0] * after[1] / (before[0] * before[1])) ** 0.5
    return left if left < min(LEAST, extent) - 1e-6 else None
