"""COCO annotations of outlines and of pixels, and exact outlines of pixels.

Coordinates are continuous: pixel (0, 0) covers 0 to 1. A polygon along pixel borders covers the same pixels again when
pycocotools draws it, also where one path joins several parts and holes by bridges that it walks there and back.
"""

import itertools
import math
from collections.abc import Sequence

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from scipy import ndimage

from segcli.core.coco_json import Annotation
from segcli.core.errors import DataError
from segcli.data.annotations import encode, segmentation_problem

TOLERANCES = (1.0, 0.75, 0.5, 0.35)  # pixels that a simplified outline may be off
FAITHFUL = 0.99  # least IoU of what it encloses with the mask
CURVE = (16, 256)  # points of a circle, at least and at most


def annotate(shape: tuple[int, ...], mask: np.ndarray, y: int, x: int, category: int = 1) -> Annotation:
    """The COCO annotation of a tight bool mask [h,w] whose first pixel is at (y, x) of an image of `shape` (H, W)."""
    whole = np.zeros(shape, np.uint8, order="F")
    whole[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    return {
        "category_id": category,
        "bbox": [x, y, mask.shape[1], mask.shape[0]],
        "area": int(np.count_nonzero(mask)),
        "iscrowd": 0,
        "segmentation": {"size": list(shape), "counts": coco_mask.encode(whole)["counts"].decode("ascii")},
    }


def extent(mask: np.ndarray) -> tuple[slice, slice] | None:
    """The rows and columns of a bool mask [H,W] that its pixels reach over; None where it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def of_pixels(mask: np.ndarray, category: int = 1) -> Annotation | None:
    """The COCO annotation of a bool mask [H,W]; None where it is empty."""
    place = extent(mask)
    if place is None:
        return None
    return annotate(mask.shape, mask[place], place[0].start, place[1].start, category)


def of_polygons(parts: list[list[float]], size: tuple[int, int], category: int = 1) -> Annotation:
    """The COCO annotation of one object in `parts` on an image of `size` (H, W), with the box and area of its pixels.

    What can't be drawn has neither: the writer refuses it by name, the doctor lists it.
    """
    out: Annotation = {"category_id": category, "iscrowd": 0, "segmentation": parts}
    if segmentation_problem(parts, size) is None:
        rle = encode(parts, size)
        out |= {"bbox": coco_mask.toBbox(rle).tolist(), "area": int(coco_mask.area(rle))}
    return out


def of_rings(polygons: Sequence[Sequence[np.ndarray]], size: tuple[int, int], category: int) -> Annotation:
    """The COCO annotation of one object: of each polygon the outline, then its holes, as paths [N,2] of x, y."""
    return of_polygons([joined(rings).ravel().tolist() for rings in polygons], size, category)


def of_box(x: float, y: float, width: float, height: float, category: int) -> Annotation:
    """The COCO annotation of a box without a mask."""
    return {"category_id": category, "iscrowd": 0, "bbox": [x, y, width, height], "area": width * height}


def rectangle(x1: float, y1: float, x2: float, y2: float) -> list[float]:
    """Corners in any order -> x, y, x, y, … of the outline."""
    x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def ellipse(cx: float, cy: float, rx: float, ry: float, angle: float = 0.0) -> list[float]:
    """x, y, x, y, … around an ellipse, about a point a pixel. angle: radians, from the x towards the y axis."""
    count = round(min(max(CURVE[0], 2 * math.pi * max(abs(rx), abs(ry))), CURVE[1]))
    t = np.arange(count) * (2 * math.pi / count)
    x, y = rx * np.cos(t), ry * np.sin(t)
    c, s = math.cos(angle), math.sin(angle)
    return [float(v) for v in np.stack([cx + x * c - y * s, cy + x * s + y * c], 1).ravel()]


def turned(points: list[float], angle: float, about: tuple[float, float] | None = None) -> list[float]:
    """x, y, x, y, … turned by an angle in radians, from the x towards the y axis, about a point; None: their middle."""
    xy = np.reshape(points, (-1, 2))
    centre = xy.mean(0) if about is None else np.array(about)
    c, s = math.cos(angle), math.sin(angle)
    return [float(v) for v in ((xy - centre) @ np.array([[c, s], [-s, c]]) + centre).ravel()]


def stroke(points: Sequence[tuple[float, float]], width: float) -> list[list[float]]:
    """A line through `points` (x, y), `width` pixels wide, as polygons that overlap: its pieces, and a round joint
    between two of them. Of points that are all one: a dot."""
    xy = np.array(points, float)
    joints = xy[1:-1] if (xy != xy[0]).any() else xy[:1]
    out = [ellipse(x, y, width / 2, width / 2) for x, y in joints.tolist()]
    for (x1, y1), (x2, y2) in itertools.pairwise(xy.tolist()):
        if length := math.hypot(x2 - x1, y2 - y1):
            dx, dy = (y1 - y2) / length * width / 2, (x2 - x1) / length * width / 2
            out.append([x1 + dx, y1 + dy, x2 + dx, y2 + dy, x2 - dx, y2 - dy, x1 - dx, y1 - dy])
    return out


def paint(pixels: np.ndarray, mask: np.ndarray, x: int, y: int) -> None:
    """Add a bool mask [h,w] whose first pixel is at (y, x) to bool [H,W]; what reaches outside is cut."""
    inside = mask[max(-y, 0) : max(pixels.shape[0] - y, 0), max(-x, 0) : max(pixels.shape[1] - x, 0)]
    if inside.size:
        pixels[max(y, 0) : max(y, 0) + inside.shape[0], max(x, 0) : max(x, 0) + inside.shape[1]] |= inside


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """The borders of a bool mask [H,W], of its parts and of their holes, along pixel edges: int [N,2] of x, y."""
    place = extent(mask)
    if place is None:
        return []
    tight = mask[place].astype(np.uint8)
    # every pixel as 2 x 2: a contour through their centres then says on which side of an edge it runs
    big = np.pad(tight.repeat(2, 0).repeat(2, 1), 1)
    found, _ = cv2.findContours(big, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    out = []
    for contour in found:
        points = contour[:, 0] // 2  # less the border of 1, plus the 1 that rounds up
        points = points[(points != np.roll(points, 1, 0)).any(1)]
        before, after = np.sign(points - np.roll(points, 1, 0)), np.sign(np.roll(points, -1, 0) - points)
        out.append(points[(before != after).any(1)] + [place[1].start, place[0].start])
    return out


def one_polygon(mask: np.ndarray) -> np.ndarray:
    """A bool mask [H,W] as one closed path [N,2], its parts and holes joined by bridges; empty where the mask is."""
    return joined(outlines(mask))


def simplified(mask: np.ndarray) -> list[list[np.ndarray]]:
    """The parts of a bool mask [H,W], each as its outline and those of its holes ([N,2] of x, y), with few points.

    Douglas and Peucker's (1973) rule leaves out points no farther than a tolerance from the line that remains: of the
    borders' corners, and of the middles of their pixels' edges, which no staircase runs through. For each part, what
    has fewest points counts, of an IoU of at least FAITHFUL with its pixels when it is drawn.
    """
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    out = []
    for number, place in enumerate(ndimage.find_objects(labels), 1):
        shift = np.array([place[1].start, place[0].start])
        part = labels[place] == number
        out.append([loop + shift for loop in _few_points(part)])
    return out


def _few_points(part: np.ndarray) -> list[np.ndarray]:
    """The outline of a connected bool mask [H,W], then those of its holes, with few points."""
    exact = sorted(outlines(part), key=_enclosed, reverse=True)
    best = exact
    for tolerance in TOLERANCES:
        for made in (exact, [_middles(loop) for loop in exact]):
            fewer = [_fewer_points(loop, tolerance) for loop in made]
            if sum(map(len, fewer)) >= sum(map(len, best)):
                continue
            again = coco_mask.decode(encode([joined(fewer).ravel().tolist()], part.shape))
            both = np.count_nonzero(again & part)
            if both >= FAITHFUL * (np.count_nonzero(again) + np.count_nonzero(part) - both):
                best = fewer
    return best


def _middles(loop: np.ndarray) -> np.ndarray:
    """The middle of every pixel's edge along a loop [N,2]."""
    steps = np.abs(np.roll(loop, -1, 0) - loop).sum(1)
    along = np.concatenate([np.arange(n) + 0.5 for n in steps]) / np.repeat(steps, steps)
    return np.repeat(loop, steps, 0) + along[:, None] * np.repeat(np.roll(loop, -1, 0) - loop, steps, 0)


def joined(loops: Sequence[np.ndarray]) -> np.ndarray:
    """Outlines and holes as one closed path [N,2], with bridges between them that are walked there and back."""
    if len(loops) < 2:
        return loops[0] if loops else np.zeros((0, 2), np.int64)
    there = [np.concatenate([loop, loop[:1]]) for loop in loops]
    return np.concatenate([*there, *(loop[:1] for loop in loops[-2::-1])])


def _enclosed(loop: np.ndarray) -> float:
    """The area inside a closed path [N,2]."""
    x, y = loop[:, 0].astype(float), loop[:, 1].astype(float)
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def _fewer_points(loop: np.ndarray, tolerance: float) -> np.ndarray:
    """The loop itself where nothing but a line would remain."""
    short = cv2.approxPolyDP(loop.astype(np.float32)[:, None], tolerance, True)[:, 0].astype(float)
    return short if len(short) >= 3 and _enclosed(short) > 0 else loop


def drawn(parts: list[list[float]], size: tuple[int, int], where: object) -> np.ndarray:
    """The pixels of polygons as bool [H,W]. Raises DataError for what can't be drawn."""
    problem = segmentation_problem(parts, size)
    if problem is not None:
        raise DataError(f"{where}: {problem}")
    return coco_mask.decode(encode(parts, size)).astype(bool)
