"""Masks, boxes and labels drawn over an image, to be looked at."""

import math

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from segcli.core.dataset_info import DatasetInfo
from segcli.data.annotations import crop_rle
from segcli.drawing.chips import CROWD, Chip, draw_chips
from segcli.drawing.colours import Rgb, class_colours, object_colours
from segcli.drawing.text import text_size
from segcli.types import Drawn, Instances, Panoptic, Prediction, Target, ignore_label, mask_boxes

SMALLEST = 480  # images with a shorter longest side are enlarged, so that outlines and text have room
SPECKS = 200  # outlines of one mask, holes among them, beyond which it is drawn as pixels: smooth lines take seconds
_SUB = 4  # bits after the point in OpenCV's coordinates


def draw(
    image: np.ndarray,
    found: Prediction | Target,
    info: DatasetInfo,
    *,
    score: float = 0.0,
    labels: bool = True,
    boxes: bool | None = None,
    alpha: float = 0.42,
    width: int | None = None,
    colours: list[Rgb] | None = None,
    numbers: list[int] | None = None,
) -> np.ndarray:
    """What is predicted or labelled, over the image: uint8 RGB [H,W,3] -> uint8 RGB [kH,kW,3].

    The panoptic map is drawn where there is one, else the semantic map, else the instances with at least `score`.
    k is 1, or a whole number that brings the longest side of a small image to about `SMALLEST` pixels; with `width` it
    is what makes the picture that wide, and lines and text are drawn for that size. boxes: thin box lines; None draws
    them where there are no masks. alpha: strength of the fill. colours: RGB of each instance (of all, also those with
    a lower score), else `object_colours`. numbers: what to call each instance besides. Crowd regions are hatched.
    """
    factor = width / image.shape[1] if width else float(max(1, round(SMALLEST / max(image.shape[:2]))))
    if factor == 1:
        canvas = image.copy()
    else:
        size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
        canvas = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA)
    if found.panoptic is not None:
        chips = _draw_panoptic(canvas, found.panoptic, info, factor, alpha)
    elif found.semantic is not None:
        chips = _draw_semantic(canvas, np.asarray(found.semantic), info, factor, alpha)
    else:
        instances = found.instances if found.instances is not None else Instances.empty()
        colours = colours or object_colours(instances.labels.tolist(), info)
        if score > 0 and instances.scores is not None:
            kept = (instances.scores >= score).nonzero()[:, 0]
            instances, colours = instances[kept], [colours[i] for i in kept.tolist()]
            numbers = [numbers[i] for i in kept.tolist()] if numbers else None
        chips = _draw_instances(canvas, instances, info, colours, factor, alpha, boxes, numbers)
    if labels:
        draw_chips(canvas, chips, text_size(canvas.shape[:2]))
    return canvas


def _draw_instances(
    canvas: np.ndarray,
    found: Instances,
    info: DatasetInfo,
    colours: list[Rgb],
    factor: float,
    alpha: float,
    boxes: bool | None,
    numbers: list[int] | None,
) -> list[Chip]:
    names = info.names
    corners = found.boxes.double().cpu().numpy() * factor
    sides = np.sqrt((corners[:, 2] - corners[:, 0]).clip(0) * (corners[:, 3] - corners[:, 1]).clip(0))
    order = np.argsort(-sides, kind="stable")
    # an outline must not eat the object: many small ones get thin lines
    width = max(1, min(_line_width(canvas), round(float(np.median(sides)) / 24))) if len(found) else 1
    for i in order.tolist():  # small ones last, on top
        crowd = found.crowd is not None and bool(found.crowd[i])
        if found.masks is not None:
            cut = _crop(found, i)
            if cut is not None:
                _paint(canvas, *cut, factor, colours[i], alpha, width, hatched=crowd)
        if found.masks is None and boxes is not False:
            _rectangle(canvas, corners[i], colours[i], width)
        elif boxes:
            _rectangle(canvas, corners[i], colours[i], max(1, width // 2))
    for field in found.fields.values():
        if isinstance(field, Drawn):
            field.draw(canvas, found, info, factor, colours)
    chips = []
    for i, label in enumerate(found.labels.tolist()):
        texts = [names[label]]
        if found.scores is not None:
            percent = f"{round(100 * float(found.scores[i]))} %"
            texts = [f"{names[label]} {percent}", percent]
            if numbers is not None:
                texts = [f"{names[label]} {numbers[i]}, {percent}", str(numbers[i])]
        elif found.crowd is not None and bool(found.crowd[i]):
            texts = [f"{names[label]} (crowd)", names[label]]
        x1, y1, x2, y2 = corners[i].tolist()
        chips.append(Chip(texts, colours[i], (x1, y1, x2, y2)))
    by_score = np.argsort(-found.scores.cpu().numpy(), kind="stable") if found.scores is not None else order
    return [chips[i] for i in by_score.tolist()]


def _draw_panoptic(canvas: np.ndarray, found: Panoptic, info: DatasetInfo, factor: float, alpha: float) -> list[Chip]:
    # stuff first, so that the outlines of things stay whole
    segments = sorted(found.segments, key=lambda s: s.label < info.num_things)
    colours = object_colours([s.label for s in segments], info)
    chips = []
    for segment, colour in zip(segments, colours, strict=True):
        thing = segment.label < info.num_things
        cut = _cut(found.ids == segment.id)
        if cut is not None:
            _paint(canvas, *cut, factor, colour, alpha, _line_width(canvas), hatched=segment.crowd)
            name = info.names[segment.label]
            texts = [f"{name} (crowd)", name] if segment.crowd else [name]
            room = 0.0 if thing else float(cut[0].sum()) * factor**2
            chips.append(Chip(texts, colour, _label_box(*cut, factor, thing), not thing, room))
    return chips[::-1]


def _draw_semantic(canvas: np.ndarray, found: np.ndarray, info: DatasetInfo, factor: float, alpha: float) -> list[Chip]:
    colours = class_colours(info)
    chips, ignore = [], ignore_label(len(colours))
    for label, pixels in zip(*(part.tolist() for part in np.unique(found, return_counts=True)), strict=True):
        if label == ignore or label >= len(colours):
            continue
        cut = _cut(found == label)
        assert cut is not None
        _paint(canvas, *cut, factor, colours[label], alpha + 0.1, 1, outline=0.5)
        room = pixels * factor**2
        chips.append(Chip([info.names[label]], colours[label], _label_box(*cut, factor, False), True, room))
    return chips if len(chips) <= CROWD else sorted(chips, key=lambda chip: -chip.room)


def _label_box(mask: np.ndarray, x: int, y: int, factor: float, thing: bool) -> tuple[float, float, float, float]:
    """A thing's box, or for stuff the small box around the point that is deepest inside it."""
    if thing:
        return x * factor, y * factor, (x + mask.shape[1]) * factor, (y + mask.shape[0]) * factor
    depth = cv2.distanceTransform(cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3)
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    cx, cy = (x + int(column) - 0.5) * factor, (y + int(row) - 0.5) * factor
    return cx, cy, cx, cy


def _crop(found: Instances, i: int) -> tuple[np.ndarray, int, int] | None:
    """Object i's mask cut to its box; the whole mask is never unpacked, since images may be very large."""
    if isinstance(found.masks, list):
        x, y, w, h = (int(v) for v in coco_mask.toBbox(found.masks[i]))
        if not w or not h:
            return None
        return np.ascontiguousarray(crop_rle(found.masks[i], x, y, x + w, y + h)).astype(np.uint8), x, y
    return _cut(found.mask(i))


def _cut(mask: np.ndarray) -> tuple[np.ndarray, int, int] | None:
    """Bool [H,W] -> (its uint8 cut [h,w], x, y); None where it is empty."""
    x1, y1, x2, y2 = (int(v) for v in mask_boxes(mask[None])[0])
    return (np.ascontiguousarray(mask[y1:y2, x1:x2]).astype(np.uint8), x1, y1) if x2 > x1 else None


def _paint(
    canvas: np.ndarray,
    mask: np.ndarray,
    x: int,
    y: int,
    factor: float,
    colour: Rgb,
    alpha: float,
    width: int,
    *,
    hatched: bool = False,
    outline: float = 1.0,
) -> None:
    """Fill and outline one mask, uint8 [h,w] at (x, y) of the original image, with smooth edges."""
    margin = width + 2
    # enlarged in between, an outline can lie between pixels; a pixel staircase then becomes a line
    fine = math.ceil(factor) if factor > 1 else 2 if max(mask.shape) < 64 else 1
    padded = cv2.copyMakeBorder(mask * 255, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    if fine > 1:
        padded = cv2.resize(padded, None, fx=fine, fy=fine, interpolation=cv2.INTER_LINEAR)
    found, _ = cv2.findContours((padded > 127).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    x1, y1 = max(0, int(x * factor) - margin), max(0, int(y * factor) - margin)
    x2 = min(canvas.shape[1], math.ceil((x + mask.shape[1]) * factor) + margin)
    y2 = min(canvas.shape[0], math.ceil((y + mask.shape[0]) * factor) + margin)
    place = np.array([x, y], np.float64)
    fill, edge, shade = (np.zeros((y2 - y1, x2 - x1), np.uint8) for _ in range(3))
    if len(found) > SPECKS:
        shift = (place + 0.5) * factor - 0.5 - (x1, y1)  # pixel centres are at whole numbers
        move = np.array([[factor, 0, shift[0]], [0, factor, shift[1]]])
        fill = cv2.warpAffine(mask * 255, move, fill.shape[::-1], flags=cv2.INTER_NEAREST)
        edge = fill - cv2.erode(fill, np.ones((3, 3), np.uint8))
    else:
        lines = [
            np.rint((((_smooth(c[:, 0, :]) + 0.5) / fine - 1 + place) * factor - 0.5 - (x1, y1)) * 2**_SUB)
            for c in found
        ]
        lines = [line.astype(np.int32) for line in lines]
        cv2.fillPoly(fill, lines, 255, cv2.LINE_AA, _SUB)
        cv2.polylines(shade, lines, True, 110, width + 2, cv2.LINE_AA, _SUB)
        cv2.polylines(edge, lines, True, 255, width, cv2.LINE_AA, _SUB)
    if hatched:
        rows, columns = np.indices(fill.shape)
        fill[(rows + columns) % (6 * width) < 3 * width] //= 5
    area = canvas[y1:y2, x1:x2]
    for layer, ink, strength in ((fill, colour, alpha), (shade, (0, 0, 0), outline), (edge, colour, outline)):
        weight = layer[:, :, None].astype(np.float32) * (strength / 255)
        area[:] = cv2.convertScaleAbs(area + (np.array(ink, np.float32) - area) * weight)


def _line_width(canvas: np.ndarray) -> int:
    return max(2, round(math.sqrt(canvas.shape[0] * canvas.shape[1]) / 350))


def _smooth(line: np.ndarray) -> np.ndarray:
    """A closed outline [P,2], each point averaged with two neighbours on either side."""
    points = line.astype(np.float64)
    if len(points) < 16:
        return points
    around = np.concatenate([points[-2:], points, points[:2]])
    return np.asarray(sum(around[k : k + len(points)] for k in range(5)) / 5)


def _rectangle(canvas: np.ndarray, box: np.ndarray, colour: Rgb, width: int) -> None:
    corners = np.rint((box - (0.5, 0.5, 0.5, 0.5)) * 2**_SUB).astype(int)
    for ink, extra in (((0, 0, 0), 2 if width > 1 else 1), (colour, 0)):
        cv2.rectangle(canvas, corners[:2].tolist(), corners[2:].tolist(), ink, width + extra, cv2.LINE_AA, _SUB)
