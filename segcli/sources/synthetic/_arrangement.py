"""One image of `scenes`: how many objects of which families, where, what hides what, and how it looks."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from segcli.sources.synthetic._contours import FAMILIES, Part, contours
from segcli.sources.synthetic._scene import window
from segcli.sources.synthetic._surfaces import GROUNDS, ground, near, noise, palette, surface

SMALLEST = 6.0  # extent of a whole object, pixels
MOST = 60  # objects
KEEP_PIXELS, KEEP_SHARE = 12, 0.3  # what stays visible of every object, at least
LARGE = 96.0  # extent from which on a border is right to half a pixel rather than a quarter
TRIES = 12  # positions tried for one object
NAMES = tuple(FAMILIES)


class Arrangement(NamedTuple):
    """image uint8 [S,S,3] RGB; ids int32 [S,S] (0 = ground, i + 1 = object i); labels [N] into NAMES; grounds uint8
    [S,S] into GROUNDS, under the objects too."""

    image: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    grounds: np.ndarray


class _Plan(NamedTuple):
    """Extents of the objects to be placed, largest first; the only family and colours, where they are all alike;
    the share of an object that may lie over others."""

    extents: np.ndarray
    family: str | None
    colours: np.ndarray | None
    overlap: float


def arrange(size: int, rng: np.random.Generator) -> Arrangement:
    """A random scene of size × size pixels; everything random is drawn from `rng`."""
    grounds, image, colours = _ground(size, rng)
    plan = _plan(size, rng)
    light = rng.uniform(0, 2 * np.pi)
    ids = np.zeros((size, size), np.int32)
    labels: list[int] = []
    whole: list[int] = []
    seen: list[int] = []  # pixels of each that are in sight
    for extent in plan.extents:
        label = NAMES.index(plan.family) if plan.family else int(rng.integers(len(NAMES)))
        parts = contours(NAMES[label], rng)
        covers = _coverage(parts, float(extent), rng)
        cover = np.minimum(1, np.maximum.reduce(covers))
        mask = cover >= 0.5
        area = int(mask.sum())
        place = _place(mask, area, ids, seen, whole, plan.overlap, rng) if area >= KEEP_PIXELS else None
        if place is None:
            continue
        there, own, hidden = place
        seen = [count - lost for count, lost in zip(seen, hidden, strict=True)]
        seen.append(int(mask[own].sum()))
        whole.append(area)
        labels.append(label)
        ids[there][mask[own]] = len(labels)
        _shade_ground(image, there, cover[own], light, rng)
        base = plan.colours if plan.colours is not None else palette(rng)
        if rng.random() < 0.25:  # hard to tell from what lies behind it
            base = near(colours, 25, rng)
        for part in covers:
            _paint(image, there, own, part, near(base, 12 if len(covers) == 1 else 60, rng), light, rng)
    return Arrangement(_photographed(image, rng), ids, np.array(labels, np.int64), grounds)


def _plan(size: int, rng: np.random.Generator) -> _Plan:
    kind = rng.random()
    if kind < 0.2:  # few that fill the image, or leave it
        extents = size * rng.uniform(0.4, 1.1, int(rng.integers(1, 4)))
        return _Plan(np.sort(extents)[::-1], None, None, 0.6)
    if kind < 0.45:  # many of one kind that touch, as cells, leaves and pebbles do
        typical = float(np.exp(rng.uniform(np.log(SMALLEST + 2), np.log(size / 5))))
        number = int(np.clip(rng.uniform(0.2, 0.9) * (size / typical) ** 2, 4, MOST))
        extents = np.maximum(SMALLEST, typical * np.exp(rng.normal(0, 0.25, number)))
        family = NAMES[int(rng.integers(len(NAMES)))] if rng.random() < 0.5 else "cell"
        return _Plan(np.sort(extents)[::-1], family, palette(rng), 0.15)
    number = int(np.exp(rng.uniform(np.log(2), np.log(MOST / 2))))
    extents = np.exp(rng.uniform(np.log(SMALLEST), np.log(0.7 * size), number))
    alike = rng.random() < 0.2
    return _Plan(np.sort(extents)[::-1], None, palette(rng) if alike else None, 0.6)


def _coverage(parts: list[Part], extent: float, rng: np.random.Generator) -> list[np.ndarray]:
    """How much of each pixel every part covers, float32 [k,k] in 0..1, in a window around the object."""
    half = int(np.ceil(0.6 * extent)) + 2  # with room for its shadow
    side = 2 * half
    fineness = 4 if extent < LARGE else 2  # subpixels a pixel, along each axis
    middle = half + rng.uniform(-0.5, 0.5, 2)
    out = []
    for part in parts:
        fine = np.zeros((side * fineness, side * fineness), np.uint8)
        # OpenCV's pixel centres are whole numbers
        curves = [np.round(((curve * extent + middle) * fineness - 0.5) * 16).astype(np.int32) for curve in part]
        cv2.fillPoly(fine, curves, 255, cv2.LINE_8, 4)
        out.append(cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255)
    return out


def _place(
    mask: np.ndarray,
    area: int,
    ids: np.ndarray,
    seen: list[int],
    whole: list[int],
    overlap: float,
    rng: np.random.Generator,
) -> tuple[tuple[slice, slice], tuple[slice, slice], list[int]] | None:
    """A place in front of what is there where every object keeps enough in sight: slices of the image, of the window,
    and how many pixels each object loses; None where none was found."""
    size, side = len(ids), len(mask)
    left = np.array(seen)
    least = np.maximum(KEEP_PIXELS, KEEP_SHARE * np.array(whole))
    for _ in range(TRIES):
        row, column = (rng.uniform(0, size, 2) - side / 2).astype(int).tolist()
        there, own = window(row, column, side, size)
        cover = mask[own]
        inside = int(cover.sum())
        if inside < max(KEEP_PIXELS, KEEP_SHARE * area):
            continue
        under = np.bincount(ids[there][cover], minlength=len(whole) + 1)[1:]
        if under.sum() <= overlap * inside and not ((under > 0) & (left - under < least)).any():
            return there, own, under.tolist()
    return None


def _ground(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The map of grounds, uint8 [S,S], its picture, float32 [S,S,3], and the colours of one of them."""
    present = rng.permutation(len(GROUNDS))[: rng.integers(1, len(GROUNDS) + 1)]
    fields = np.stack([noise(size, size, 1.8, rng) for _ in present])
    grounds = present[fields.argmax(0)].astype(np.uint8)
    image: np.ndarray = np.zeros((size, size, 3), np.float32)
    colours = palette(rng)
    for label in present:
        here = grounds == label
        colours = near(colours, 40, rng) if rng.random() < 0.5 else palette(rng)
        np.copyto(image, ground(GROUNDS[label], size, size, colours, rng), where=here[..., None])
    for _ in range(int(rng.integers(0, 8))):  # clutter that is no object
        ends = rng.integers(0, size, 4)
        colour = rng.uniform(0, 255, 3).tolist()
        cv2.line(image, ends[:2].tolist(), ends[2:].tolist(), colour, 1, cv2.LINE_AA)
    return grounds, image, colours


def _shade_ground(
    image: np.ndarray, there: tuple[slice, slice], cover: np.ndarray, light: float, rng: np.random.Generator
) -> None:
    """The shadow of an object on what lies behind it, away from the light."""
    if rng.random() < 0.5:
        return
    reach = max(1.0, 0.05 * max(cover.shape)) * rng.uniform(0.5, 1.5)
    move = np.array([[1, 0, -reach * np.cos(light)], [0, 1, -reach * np.sin(light)]], np.float32)
    shadow = cv2.warpAffine(cover, move, cover.shape[::-1])
    shadow = cv2.GaussianBlur(shadow, (0, 0), max(0.5, reach / 2))
    image[there] *= 1 - np.float32(rng.uniform(0.2, 0.6)) * shadow[..., None]


def _paint(
    image: np.ndarray,
    there: tuple[slice, slice],
    own: tuple[slice, slice],
    cover: np.ndarray,
    colours: np.ndarray,
    light: float,
    rng: np.random.Generator,
) -> None:
    """Draw one part with its texture, shaded as a slope and as a dome."""
    there, own = _within(there, own, cv2.boundingRect((cover > 0).astype(np.uint8)))
    cover = cover[own]
    if cover.size == 0:
        return
    height, width = cover.shape
    colour = surface(height, width, colours, rng)
    across, down = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    slope = np.float32(rng.uniform(0, 0.4))
    shade = 1 + slope * (across[None, :] * np.float32(np.cos(light)) + down[:, None] * np.float32(np.sin(light)))
    if rng.random() < 0.5:
        depth = cv2.distanceTransform((cover >= 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        dome = np.minimum(1, depth / np.float32(max(1.0, float(depth.max()))))
        shade -= np.float32(rng.uniform(0.1, 0.5)) * (1 - dome) ** 2
    alpha = cover[..., None]
    image[there] += alpha * (colour * shade[..., None] - image[there])


def _within(
    there: tuple[slice, slice], own: tuple[slice, slice], box: Sequence[int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The slices of image and window cut to a box x, y, width, height of the window."""
    pairs = []
    for (outer, inner), first, length in zip(zip(there, own, strict=True), box[1::-1], box[:1:-1], strict=True):
        start, stop = max(inner.start, first), min(inner.stop, first + length)
        stop = max(start, stop)
        move = outer.start - inner.start
        pairs.append((slice(start + move, stop + move), slice(start, stop)))
    return (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1])


def _photographed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light that falls off, the camera's gain, blur and noise."""
    size = len(image)
    if rng.random() < 0.5:
        image = image * (1 + np.float32(0.15) * noise(size, size, 2.0, rng))[..., None]
    image = (image - 128) * np.float32(rng.uniform(0.6, 1.2)) + np.float32(128 + rng.normal(0, 15))
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.3))
    image = image + rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, 10))
    return np.clip(np.round(image), 0, 255).astype(np.uint8)
