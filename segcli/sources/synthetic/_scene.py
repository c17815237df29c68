"""One image of the embedded 2D data: where shapes lie, what hides what, and how it all looks."""

from typing import NamedTuple

import cv2
import numpy as np

from segcli.sources.synthetic._outlines import Distance, outline
from segcli.sources.synthetic._textures import material, pattern, smooth_field

THINGS = ("square", "rhombus", "circle", "ellipse", "triangle", "star", "cross", "ring")
STUFF = ("sky", "grass", "sand", "water")
OBJECTS = (3, 12)  # fewest and most in an image
SMALLEST = 12.0  # extent of a whole shape, pixels
LARGEST = 0.5625  # the same as a share of the image side: 90 of 160 pixels
KEEP_PIXELS, KEEP_SHARE = 25, 0.25  # what stays visible of every object, at least
OVERLAP = 0.55  # the share of objects that are laid over an earlier one on purpose
HIDE = 0.2  # an object counts as occluded when at least this share of its whole area is hidden
TRIES = 40  # positions tried for one object


class Scene(NamedTuple):
    """image uint8 [S,S,3] RGB; ids int32 [S,S] (0 = stuff, i + 1 = object i); labels [N] into THINGS;
    stuff uint8 [S,S] into STUFF, under the objects too; visible [N]: 1 - pixels hidden by other objects / pixels of
    the whole shape; extents [N]: longest extent of the whole shape in pixels; points: N arrays [1 + tips, 3] of x, y in
    pixels and 0 outside the image, 1 behind an object, else 2: the middle, then the tips clockwise from the topmost.
    """

    image: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    stuff: np.ndarray
    visible: np.ndarray
    extents: np.ndarray
    points: list[np.ndarray]


class _Shape(NamedTuple):
    label: int
    extent: float
    distance: np.ndarray  # [k,k] signed distance of pixel centres in its window
    u: np.ndarray  # [k,k] coordinates in the shape's own axes
    v: np.ndarray
    row: int  # of the window's first pixel; the window may stand over the image's border
    column: int
    points: np.ndarray  # [1 + tips, 2] x, y in its window


def draw(size: int, rng: np.random.Generator) -> Scene:
    """A random scene of size × size pixels; everything random is drawn from `rng`."""
    shapes, ids, visible = _place(size, rng)
    stuff, image = _background(size, rng)
    light = rng.uniform(0, 2 * np.pi)
    for shape in shapes:
        _paint(image, shape, light, rng)
    ramp = np.linspace(-1, 1, size)
    fall = ramp[None, :] * np.cos(light) + ramp[:, None] * np.sin(light)
    image *= (1 + rng.uniform(0, 0.25) * fall).astype(np.float32)[..., None]
    blur = rng.uniform(0.4, 0.9) if rng.random() < 0.4 else 0.0
    if blur:
        image = cv2.GaussianBlur(image, (5, 5), blur)
    image += rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(2, 12))
    return Scene(
        np.clip(np.round(image), 0, 255).astype(np.uint8),
        ids,
        np.array([s.label for s in shapes]),
        stuff,
        visible,
        np.array([s.extent for s in shapes]),
        [_points(shape, i + 1, ids) for i, shape in enumerate(shapes)],
    )


def _place(size: int, rng: np.random.Generator) -> tuple[list[_Shape], np.ndarray, np.ndarray]:
    """Shapes from back to front, the map of who is seen where, and the share of each that no other shape hides.

    A position is refused where any object would keep less than KEEP_PIXELS or KEEP_SHARE of its whole area in sight.
    """
    ids = np.zeros((size, size), np.int32)
    shapes: list[_Shape] = []
    whole: list[int] = []  # pixels of the whole shape, off-image ones included
    inside: list[int] = []  # of these, on the image
    number = int(rng.integers(OBJECTS[0], OBJECTS[1] + 1))
    for _ in range(10 * number):
        if len(shapes) == number:
            break
        label = int(rng.integers(len(THINGS)))
        extent = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST * size))))
        shape, radius = _shape(label, extent, rng)
        mask = shape.distance <= 0
        area = int(mask.sum())
        seen = np.bincount(ids.ravel(), minlength=len(shapes) + 1)[1:]
        # only what is small enough to be hidden by a fifth, and still has enough in sight to lose it
        able = [
            i
            for i in range(len(shapes))
            if area >= 1.5 * HIDE * whole[i] and seen[i] - HIDE * whole[i] >= max(KEEP_PIXELS, KEEP_SHARE * whole[i])
        ]
        victim = int(rng.choice(able)) if able and rng.random() < OVERLAP else None
        for attempt in range(TRIES):
            if victim is not None and attempt < TRIES * 3 // 4:
                other = shapes[victim]
                reach = rng.uniform(0.15, 0.9) * (radius + other.extent / 2)
                turn = rng.uniform(0, 2 * np.pi)
                middle = len(other.distance) // 2
                cy, cx = other.row + middle + reach * np.sin(turn), other.column + middle + reach * np.cos(turn)
            else:
                victim = None
                cy, cx = rng.uniform(0.3 * extent, size - 0.3 * extent, 2)
            row, column = round(cy) - len(mask) // 2, round(cx) - len(mask) // 2
            if not (0 <= cy < size and 0 <= cx < size):
                continue
            there, own = window(row, column, len(mask), size)
            cover = mask[own]
            if cover.sum() < max(KEEP_PIXELS, KEEP_SHARE * area):
                continue
            lost = np.bincount(ids[there][cover], minlength=len(shapes) + 1)[1:]
            if any(k and seen[i] - k < max(KEEP_PIXELS, KEEP_SHARE * whole[i]) for i, k in enumerate(lost)):
                continue
            if victim is not None and lost[victim] < HIDE * whole[victim]:
                continue
            shapes.append(shape._replace(row=row, column=column))
            whole.append(area)
            inside.append(int(cover.sum()))
            ids[there][cover] = len(shapes)
            break
    seen = np.bincount(ids.ravel(), minlength=len(shapes) + 1)[1:]
    return shapes, ids, 1 - (np.array(inside) - seen) / np.array(whole)


def _shape(label: int, extent: float, rng: np.random.Generator) -> tuple[_Shape, float]:
    """A shape on its own window, at a random rotation and sub-pixel position; and its radius."""
    distance: Distance
    distance, radius, tips = outline(THINGS[label], extent, rng)
    half = int(np.ceil(radius)) + 1
    grid = np.arange(-half, half + 1, dtype=np.float64)
    dx, dy = rng.uniform(-0.5, 0.5, 2)
    x, y = grid[None, :] - dx, grid[:, None] - dy
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    u, v = x * cos + y * sin, y * cos - x * sin
    tips = tips @ np.array([[cos, sin], [-sin, cos]])
    tips = tips[np.argsort(np.arctan2(tips[:, 1], tips[:, 0]))]  # clockwise, as y points down
    if len(tips):
        tips = np.roll(tips, -int(tips[:, 1].argmin()), 0)
    points = np.concatenate([np.zeros((1, 2)), tips]) + np.array([half + dx + 0.5, half + dy + 0.5])
    return _Shape(label, extent, distance(u, v), u, v, 0, 0, points), radius


def _points(shape: _Shape, number: int, ids: np.ndarray) -> np.ndarray:
    """Scene.points of the object `number` of the map; objects of higher numbers are in front."""
    out = np.zeros((len(shape.points), 3))
    points = shape.points + np.array([shape.column, shape.row])
    away = points - points[0]
    length = np.linalg.norm(away, axis=1, keepdims=True)
    # what hides a tip covers the shape's last pixel there: the tip's own may lie outside both
    inside = points - away * np.minimum(1.5 / np.maximum(length, 1e-9), 1)
    for row, (x, y), (column, line) in zip(out, points, inside.astype(int), strict=True):
        if 0 <= x < ids.shape[1] and 0 <= y < ids.shape[0]:
            line, column = min(max(line, 0), len(ids) - 1), min(max(column, 0), len(ids) - 1)
            row[:] = x, y, 1 if ids[line, column] > number else 2
    return out


def window(row: int, column: int, side: int, size: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a side × side window at (row, column) meets a size × size image: slices of the image, of the window."""
    top, left = min(max(row, 0), size), min(max(column, 0), size)
    bottom, right = max(min(row + side, size), top), max(min(column + side, size), left)
    return (slice(top, bottom), slice(left, right)), (
        slice(top - row, bottom - row),
        slice(left - column, right - column),
    )


def _background(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The stuff map, uint8 [S,S], and its picture, float32 [S,S,3], with clutter that is no object."""
    present = rng.permutation(len(STUFF))[: rng.integers(2, len(STUFF) + 1)]
    fields = np.stack([smooth_field(size, int(rng.integers(2, 5)), rng) for _ in present])
    height = np.linspace(1, -1, size, dtype=np.float32)[:, None]
    for k, label in enumerate(present):
        if STUFF[label] == "sky":
            fields[k] += 1.5 * height  # mostly above, as skies are
    stuff = present[fields.argmax(0)].astype(np.uint8)
    image: np.ndarray = np.zeros((size, size, 3), np.float32)
    for label in present:
        here = stuff == label
        np.copyto(image, material(STUFF[label], size, rng), where=here[..., None])
    if rng.random() < 0.5:  # a faint pattern over everything: regular texture alone does not mean an object
        y, x = np.mgrid[:size, :size].astype(np.float32)
        weight = rng.uniform(0.1, 0.3)
        image = image * np.float32(1 - weight) + pattern(x, y, rng) * np.float32(weight)
    for _ in range(rng.integers(0, 6)):
        ends = rng.integers(0, size, 4)
        colour = rng.uniform(0, 255, 3).tolist()
        cv2.line(image, ends[:2].tolist(), ends[2:].tolist(), colour, int(rng.integers(1, 3)), cv2.LINE_AA)
    return stuff, image


def _paint(image: np.ndarray, shape: _Shape, light: float, rng: np.random.Generator) -> None:
    """Draw one textured, shaded shape with a soft edge; exactly the pixels of its mask are covered by half or more."""
    colour = pattern(shape.u, shape.v, rng)
    side = len(shape.distance)
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    shade = 1 + rng.uniform(0.1, 0.45) * (ramp[None, :] * np.cos(light) + ramp[:, None] * np.sin(light))
    if rng.random() < 0.4:  # a dome: darker towards the edge
        shade -= rng.uniform(0.1, 0.4) * np.minimum(1, ramp[None, :] ** 2 + ramp[:, None] ** 2)
    there, own = window(shape.row, shape.column, side, len(image))
    alpha = np.clip(0.5 - shape.distance[own], 0, 1).astype(np.float32)[..., None]
    paint = (colour * shade.astype(np.float32)[..., None])[own]
    image[there] = image[there] * (1 - alpha) + paint * alpha
