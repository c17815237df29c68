"""Which images show the same picture, also after scaling, re-encoding, a change of brightness or a narrow crop."""

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SIDE = 16  # pixels of a thumbnail, both ways: 1 KB an image as float32
ALIKE = 0.97  # correlation of two thumbnails from which on they are one picture; different photographs stay under 0.9
FLAT = 0.5  # standard deviation, in grey levels, under which a picture shows nothing that could be compared
BLOCK = 2048  # images compared at a time: 16 MB


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """uint8 RGB [H,W,3] -> float32 [SIDE²]: brightness on a coarse grid, of mean 0 and length 1; 0 for a flat image."""
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).mean(2).ravel()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return small / length if length > FLAT * SIDE else np.zeros_like(small)


def groups(thumbnails: Sequence[np.ndarray], alike: float = ALIKE) -> list[list[int]]:
    """Positions of the images that look alike, by what `thumbnail` gave: groups of two or more, ascending, the first
    ones first. Groups are transitive: frames of a slow video are one."""
    count = len(thumbnails)
    if not count:
        return []
    stacked = np.stack(thumbnails)
    left, right = [], []
    for i in range(0, count, BLOCK):
        for j in range(i, count, BLOCK):
            a, b = np.nonzero(stacked[i : i + BLOCK] @ stacked[j : j + BLOCK].T >= alike)
            left.append(a + i)
            right.append(b + j)
    pairs = np.concatenate(left), np.concatenate(right)
    graph = coo_array((np.ones(len(pairs[0]), bool), pairs), (count, count))
    _, names = connected_components(graph, directed=False)
    by_name: dict[int, list[int]] = {}
    for position, name in enumerate(names.tolist()):
        by_name.setdefault(name, []).append(position)
    return [group for group in by_name.values() if len(group) > 1]
