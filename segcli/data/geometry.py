"""One exact geometric map for an image and everything labelled on it.

Quarter turns, mirrors, a resize and a placement on a canvas are separable: every canvas row shows one source row and
every column one source column. So masks and maps are moved by two index lists, each object inside its own box only,
and boxes follow the masks. A general warping library would resample N full-size masks, and would leave the image, the
masks and the boxes each with its own rounding. Only a rotation by a free angle warps; each mask then goes from its
own pixels to the canvas in one step, inside its own box.
"""

import dataclasses
import math

import cv2
import numpy as np
import torch

from segcli.core.errors import UsageError
from segcli.types import Field, Instances, Rotatable, Sample, Target

Source = tuple[int, np.ndarray]  # first canvas row (or column) with content, source row of it and of each after it
Fill = int | tuple[int, int, int]  # of a map, of an image
PADDING = (124, 116, 104)  # RGB; ImageNet's mean, which normalisation takes to zero like the batch's own padding


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Applied in this order: `turns` quarter turns counter-clockwise, mirrors, a resize to `size` (h, w), a rotation
    about the centre by `degrees` counter-clockwise, and a placement of what was the top-left corner before that
    rotation at `offset` (y, x), which may be negative, of a `canvas` (H, W)."""

    turns: int
    flip_vertical: bool
    flip: bool
    size: tuple[int, int]
    canvas: tuple[int, int]
    offset: tuple[int, int] = (0, 0)
    degrees: float = 0.0

    def matrix(self, old: tuple[int, int]) -> np.ndarray:
        """[2,3]: where a point (x, y) of the turned and mirrored image of size `old` (h, w) lies on the canvas."""
        (h, w), (oy, ox) = self.size, self.offset
        turn = rotation(self.degrees, (w / 2, h / 2), (w / 2 + ox, h / 2 + oy))
        turn[:, :2] *= [w / old[1], h / old[0]]
        return turn


@dataclasses.dataclass
class Scene:
    """A sample while it is being augmented; N objects on a canvas of H x W pixels.

    image uint8 [H,W,3]; boxes float32 [N,4], xyxy, half-open; masks bool [N,H,W]; semantic int64 [H,W];
    area [N]: each object's area in canvas pixels, had nothing been cut off; truncated [N]: whether something was.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    masks: np.ndarray | None
    semantic: np.ndarray | None
    fields: dict[str, Field]
    area: np.ndarray
    truncated: np.ndarray

    def visible(self) -> np.ndarray:
        """[N]: each object's area on the canvas now, in pixels."""
        if self.masks is None:
            return (self.boxes[:, 2] - self.boxes[:, 0]) * (self.boxes[:, 3] - self.boxes[:, 1])
        # a count over the bytes of each box is many times faster than one over N whole canvases
        return np.array([np.count_nonzero(m[window(b)]) for m, b in zip(self.masks, self.boxes, strict=True)], float)

    def tighten(self) -> None:
        """Shrink boxes to what is left of their masks; boxes must enclose them. An empty mask gets an empty box."""
        if self.masks is None:
            return
        for box, mask in zip(self.boxes, self.masks, strict=True):
            part = mask[window(box)]
            rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
            x, y = box[:2].copy()
            if len(rows):
                box[:] = x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1
            else:
                box[2:] = box[:2]

    def sample(self, source: Sample, keep: np.ndarray) -> Sample:
        """The objects at `keep` (positions) as a sample, under the source's name and id."""
        masks = None if self.masks is None else torch.from_numpy(self.masks[keep])
        instances = Instances(
            boxes=torch.from_numpy(self.boxes[keep]),
            labels=torch.from_numpy(self.labels[keep]),
            crowd=torch.from_numpy(self.crowd[keep]),
            masks=masks,
            fields={name: field[keep] for name, field in self.fields.items()},
        )
        size = (self.image.shape[0], self.image.shape[1])
        semantic = None if self.semantic is None else torch.from_numpy(self.semantic)
        target = Target(source.target.image_id, size, instances, semantic, ignore=source.target.ignore)
        return Sample(self.image, target, source.file_name, source.original_size)


def transform(sample: Sample, geometry: Geometry) -> Scene:
    """Move a sample; boxes must enclose their masks. Objects outside the canvas stay, with empty boxes.

    Raises UsageError where per-instance fields (keypoints ...) that can't be rotated would have to be, and for a
    rotation by a free angle of boxes without masks.
    """
    instances = sample.target.instances
    turned = _turn_image(sample.image, geometry)
    # the target's size, not the image's: that may have been shrunk already (data/cache.py)
    (h0, w0), (h1, w1) = sample.target.size[:: -1 if geometry.turns % 2 else 1], geometry.size
    sy, sx = h1 / h0, w1 / w0
    oy, ox = geometry.offset
    boxes = _turn_boxes(instances.boxes.numpy().astype(np.float64), sample.target.size, geometry)
    rows, columns = _source(h0, h1, oy, geometry.canvas[0]), _source(w0, w1, ox, geometry.canvas[1])
    placed = boxes * [sx, sy, sx, sy] + [ox, oy, ox, oy]
    limits = np.array([geometry.canvas[1], geometry.canvas[0]] * 2)
    clipped = placed.clip(0, limits)
    truncated = ((placed < -0.5) | (placed > limits + 0.5)).any(1)
    masks = None
    if instances.masks is None:
        if geometry.degrees:
            raise UsageError("data.augment.rotate: the dataset has boxes only, and a rotated box needs a mask")
        area = (placed[:, 2] - placed[:, 0]) * (placed[:, 3] - placed[:, 1])
    else:
        assert isinstance(instances.masks, torch.Tensor), "masks are decoded before they are augmented"
        moved = _turn(instances.masks.numpy(), geometry, 1)
        if geometry.degrees:
            masks, clipped, area, truncated = _rotate_masks(moved, boxes, geometry.matrix((h0, w0)), geometry.canvas)
        else:
            masks, clipped, counts = _move_masks(moved, boxes, rows, columns, geometry.canvas)
            area = counts * sx * sy
    semantic = None
    if sample.target.semantic is not None:
        labels = _turn(sample.target.semantic.numpy(), geometry, 0)
        move = _rotate_map if geometry.degrees else _move_map
        semantic = move(labels, geometry, rows, columns, sample.target.ignore)
    fields = {
        name: _move_field(name, field, geometry, sample.target.size, (h0, w0))
        for name, field in instances.fields.items()
    }
    crowd = instances.crowd.numpy() if instances.crowd is not None else np.zeros(len(instances), bool)
    scene = Scene(
        image=_move_image(turned, geometry),
        boxes=clipped.astype(np.float32),
        labels=instances.labels.numpy(),
        crowd=crowd,
        masks=masks,
        semantic=semantic,
        fields=fields,
        area=area,
        truncated=np.asarray(truncated),
    )
    scene.tighten()
    return scene


def window(box: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of a box, outwards to whole pixels."""
    x1, y1, x2, y2 = box
    return slice(int(y1), int(np.ceil(y2))), slice(int(x1), int(np.ceil(x2)))


def rotation(degrees: float, centre: tuple[float, float], to: tuple[float, float]) -> np.ndarray:
    """[2,3]: rotate points (x, y) counter-clockwise about `centre`, and move that point to `to`."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return np.column_stack([turn, np.array(to) - turn @ centre])


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H,W,3] -> [h,w,3]: area when shrinking, linear when growing."""
    h, w = size
    if image.shape[:2] == (h, w):
        return image
    shrink = h * w < image.shape[0] * image.shape[1]
    return cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)


def _turn(pixels: np.ndarray, geometry: Geometry, axis: int) -> np.ndarray:
    """Turns and mirrors as a view; `axis` is that of the rows."""
    pixels = np.rot90(pixels, geometry.turns, (axis, axis + 1))
    if geometry.flip_vertical:
        pixels = np.flip(pixels, axis)
    return np.flip(pixels, axis + 1) if geometry.flip else pixels


def _turn_image(image: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The same for an image, as OpenCV does it: several times faster than copying a mirrored view."""
    turns = (None, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)[geometry.turns % 4]
    if turns is not None:
        image = cv2.rotate(image, turns)
    if geometry.flip or geometry.flip_vertical:
        image = cv2.flip(image, -1 if geometry.flip and geometry.flip_vertical else int(geometry.flip))
    return image


def _turn_boxes(boxes: np.ndarray, size: tuple[int, int], geometry: Geometry) -> np.ndarray:
    h, w = size
    for _ in range(geometry.turns % 4):
        boxes = np.stack([boxes[:, 1], w - boxes[:, 2], boxes[:, 3], w - boxes[:, 0]], 1)
        h, w = w, h
    x1, y1, x2, y2 = boxes.T
    if geometry.flip_vertical:
        y1, y2 = h - y2, h - y1
    if geometry.flip:
        x1, x2 = w - x2, w - x1
    return np.stack([x1, y1, x2, y2], 1)


def _source(old: int, new: int, offset: int, canvas: int) -> Source:
    first, end = max(0, offset), min(canvas, offset + new)
    positions = np.arange(first, max(first, end)) - offset
    return first, ((2 * positions + 1) * old) // (2 * new)  # pixel centres, in exact integers


def _move_image(image: np.ndarray, geometry: Geometry) -> np.ndarray:
    (h, w), (height, width), (oy, ox) = geometry.size, geometry.canvas, geometry.offset
    image = resize(image, (h, w))
    if geometry.degrees:
        return _warp(image, geometry.matrix((h, w)), (height, width), cv2.INTER_LINEAR, PADDING)
    y1, x1, y2, x2 = max(0, oy), max(0, ox), min(height, oy + h), min(width, ox + w)
    content = image[y1 - oy : y2 - oy, x1 - ox : x2 - ox]
    # always a copy: the source is kept for other epochs, and pasting writes into the result
    return cv2.copyMakeBorder(content, y1, height - y2, x1, width - x2, cv2.BORDER_CONSTANT, value=PADDING)


def _move_map(labels: np.ndarray, geometry: Geometry, rows: Source, columns: Source, ignore: int) -> np.ndarray:
    out = np.full(geometry.canvas, ignore, labels.dtype)
    (y, from_y), (x, from_x) = rows, columns
    out[y : y + len(from_y), x : x + len(from_x)] = labels.take(from_y, 0).take(from_x, 1)
    return out


def _move_masks(
    masks: np.ndarray,
    boxes: np.ndarray,
    rows: Source,
    columns: Source,
    canvas: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """bool [N,H,W] inside boxes [N,4] -> masks on the canvas, boxes that enclose them, pixel counts before [N]."""
    out = np.zeros((len(masks), *canvas), bool)
    around, counts = np.zeros((len(masks), 4)), np.zeros(len(masks))
    for i, box in enumerate(boxes):
        part = masks[i][window(box)]
        counts[i] = np.count_nonzero(part)
        x0, y0 = int(box[0]), int(box[1])
        top, bottom = np.searchsorted(rows[1], [y0, y0 + part.shape[0]])
        left, right = np.searchsorted(columns[1], [x0, x0 + part.shape[1]])
        y, x = rows[0] + top, columns[0] + left
        y2, x2 = rows[0] + bottom, columns[0] + right
        around[i] = x, y, x2, y2
        out[i, y:y2, x:x2] = part.take(rows[1][top:bottom] - y0, 0).take(columns[1][left:right] - x0, 1)
    return out, around, counts


def _warp(pixels: np.ndarray, matrix: np.ndarray, size: tuple[int, int], method: int, fill: Fill) -> np.ndarray:
    """What lies at a point (x, y) of `pixels` [h,w,...] moves to matrix @ (x, y, 1) on a canvas of `size` (H, W)."""
    matrix = matrix.copy()
    matrix[:, 2] += matrix[:, :2].sum(1) / 2 - 0.5  # OpenCV counts from the centre of the first pixel
    pixels = np.ascontiguousarray(pixels)
    return cv2.warpAffine(pixels, matrix, size[::-1], flags=method, borderMode=cv2.BORDER_CONSTANT, borderValue=fill)


def _rotate_map(labels: np.ndarray, geometry: Geometry, _rows: Source, _columns: Source, ignore: int) -> np.ndarray:
    matrix = geometry.matrix((labels.shape[0], labels.shape[1]))
    # of the types that hold every label, OpenCV warps this one
    return _warp(labels.astype(np.uint16), matrix, geometry.canvas, cv2.INTER_NEAREST, ignore).astype(labels.dtype)


def _rotate_masks(
    masks: np.ndarray, boxes: np.ndarray, matrix: np.ndarray, canvas: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """bool [N,H,W] inside boxes [N,4] -> masks on the canvas, boxes that enclose them, areas had nothing been cut off
    [N], whether something was [N]."""
    out = np.zeros((len(masks), *canvas), bool)
    around, areas, truncated = np.zeros((len(masks), 4)), np.zeros(len(masks)), np.zeros(len(masks), bool)
    for i, box in enumerate(boxes):
        part = masks[i][window(box)]
        x0, y0 = int(box[0]), int(box[1])
        corners = [[x0, x0 + part.shape[1], x0, x0 + part.shape[1]], [y0, y0, y0 + part.shape[0], y0 + part.shape[0]]]
        at = matrix[:, :2] @ corners + matrix[:, 2:]
        x, y = np.floor(at.min(1)).astype(int)
        width, height = np.ceil(at.max(1)).astype(int) - (x, y)
        local = matrix.copy()
        local[:, 2] += matrix[:, :2] @ (x0, y0) - (x, y)
        whole = _warp(part.view(np.uint8), local, (height, width), cv2.INTER_NEAREST, 0).view(bool)
        x1, y1, x2, y2 = max(0, x), max(0, y), min(canvas[1], x + width), min(canvas[0], y + height)
        areas[i] = np.count_nonzero(whole)
        if x1 < x2 and y1 < y2:
            visible = whole[y1 - y : y2 - y, x1 - x : x2 - x]
            out[i, y1:y2, x1:x2] = visible
            around[i] = x1, y1, x2, y2
            truncated[i] = np.count_nonzero(visible) < areas[i]
        else:
            truncated[i] = True
    return out, around, areas, truncated


def _move_field(name: str, field: Field, geometry: Geometry, old: tuple[int, int], new: tuple[int, int]) -> Field:
    """The whole map for one field; old, new: (h, w) before and after the quarter turns."""
    (h, w), (oy, ox), middle = geometry.size, geometry.offset, (new[1] / 2, new[0] / 2)
    named = {"rot90": geometry.turns % 4, "flip_vertical": geometry.flip_vertical, "rotate": geometry.degrees}
    setting = next((key for key, value in named.items() if value), "")

    def rotated(field: Field, degrees: float, centre: tuple[float, float], to: tuple[float, float]) -> Field:
        if not isinstance(field, Rotatable):
            raise UsageError(f"data.augment.{setting}: {name} can be mirrored left to right only")
        return field.rotate(rotation(degrees, centre, to))

    if geometry.turns % 4:
        field = rotated(field, 90 * geometry.turns, (old[1] / 2, old[0] / 2), middle)
    if geometry.flip != geometry.flip_vertical:
        field = field.flip(float(new[1]))
    if geometry.flip_vertical:  # a mirror left to right and half a turn
        field = rotated(field, 180, middle, middle)
    field = field.scale(w / new[1], h / new[0])
    if geometry.degrees:
        field = rotated(field, geometry.degrees, (w / 2, h / 2), (w / 2, h / 2))
    return field.crop(-ox, -oy, geometry.canvas[1], geometry.canvas[0])
