"""What is doubtful in one annotation: the rules that the doctor reports by and `--fix` mends by.

What is wrong: a box or polygon reaches outside its image, box and mask do not fit, an area is not the mask's, a polygon
crosses itself or has a hole, a mask is empty or runs along the rows.
Why: such labels load, and teach or score something else than what was drawn.
Example: a box written as x1, y1, x2, y2 where COCO has x, y, width, height.
Mended: `doctor/repair/mend.py`, from the mask where there is one.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from segcli.core.coco_json import Annotation
from segcli.data.annotations import annotation_problems, encode
from segcli.data.mask_order import reading
from segcli.data.outline_rules import MOST_PARTS, crossings, depths
from segcli.types import Rle

OUTSIDE = 1.0  # pixels that a box or polygon may reach outside its image: rounding, no mistake
SMALL = 3  # pixels that box and mask may differ by, whatever their IoU: tiny objects
LIKE = 0.5  # IoU of an annotated box with its mask's own box, at least
AREAS = 0.3  # share that area and mask may differ by, and AREA pixels whatever the share: polygons have fractions
AREA = 64


def sound(annotation: Mapping[str, object], size: tuple[int, int], *keys: str) -> bool:
    """Whether the values at `keys` are well-formed, whatever the others are."""
    part = {"id": 0, "image_id": 0, "category_id": 0, "bbox": [0, 0, 1, 1]}
    part |= {key: annotation[key] for key in keys if annotation.get(key) is not None}
    return next(annotation_problems([part], {0: size}, {0}), None) is None


def rle_of_another_size(annotation: Annotation, size: tuple[int, int]) -> bool:
    """Whether the mask is an RLE that says another size than the image's (h, w)."""
    segmentation = annotation.get("segmentation")
    return isinstance(segmentation, dict) and segmentation.get("size") != list(size)


class Measured(NamedTuple):
    """A mask that covers something: as one RLE, how many pixels, and its tight box x, y, w, h (float64 [4])."""

    rle: Rle
    area: int
    box: np.ndarray


def label_problems(annotation: Annotation, size: tuple[int, int]) -> list[tuple[str, str]]:
    """(code, detail) of what is doubtful in one well-formed annotation on an image of `size` (h, w)."""
    return measure(annotation, size)[0]


def measure(
    annotation: Annotation, size: tuple[int, int], *, checked: bool = False
) -> tuple[list[tuple[str, str]], Measured | None]:
    """`label_problems`, and what the mask is like where there is one that covers something. checked: as of `encode`."""
    h, w = size
    out: list[tuple[str, str]] = []
    box, segmentation = annotation.get("bbox"), annotation.get("segmentation")
    if box is not None:
        x, y, bw, bh = box
        if bw == 0 or bh == 0:
            out.append(("degenerate_box", f"{box}"))
        if min(x, y) < -OUTSIDE or x + bw > w + OUTSIDE or y + bh > h + OUTSIDE:
            out.append(("box_outside", f"{box} on {w} x {h}"))
    if not segmentation:
        return [*out, ("no_mask", "")], None
    if isinstance(segmentation, list):
        short = sum(len(part) < 6 for part in segmentation)
        if short:
            out.append(("short_polygon", f"{short} of {len(segmentation)} parts"))
        points = np.array([v for part in segmentation for v in part], np.float64).reshape(-1, 2)
        if len(points) and (points.min() < -OUTSIDE or (points > (w + OUTSIDE, h + OUTSIDE)).any()):
            low, high = points.min(0).tolist(), points.max(0).tolist()
            out.append(("polygon_outside", f"x {low[0]:g} to {high[0]:g}, y {low[1]:g} to {high[1]:g} on {w} x {h}"))
        holes = int((depths(segmentation, size) > 0).sum())
        if holes:
            out.append(("hole", f"{holes} parts"))
        outlines = [crossings(part) for part in segmentation]
        crossed = sum(count for count, _ in outlines)
        if not all(whole for _, whole in outlines) or len(segmentation) > MOST_PARTS:
            out.append(("long_outline", f"{len(points):,} points, {len(segmentation):,} parts"))
        if crossed:
            out.append(("self_intersecting", f"crosses itself {'once' if crossed == 1 else f'{crossed} times'}"))
    try:
        rle = encode(segmentation, size, checked=checked)
    except ValueError as error:
        return [*out, ("malformed", str(error))], None
    covered = int(coco_mask.area(rle))
    if covered == 0:
        return [*out, ("empty_mask", "")], None
    area = annotation.get("area")
    if area is not None and abs(area - covered) > max(AREA, AREAS * max(area, covered)):
        out.append(("area_mismatch", f"area {area:g}, mask {covered} pixels"))
    tight = coco_mask.toBbox(rle)
    if box is not None and box[2] > 0 and box[3] > 0:
        overlap = float(coco_mask.iou(tight[None], np.array([box], np.float64), [0])[0, 0])
        if overlap < LIKE and np.abs(tight - box).max() > SMALL:
            rows = isinstance(segmentation, dict) and reading(segmentation, box, size) == "rows"
            code = "row_major" if rows else "box_mismatch"
            out.append((code, f"box {box}, mask {tight.tolist()}, IoU {overlap:.2f}"))
    return out, Measured(rle, covered, tight)
