"""How the parts of a polygon lie to one another and to themselves: parts inside others, outlines that cross."""

import itertools

import numpy as np
from pycocotools import mask as coco_mask

MOST_PARTS = 2000  # of one polygon that are compared with one another
BLOCK = 128  # edges of an outline that are compared with as many others at a time
MOST_PAIRS = 4_000  # pairs of blocks that are compared: what 11,000 tangled points have at most, some seconds


def depths(parts: list[list[float]], size: tuple[int, int]) -> np.ndarray:
    """int [P]: in how many larger parts each part lies wholly, on an image of `size` (h, w). 0 for parts without area,
    and for all where there are more than MOST_PARTS."""
    count = len(parts)
    out = np.zeros(count, np.int64)
    if not 2 <= count <= MOST_PARTS:
        return out
    rles = coco_mask.frPyObjects([part if len(part) >= 6 else [0.0] * 6 for part in parts], *size)
    areas = np.array([int(coco_mask.area(rle)) for rle in rles])  # one by one: of a list it takes no more than 255
    for start in range(0, count, BLOCK):
        some = slice(start, start + BLOCK)
        # IoU with a crowd is the intersection over the first one's own area
        shares = np.nan_to_num(coco_mask.iou(rles[some], rles, [1] * count))
        out[some] = ((shares > 0.99) & (areas[some, None] < areas[None]) & (areas[some, None] > 0)).sum(1)
    return out


def crossings(part: list[float]) -> tuple[int, bool]:
    """(how often the outline x, y, x, y, ... crosses itself, whether all of it was compared); edges that only touch do
    not cross. Blocks of edges whose boxes lie apart need no comparison, so that long outlines are quick as a rule."""
    p = np.array(part, np.float64).reshape(-1, 2)
    if len(p) < 4:
        return 0, True
    q = np.roll(p, -1, 0)
    starts = np.arange(0, len(p), BLOCK)
    low = np.minimum.reduceat(np.minimum(p, q), starts)
    high = np.maximum.reduceat(np.maximum(p, q), starts)
    count = compared = 0
    for i, start in enumerate(starts.tolist()):
        a = slice(start, start + BLOCK)
        count += int(np.triu(_crossed(p[a], q[a], p[a], q[a]), 1).sum())
        near = np.flatnonzero((low[i + 1 :] <= high[i]).all(1) & (high[i + 1 :] >= low[i]).all(1)) + i + 1
        for j in itertools.islice(near.tolist(), max(0, MOST_PAIRS - compared)):
            b = slice(j * BLOCK, (j + 1) * BLOCK)
            count += int(_crossed(p[a], q[a], p[b], q[b]).sum())
        compared += len(near)
    return count, compared <= MOST_PAIRS


def _crossed(p: np.ndarray, q: np.ndarray, r: np.ndarray, s: np.ndarray) -> np.ndarray:
    """bool [A,B]: whether the edges p-q [A,2] and r-s [B,2] cross: each parts the other's ends."""
    p, q = p[:, None], q[:, None]
    parts = _cross(q - p, r - p) * _cross(q - p, s - p) < 0
    return parts & (_cross(s - r, p - r) * _cross(s - r, q - r) < 0)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
