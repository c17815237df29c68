"""The shapes of CVAT's xml as COCO annotations, with their attributes as CVAT's own COCO export has them."""

import math
from collections.abc import Mapping, Sequence
from typing import cast
from xml.etree.ElementTree import Element

import numpy as np

from segcli.core.coco_json import Annotation
from segcli.core.errors import DataError
from segcli.data.decoders import MOST_PIXELS
from segcli.sources import shapes
from segcli.sources.files import some

NO_AREA = ("polyline", "points", "cuboid", "tag")
AREA = ("polygon", "box", "ellipse", "mask", "skeleton")
CROWD = "is_crowd"  # the attribute by which CVAT's COCO import and export carry iscrowd
FARTHEST = 10**6  # pixels from the image's corner at which a mask may begin


def as_coco(
    group: list[tuple[str, Element]], size: tuple[int, int], ids: Mapping[str, int], points: Mapping[str, Sequence[str]]
) -> Annotation | None:
    """The annotation of one object of an image of `size` (H, W); None where its mask is empty.

    group: its shapes, each with its place for messages. ids, points: of a label, its source id and the names of its
    keypoints. Raises DataError for broken shapes.
    """
    label = group[0][1].get("label") or ""
    parts: list[list[float]] = []
    pixels: np.ndarray | None = None
    box: list[float] | None = None
    out: Annotation | None = None
    keypoints: list[float] = []
    bare = [shape.tag for _, shape in group if shape.tag != "skeleton"] == ["box"]
    for where, shape in group:
        if shape.tag == "mask":
            pixels = _paint(np.zeros(size, bool) if pixels is None else pixels, shape, where)
        elif shape.tag == "skeleton":
            keypoints = _keypoints(shape, points[label], where)
        elif bare and not _number(shape, "rotation", where):
            box = _corners(shape, where)
        else:
            parts.append(_outline(shape, where))
    if pixels is not None:
        if parts:
            pixels |= shapes.drawn(parts, size, group[0][0])
        out = shapes.of_pixels(pixels, ids[label])
    elif parts:
        out = shapes.of_polygons(parts, size, ids[label])
    elif box is not None or keypoints:
        seen = np.reshape(keypoints, (-1, 3))
        x1, y1, x2, y2 = box if box is not None else _around(seen[seen[:, 2] > 0, :2])
        out = shapes.of_box(x1, y1, x2 - x1, y2 - y1, ids[label])
    if out is None:
        return None
    if keypoints:
        out |= {"keypoints": keypoints, "num_keypoints": sum(v > 0 for v in keypoints[2::3])}
    attributes = {a.get("name", ""): a.text or "" for _, shape in group for a in shape.findall("attribute")}
    if attributes.pop(CROWD, "").lower() == "true":
        out["iscrowd"] = 1
    if any(shape.get("occluded") == "1" for _, shape in group):
        out["occluded"] = 1
    return cast(Annotation, {**out, "attributes": attributes}) if attributes else out


def _around(seen: np.ndarray) -> tuple[float, float, float, float]:
    """The box around points [N,2]; of none, at 0."""
    if not len(seen):
        return 0.0, 0.0, 0.0, 0.0
    (x1, y1), (x2, y2) = seen.min(0).tolist(), seen.max(0).tolist()
    return x1, y1, x2, y2


def _number(shape: Element, name: str, where: str) -> float:
    """A number of a shape; 0 for a rotation that is not said."""
    text = shape.get(name)
    try:
        value = float(text if text is not None or name != "rotation" else 0)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: its {name} is {text!r:.40}, which is no number")
    return value


def _corners(shape: Element, where: str) -> list[float]:
    x1, y1, x2, y2 = (_number(shape, key, where) for key in ("xtl", "ytl", "xbr", "ybr"))
    return [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]


def _outline(shape: Element, where: str) -> list[float]:
    """x, y, x, y, …"""
    angle = math.radians(_number(shape, "rotation", where))
    if shape.tag == "ellipse":
        cx, cy, rx, ry = (_number(shape, key, where) for key in ("cx", "cy", "rx", "ry"))
        return shapes.ellipse(cx, cy, rx, ry, angle)
    if shape.tag == "polygon":
        return [v for point in _points(shape, where, 3) for v in point]
    x1, y1, x2, y2 = _corners(shape, where)
    return shapes.turned(shapes.rectangle(x1, y1, x2, y2), angle)


def _points(shape: Element, where: str, fewest: int) -> list[tuple[float, float]]:
    text = shape.get("points") or ""
    try:
        points = [(float(x), float(y)) for x, y in (pair.split(",") for pair in text.split(";"))]
    except ValueError:
        points = []
    if len(points) < fewest or not np.isfinite(points).all():
        raise DataError(f"{where}: its points are {text!r:.60}, which are not {fewest} or more of x,y")
    return points


def _keypoints(shape: Element, names: Sequence[str], where: str) -> list[float]:
    """x, y and visibility of each point that the skeleton's label declares."""
    out = [0.0] * (3 * len(names))
    for point in shape.findall("points"):
        name = point.get("label")
        if name not in names:
            raise DataError(f"{where}: its point {name!r:.60} is not among those of its label: {some(names)}")
        if point.get("outside") != "1":
            place = 3 * names.index(name)
            out[place : place + 3] = [*_points(point, where, 1)[0], 1.0 if point.get("occluded") == "1" else 2.0]
    return out


def _paint(pixels: np.ndarray, shape: Element, where: str) -> np.ndarray:
    """Add a mask to bool [H,W]; what reaches outside the image is cut."""
    try:
        runs = [int(run) for run in (shape.get("rle") or "").split(",")]
        x, y, w, h = (int(shape.get(key) or "") for key in ("left", "top", "width", "height"))
    except ValueError:
        raise DataError(f"{where}: its rle, left, top, width and height are not whole numbers") from None
    wrong = min(runs) < 0 or w < 1 or h < 1 or sum(runs) != w * h or w * h > MOST_PIXELS
    if wrong or max(abs(x), abs(y)) > FARTHEST:
        raise DataError(f"{where}: its runs have {sum(runs)} pixels, and its box {w} x {h} at {x}, {y}")
    shapes.paint(pixels, np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(h, w), x, y)
    return pixels
