"""Whether an RLE runs down the columns, as COCO has it, or along the rows, as many a homemade script writes it.

Both readings have the same number of pixels; the annotated box tells which one was meant.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pycocotools import mask as coco_mask

from segcli.core.coco_json import JsonRle, Rle
from segcli.data.annotations import encode

FITS = 0.9  # IoU of the annotated box with the box of the reading that was meant, at least
MISSES = 0.5  # and with that of the other one, at most


def reading(segmentation: JsonRle, box: Sequence[float], size: tuple[int, int]) -> Literal["columns", "rows"] | None:
    """Which reading of a well-formed RLE the box x, y, w, h agrees with on an image of `size` (h, w); None where it
    agrees with both or neither."""
    try:
        rle = encode(segmentation, size)
    except ValueError:
        return None
    fits = [overlap(coco_mask.toBbox(rle), box)]
    if MISSES <= fits[0] < FITS:  # neither right nor wrong enough to tell
        return None
    fits.append(overlap(coco_mask.toBbox(by_rows(rle)), box))
    if max(fits) < FITS or min(fits) >= MISSES:
        return None
    return "columns" if fits[0] > fits[1] else "rows"


def by_rows(rle: Rle) -> Rle:
    """The mask that the same runs are when they go along the rows."""
    pixels = coco_mask.decode(rle)
    return coco_mask.encode(np.asfortranarray(pixels.ravel("F").reshape(pixels.shape)))


def overlap(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """IoU of two boxes x, y, w, h."""
    one, other = (np.array(box, np.float64).reshape(1, 4) for box in (a, b))
    return float(coco_mask.iou(one, other, [0])[0, 0])
