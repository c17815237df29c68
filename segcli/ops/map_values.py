"""The values of a map of whole numbers (ids, labels), and each pixel's place among them.

Neighbours in such a map are mostly equal: the runs of equal pixels are found in a pass, and these few are sorted where
np.unique sorts all pixels.
"""

import numpy as np

COUNTED = 4096  # values up to here are counted, not sorted; higher ones where there are more runs than values


def distinct(values: np.ndarray) -> np.ndarray:
    """The values of a map [H,W], sorted: np.unique(values)."""
    return np.unique(values.ravel()[_starts(values)])


def ranked(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(the values of a map [H,W] of one pixel or more, sorted; on how many pixels each is, int64; for every pixel the
    place of its value among them, int32 [H,W])."""
    starts = _starts(values)
    runs, lengths = values.ravel()[starts], np.diff(starts, append=values.size)
    if runs.min() >= 0 and runs.max() < max(COUNTED, len(runs)):
        pixels = np.bincount(runs, lengths).astype(np.int64)
        present = np.flatnonzero(pixels)
        table = np.zeros(len(pixels), np.int32)
        table[present] = np.arange(len(present))
        places, pixels = table[runs.astype(np.intp)], pixels[present]
    else:
        present, inverse = np.unique(runs, return_inverse=True)
        places, pixels = inverse.astype(np.int32), np.bincount(inverse, lengths).astype(np.int64)
    return present, pixels, np.repeat(places, lengths).reshape(values.shape)


def _starts(values: np.ndarray) -> np.ndarray:
    """The first pixels of runs of equal ones, row after row."""
    flat = values.ravel()
    return np.flatnonzero(np.concatenate([np.ones(min(1, flat.size), bool), flat[1:] != flat[:-1]]))
