"""One exact geometric map for an image and everything labelled on it.

Quarter turns, mirrors, a resize and a placement on a canvas are separable: every canvas row shows one source row and
every column one source column. So masks and maps are moved by two index lists, each object inside its own box only,
and boxes follow the masks. A general warping library would resample N full-size masks, and would leave the image, the
masks and the boxes each with its own rounding.
"""

import dataclasses
from typing import Any

import cv2
import numpy as np
import torch

from segcli.errors import UsageError
from segcli.types import IGNORE, Instances, Sample, Target

Source = tuple[int, np.ndarray]  # first canvas row (or column) with content, source row of it and of each after it
PADDING = (124, 116, 104)  # RGB; ImageNet's mean, which normalisation takes to zero like the batch's own padding


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Applied in this order: `turns` quarter turns counter-clockwise, mirrors, a resize to `size` (h, w), and a
    placement of the result's top-left corner at `offset` (y, x), which may be negative, of a `canvas` (H, W)."""

    turns: int
    flip_vertical: bool
    flip: bool
    size: tuple[int, int]
    canvas: tuple[int, int]
    offset: tuple[int, int] = (0, 0)


@dataclasses.dataclass
class Scene:
    """A sample while it is being augmented; N objects on a canvas of H x W pixels.

    image uint8 [H,W,3]; boxes float32 [N,4], xyxy, half-open; masks bool [N,H,W]; semantic int64 [H,W];
    area [N]: each object's area in canvas pixels, had nothing been cut off; cut [N]: whether something was.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    masks: np.ndarray | None
    semantic: np.ndarray | None
    fields: dict[str, Any]
    area: np.ndarray
    cut: np.ndarray

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
        target = Target(source.target.image_id, size, instances, semantic)
        return Sample(self.image, target, source.file_name, source.original_size)


def transform(sample: Sample, geometry: Geometry) -> Scene:
    """Move a sample; boxes must enclose their masks. Objects outside the canvas stay, with empty boxes.

    Raises UsageError where per-instance fields (keypoints ...) would have to be turned or mirrored top to bottom.
    """
    instances = sample.target.instances
    if instances.fields and (geometry.turns % 4 or geometry.flip_vertical):
        name = "rot90" if geometry.turns % 4 else "flip_vertical"
        raise UsageError(f"data.augment.{name}: {sorted(instances.fields)[0]} can be mirrored left to right only")
    turned = _turn_image(sample.image, geometry)
    (h0, w0), (h1, w1) = turned.shape[:2], geometry.size
    sy, sx = h1 / h0, w1 / w0
    oy, ox = geometry.offset
    boxes = _turn_boxes(instances.boxes.numpy().astype(np.float64), sample.target.size, geometry)
    rows, columns = _source(h0, h1, oy, geometry.canvas[0]), _source(w0, w1, ox, geometry.canvas[1])
    placed = boxes * [sx, sy, sx, sy] + [ox, oy, ox, oy]
    limits = np.array([geometry.canvas[1], geometry.canvas[0]] * 2)
    clipped = placed.clip(0, limits)
    masks = None
    if instances.masks is None:
        area = (placed[:, 2] - placed[:, 0]) * (placed[:, 3] - placed[:, 1])
    else:
        assert isinstance(instances.masks, torch.Tensor), "masks are decoded before they are augmented"
        moved = _turn(instances.masks.numpy(), geometry, 1)
        masks, clipped, counts = _move_masks(moved, boxes, rows, columns, geometry.canvas)
        area = counts * sx * sy
    semantic = sample.target.semantic
    width = float(w0)
    fields = {}
    for name, field in instances.fields.items():
        field = field.flip(width) if geometry.flip else field
        fields[name] = field.scale(sx, sy).crop(-ox, -oy, geometry.canvas[1], geometry.canvas[0])
    crowd = instances.crowd.numpy() if instances.crowd is not None else np.zeros(len(instances), bool)
    scene = Scene(
        image=_move_image(turned, geometry),
        boxes=clipped.astype(np.float32),
        labels=instances.labels.numpy(),
        crowd=crowd,
        masks=masks,
        semantic=None if semantic is None else _move_map(_turn(semantic.numpy(), geometry, 0), geometry, rows, columns),
        fields=fields,
        area=area,
        cut=((placed < -0.5) | (placed > limits + 0.5)).any(1),
    )
    scene.tighten()
    return scene


def window(box: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of a box, outwards to whole pixels."""
    x1, y1, x2, y2 = box
    return slice(int(y1), int(np.ceil(y2))), slice(int(x1), int(np.ceil(x2)))


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
    y1, x1, y2, x2 = max(0, oy), max(0, ox), min(height, oy + h), min(width, ox + w)
    content = image[y1 - oy : y2 - oy, x1 - ox : x2 - ox]
    # always a copy: the source is kept for other epochs, and pasting writes into the result
    return cv2.copyMakeBorder(content, y1, height - y2, x1, width - x2, cv2.BORDER_CONSTANT, value=PADDING)


def _move_map(labels: np.ndarray, geometry: Geometry, rows: Source, columns: Source) -> np.ndarray:
    out = np.full(geometry.canvas, IGNORE, labels.dtype)
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
