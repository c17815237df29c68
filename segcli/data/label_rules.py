"""What is doubtful in one annotation: the rules that the doctor reports by and `--fix` repairs by."""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from segcli.data.annotations import annotation_problems, encode

OUTSIDE = 1.0  # pixels that a box or polygon may reach outside its image: rounding, no mistake
SMALL = 3  # pixels that box and mask may differ by, whatever their IoU: tiny objects
LIKE = 0.5  # IoU of an annotated box with its mask's own box, at least
AREAS = 0.3  # share that area and mask may differ by, and AREA pixels whatever the share: polygons have fractions
AREA = 64
STEP = 512  # edges of a polygon compared with all others at a time


def sound(annotation: dict[str, Any], size: tuple[int, int], *keys: str) -> bool:
    """Whether the values at `keys` are well-formed, whatever the others are."""
    part = {"id": 0, "image_id": 0, "category_id": 0, "bbox": [0, 0, 1, 1]}
    part |= {key: annotation[key] for key in keys if annotation.get(key) is not None}
    return next(annotation_problems([part], {0: size}, {0}), None) is None


def rle_of_another_size(annotation: dict[str, Any], size: tuple[int, int]) -> bool:
    """Whether the mask is an RLE that says another size than the image's (h, w)."""
    segmentation = annotation.get("segmentation")
    return isinstance(segmentation, dict) and segmentation.get("size") != list(size)


def label_problems(annotation: dict[str, Any], size: tuple[int, int]) -> list[tuple[str, str]]:
    """(code, detail) of what is doubtful in one well-formed annotation on an image of `size` (h, w)."""
    h, w = size
    out = []
    box, segmentation = annotation.get("bbox"), annotation.get("segmentation")
    if box is not None:
        x, y, bw, bh = box
        if bw == 0 or bh == 0:
            out.append(("degenerate_box", f"{box}"))
        if min(x, y) < -OUTSIDE or x + bw > w + OUTSIDE or y + bh > h + OUTSIDE:
            out.append(("box_outside", f"{box} on {w} x {h}"))
    if not segmentation:
        return [*out, ("no_mask", "")]
    if isinstance(segmentation, list):
        short = sum(len(part) < 6 for part in segmentation)
        if short:
            out.append(("short_polygon", f"{short} of {len(segmentation)} parts"))
        points = np.array([v for part in segmentation for v in part], np.float64).reshape(-1, 2)
        if len(points) and (points.min() < -OUTSIDE or (points > (w + OUTSIDE, h + OUTSIDE)).any()):
            low, high = points.min(0).tolist(), points.max(0).tolist()
            out.append(("polygon_outside", f"x {low[0]:g} to {high[0]:g}, y {low[1]:g} to {high[1]:g} on {w} x {h}"))
        holes = int(inside(segmentation, size).any(1).sum())
        if holes:
            out.append(("hole", f"{holes} parts"))
        crossed = sum(crossings(part) for part in segmentation)
        if crossed:
            out.append(("self_intersecting", f"crosses itself {'once' if crossed == 1 else f'{crossed} times'}"))
    try:
        rle = encode(segmentation, size)
    except ValueError as error:
        return [*out, ("malformed", str(error))]
    covered = int(coco_mask.area(rle))
    if covered == 0:
        return [*out, ("empty_mask", "")]
    area = annotation.get("area")
    if area is not None and abs(area - covered) > max(AREA, AREAS * max(area, covered)):
        out.append(("area_mismatch", f"area {area:g}, mask {covered} pixels"))
    tight = coco_mask.toBbox(rle)
    if box is not None and box[2] > 0 and box[3] > 0:
        overlap = float(coco_mask.iou(tight[None], np.array([box], np.float64), [0])[0, 0])
        if overlap < LIKE and np.abs(tight - box).max() > SMALL:
            out.append(("box_mismatch", f"box {box}, mask {tight.tolist()}, IoU {overlap:.2f}"))
    return out


def inside(parts: list[list[float]], size: tuple[int, int]) -> np.ndarray:
    """bool [P,P]: whether the part i of a polygon lies wholly in the larger part j; parts without area in none."""
    drawn = [part if len(part) >= 6 else [0.0] * 6 for part in parts]
    if len(drawn) < 2:
        return np.zeros((len(drawn), len(drawn)), bool)
    rles = coco_mask.frPyObjects(drawn, *size)
    areas = coco_mask.area(rles).astype(np.int64)
    # IoU with a crowd is the intersection over the first one's own area
    shares = np.nan_to_num(coco_mask.iou(rles, rles, [1] * len(rles)))
    return (shares > 0.99) & (areas[:, None] < areas[None]) & (areas[:, None] > 0)


def crossings(part: list[float]) -> int:
    """How often the outline x, y, x, y, ... crosses itself; edges that only touch do not."""
    p = np.array(part, np.float64).reshape(-1, 2)
    if len(p) < 4:
        return 0
    edge = np.roll(p, -1, 0) - p
    count = 0
    for start in range(0, len(p), STEP):
        a = slice(start, start + STEP)
        # side[i, j]: on which side of edge i the point j lies; edges cross where each parts the other's ends
        side = _cross(edge[a, None], p[None] - p[a, None])
        back = _cross(edge[None], p[a, None] - p[None])
        ends = _cross(edge[None], p[a, None] + edge[a, None] - p[None])
        parted = (side * np.roll(side, -1, 1) < 0) & (back * ends < 0)
        count += int(np.triu(parted, start + 1).sum())
    return count


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
