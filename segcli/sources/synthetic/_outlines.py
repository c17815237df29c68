"""The eight outlines of the embedded 2D data, as signed distances: one formula gives mask and anti-aliased edge."""

from collections.abc import Callable

import numpy as np

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
TURN_45 = np.array([[1, 1], [-1, 1]]) / np.sqrt(2)


def outline(name: str, extent: float, rng: np.random.Generator) -> tuple[Distance, float, np.ndarray]:
    """One random outline of class `name` whose two farthest points are `extent` pixels apart.

    Returns the signed distance f(u, v) in pixels (negative inside; exact near straight edges), the radius around (0, 0)
    that contains the outline, and its tips [n,2], in turn: corners, or the ends of arms and axes; round ones have none.
    """
    half = extent / 2
    ends = lambda a, b: np.array([[a, 0], [0, b], [-a, 0], [0, -b]])
    if name == "square":
        side = half / np.sqrt(2)
        return (lambda u, v: np.maximum(np.abs(u), np.abs(v)) - side), half, ends(half, half) @ TURN_45
    if name == "rhombus":  # equal sides like a square, but the angle is clearly not 90 degrees
        short = half * np.tan(np.radians(rng.uniform(50, 75)) / 2)
        unit = half * short / np.hypot(half, short)
        return (lambda u, v: (np.abs(u) / half + np.abs(v) / short - 1) * unit), half, ends(half, short)
    if name == "circle":
        return (lambda u, v: np.hypot(u, v) - half), half, np.zeros((0, 2))
    if name == "ellipse":
        short = half * rng.uniform(0.5, 0.75)
        return _ellipse(half, short), half, ends(half, short)
    if name == "triangle":
        return _triangle(extent, np.radians(rng.uniform(40, 80)))
    if name == "star":
        return _star(half / np.sin(np.radians(72)), rng.uniform(0.38, 0.5))
    if name == "cross":
        width = rng.uniform(0.25, 0.4)
        arm = half / np.hypot(1, width)
        thick = arm * width
        bar = lambda a, b: np.maximum(np.abs(a) - arm, np.abs(b) - thick)
        return (lambda u, v: np.minimum(bar(u, v), bar(v, u))), half, ends(arm, arm)
    if name == "ring":
        inner = half * rng.uniform(0.45, 0.62)
        middle, band = (half + inner) / 2, (half - inner) / 2
        return (lambda u, v: np.abs(np.hypot(u, v) - middle) - band), half, np.zeros((0, 2))
    raise ValueError(f"no outline is called {name!r}")


def _ellipse(a: float, b: float) -> Distance:
    def distance(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        level = np.hypot(u / a, v / b)
        slope = np.hypot(u / a**2, v / b**2)  # first-order distance: the sign is exact
        return level * (level - 1) / np.maximum(slope, 1e-6)

    return distance


def _triangle(extent: float, apex: float) -> tuple[Distance, float, np.ndarray]:
    """Isosceles, longest side `extent`, its centroid at (0, 0)."""
    side = extent / max(1.0, 2 * np.sin(apex / 2))
    height, half_base = side * np.cos(apex / 2), side * np.sin(apex / 2)
    nx, ny = height / side, half_base / side  # the normal of both slanted sides, u mirrored
    offset = ny * height * 2 / 3

    def distance(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.maximum(nx * np.abs(u) - ny * v - offset, v - height / 3)

    tips = np.array([[0, -2 * height / 3], [half_base, height / 3], [-half_base, height / 3]])
    return distance, max(2 * height / 3, float(np.hypot(half_base, height / 3))), tips


def _star(radius: float, ratio: float) -> tuple[Distance, float, np.ndarray]:
    """Five tips at `radius`, five notches at `radius * ratio`."""
    sector = np.pi / 5
    tip, notch = np.array([radius, 0.0]), radius * ratio * np.array([np.cos(sector), np.sin(sector)])
    edge = (notch - tip) / np.hypot(*(notch - tip))

    def distance(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        r = np.hypot(u, v)
        angle = np.abs((np.arctan2(v, u) + sector) % (2 * sector) - sector)  # folded onto one half tip
        return -(edge[0] * (r * np.sin(angle)) - edge[1] * (r * np.cos(angle) - tip[0]))

    turns = np.arange(5) * 2 * sector
    return distance, radius, radius * np.stack([np.cos(turns), np.sin(turns)], 1)
