"""Masks that are hardly what was meant, each by itself and in pairs.

What is wrong: a mask covers one pixel or its whole image, or consists of a hundred parts; two objects of an image have
nearly the same shape.
Why: a click too many, a threshold's noise, an inverted mask, an object that was labelled twice, once as another class.
Example: two annotators' outlines of one car, IoU 0.93.
Mended: by the owner; only an object that is there twice with the very same mask is left out by `--fix`.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from segcli.core.coco_json import Annotation
from segcli.data.annotations import crop_rle
from segcli.data.label_rules import Measured
from segcli.types import Rle

PIECES = 100  # components from which on a mask is taken for noise
SPECK = 16  # pixels that a run of a speckled mask is long on average, at most: solid masks need no closer look
WHOLE = 0.98  # share of the image from which on a mask is the whole of it
SAME = 0.9  # IoU from which on two objects have nearly the same shape
NEAR = 0.05  # share of its sides by which such an object's box may lie elsewhere, and 2 pixels whatever the share


def shape_problems(measured: Measured, size: tuple[int, int]) -> Iterator[tuple[str, str]]:
    """(code, detail) of what is doubtful in one mask on an image of `size` (h, w)."""
    if measured.area == 1:
        yield "one_pixel", ""
    if measured.area >= WHOLE * size[0] * size[1]:
        yield "whole_image", f"{100 * measured.area / (size[0] * size[1]):.0f} % of the image"
    parts = pieces(measured.rle, measured.area, measured.box)
    if parts >= PIECES:
        yield "speckled", f"{parts:,} parts, {measured.area:,} pixels"


def pieces(rle: Rle, area: int, box: np.ndarray) -> int:
    """How many parts that touch nowhere a mask has; 1 for one whose runs are too few or too long to have PIECES."""
    groups = np.frombuffer(rle["counts"], np.uint8)
    runs = int(((groups - np.uint8(48)) & 32 == 0).sum()) // 2  # of ones: a number ends where no group follows
    if runs < PIECES or area > SPECK * runs:
        return 1
    x, y, w, h = (int(v) for v in box)
    crop = crop_rle(rle, x, y, x + w, y + h).astype(np.uint8)
    return int(cv2.connectedComponents(crop, connectivity=8)[0]) - 1


def same_shapes(
    annotations: Sequence[Annotation], measured: Sequence[Measured | None]
) -> Iterator[tuple[int, int, float]]:
    """(i, j, IoU) of an image's objects with nearly the same shape, i < j; crowds aside. Of objects of a box alone the
    boxes are compared. measured: of each annotation that has a mask."""
    single = [
        i for i, a in enumerate(annotations) if not a.get("iscrowd") and (measured[i] is not None or a.get("bbox"))
    ]
    boxes = np.array([_box(annotations[i], measured[i]) for i in single], np.float64).reshape(-1, 4)
    order = np.argsort(boxes[:, 0], kind="stable")
    boxes = boxes[order]
    reach = np.maximum(2, NEAR * boxes[:, [2, 3, 2, 3]])
    for offset in range(1, len(boxes)):
        gap = np.abs(boxes[offset:] - boxes[:-offset])
        if (boxes[offset:, 0] - boxes[:-offset, 0]).min() > reach[:, 0].max():
            return
        for k in np.flatnonzero((gap <= reach[:-offset]).all(1)).tolist():
            i, j = sorted((single[order[k]], single[order[k + offset]]))
            overlap = _overlap(annotations[i], measured[i], annotations[j], measured[j])
            if overlap >= SAME:
                yield i, j, overlap


def _box(annotation: Annotation, measured: Measured | None) -> np.ndarray:
    return np.array(annotation["bbox"], np.float64) if measured is None else measured.box


def _overlap(a: Annotation, of_a: Measured | None, b: Annotation, of_b: Measured | None) -> float:
    if (of_a is None) != (of_b is None):
        return 0.0
    if of_a is not None and of_b is not None:
        return float(coco_mask.iou([of_a.rle], [of_b.rle], [0])[0, 0])
    return float(coco_mask.iou(_box(a, None)[None], _box(b, None)[None], [0])[0, 0])
