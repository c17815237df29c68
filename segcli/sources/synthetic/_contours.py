"""Contours of `scenes`: closed curves by formula, none of them one of the embedded shapes.

After SegRCDB (arXiv 2309.17083), which found contours that vary in number of corners, roughness and aspect to be what
pretraining for segmentation learns from.
"""

from collections.abc import Callable

import numpy as np

# A part is its closed curves, each [n,2] in units of the object's extent, about (0, 0); a pixel is inside where it is
# inside an odd number of them, so that a second curve is a hole.
Part = list[np.ndarray]


def blob(rng: np.random.Generator) -> list[Part]:
    """A radius of few slow waves."""
    return [[_stretched(_radial(rng, waves=int(rng.integers(2, 6)), depth=rng.uniform(0.1, 0.45)), rng)]]


def cell(rng: np.random.Generator) -> list[Part]:
    """Nearly an oval."""
    return [[_stretched(_radial(rng, waves=3, depth=rng.uniform(0.02, 0.12)), rng)]]


def burr(rng: np.random.Generator) -> list[Part]:
    """A radius that changes from corner to corner."""
    corners = int(rng.integers(9, 60))
    radii = 1 - rng.uniform(0.15, 0.6) * rng.random(corners)
    return [[_stretched(_polar(radii), rng)]]


def polygon(rng: np.random.Generator) -> list[Part]:
    """Five to nine corners at uneven angles."""
    return [[_stretched(_uneven(int(rng.integers(5, 10)), 0.25, rng), rng)]]


def shard(rng: np.random.Generator) -> list[Part]:
    """Few corners at very different distances: mostly concave."""
    return [[_stretched(_uneven(int(rng.integers(5, 9)), 0.75, rng), rng)]]


def stroke(rng: np.random.Generator) -> list[Part]:
    """A bent line of a changing width."""
    return [[_thick(_walk(rng, steps=int(rng.integers(3, 7)), bend=0.7), rng.uniform(0.05, 0.16), rng)]]


def leaf(rng: np.random.Generator) -> list[Part]:
    """Wide in its middle, pointed at both ends, bent."""
    along = np.linspace(-1, 1, 30)
    half = rng.uniform(0.12, 0.4) * (1 - along**2) ** rng.uniform(0.7, 1.5)
    bend = rng.uniform(-0.5, 0.5) * (1 - along**2)
    jag = 1 + rng.uniform(0, 0.3) * np.abs(np.sin(along * rng.uniform(6, 25)))
    upper, lower = np.stack([along, bend + half * jag], 1), np.stack([along, bend - half * jag], 1)
    return [[np.concatenate([upper, lower[::-1]])]]


def band(rng: np.random.Generator) -> list[Part]:
    """A closed band around a hole of another contour."""
    outer = _radial(rng, waves=int(rng.integers(2, 7)), depth=rng.uniform(0.1, 0.35))
    inner = _radial(rng, waves=int(rng.integers(2, 5)), depth=rng.uniform(0.1, 0.35)) * rng.uniform(0.35, 0.6)
    squeeze = np.array([1.0, rng.uniform(0.5, 1.0)])
    return [[outer * squeeze, inner * squeeze]]


def sieve(rng: np.random.Generator) -> list[Part]:
    """A blob with two to four holes."""
    holes = int(rng.integers(2, 5))
    outer = _radial(rng, waves=4, depth=rng.uniform(0.05, 0.2))
    turn = rng.uniform(0, 2 * np.pi)
    curves = [outer]
    for k in range(holes):
        angle = turn + 2 * np.pi * k / holes
        middle = 0.5 * np.array([np.cos(angle), np.sin(angle)])
        curves.append(_radial(rng, waves=3, depth=0.2) * rng.uniform(0.14, 0.26) + middle)
    return [curves]


def branch(rng: np.random.Generator) -> list[Part]:
    """A stem with side arms, of one surface."""
    stem = _walk(rng, steps=4, bend=0.3)
    width = rng.uniform(0.05, 0.1)
    arms: list[np.ndarray] = [_thick(stem, width, rng)]
    for _ in range(int(rng.integers(2, 6))):
        start = stem[int(rng.integers(1, len(stem)))]
        arm = _walk(rng, steps=2, bend=0.4)
        arms.append(_thick((arm - arm[0]) * rng.uniform(0.3, 0.7) + start, width * 0.8, rng))
    return [[curve] for curve in arms]


def figure(rng: np.random.Generator) -> list[Part]:
    """A trunk, a head and four limbs that bend once, each of a surface of its own: one object of unlike parts."""
    trunk = np.array([[0, -0.35], [0, 0.2]])
    parts: list[Part] = [[_thick(trunk, rng.uniform(0.13, 0.2), rng)]]
    for side in (-1, 1):
        for start, length in ((np.array([side * 0.12, -0.32]), 0.28), (np.array([side * 0.08, 0.2]), 0.36)):
            first, second = rng.normal(np.pi / 2, 0.55, 2) - side * rng.uniform(0, 0.5)
            knee = start + length * np.array([np.cos(first), np.sin(first)])
            end = knee + length * np.array([np.cos(second), np.sin(second)])
            parts.append([_thick(np.stack([start, knee, end]), rng.uniform(0.05, 0.09), rng)])
    head = _radial(rng, waves=2, depth=0.1) * rng.uniform(0.1, 0.16) + np.array([rng.uniform(-0.06, 0.06), -0.55])
    return [*parts, [head]]


def stack(rng: np.random.Generator) -> list[Part]:
    """Two to four blocks and blobs that overlap, each of a surface of its own: one object of unlike parts."""
    parts: list[Part] = []
    for _ in range(int(rng.integers(2, 5))):
        middle = rng.uniform(-0.45, 0.45, 2)
        kind = _uneven(int(rng.integers(4, 7)), 0.15, rng) if rng.random() < 0.6 else _radial(rng, waves=3, depth=0.2)
        parts.append([_stretched(kind, rng) * rng.uniform(0.35, 0.6) + middle * (0.5 if parts else 0.0)])
    return parts


FAMILIES: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    f.__name__: f for f in (blob, cell, burr, polygon, shard, stroke, leaf, band, sieve, branch, figure, stack)
}


def contours(family: str, rng: np.random.Generator) -> list[Part]:
    """The parts of one random object of a family, from back to front: the farthest two points along an axis 1 apart."""
    parts = FAMILIES[family](rng)
    turn = rng.normal(0, 0.35) if family == "figure" else rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    parts = [[curve @ np.array([[cos, sin], [-sin, cos]]) for curve in part] for part in parts]
    points = np.concatenate([curve for part in parts for curve in part])
    low, high = points.min(0), points.max(0)
    return [[(curve - (low + high) / 2) / (high - low).max() for curve in part] for part in parts]


def _polar(radii: np.ndarray, angles: np.ndarray | None = None) -> np.ndarray:
    if angles is None:
        angles = np.arange(len(radii)) * 2 * np.pi / len(radii)
    return radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)


def _radial(rng: np.random.Generator, *, waves: int, depth: float) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    weights, phases = rng.random(waves), rng.uniform(0, 2 * np.pi, waves)
    level = sum(w * np.sin((k + 1) * angles + p) for k, (w, p) in enumerate(zip(weights, phases, strict=True)))
    return _polar(1 + depth * level / max(weights.sum(), 1e-6), angles)


def _uneven(corners: int, depth: float, rng: np.random.Generator) -> np.ndarray:
    gaps = rng.uniform(0.5, 1.5, corners)
    angles = np.cumsum(gaps) / gaps.sum() * 2 * np.pi
    return _polar(1 - depth * rng.random(corners), angles)


def _stretched(curve: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    out: np.ndarray = curve * np.array([1.0, np.exp(rng.uniform(np.log(0.35), 0))])
    return out


def _walk(rng: np.random.Generator, *, steps: int, bend: float) -> np.ndarray:
    """A smooth path [n,2] of `steps` segments of about equal length, each turned by `bend` radians (one sigma)."""
    angles = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, bend, steps))
    corners = np.concatenate([np.zeros((1, 2)), np.cumsum(np.stack([np.cos(angles), np.sin(angles)], 1), 0)])
    at = np.linspace(0, steps, 6 * steps + 1)
    smooth = np.stack([np.interp(at, np.arange(steps + 1), corners[:, axis]) for axis in (0, 1)], 1)
    for _ in range(3):
        smooth[1:-1] = (smooth[:-2] + 2 * smooth[1:-1] + smooth[2:]) / 4
    out: np.ndarray = smooth / steps
    return out


def _thick(path: np.ndarray, width: float, rng: np.random.Generator) -> np.ndarray:
    """The outline of a path [n,2] whose half width is about `width`, its ends rounded."""
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    change = np.exp(rng.normal(0, 0.2, 2))
    half = width * np.linspace(change[0], change[1], len(path))[:, None]
    turns = np.linspace(0, np.pi, 7)[1:-1, None]
    tip = path[-1] + half[-1] * (np.cos(turns) * across[-1] + np.sin(turns) * along[-1])
    tail = path[0] - half[0] * (np.cos(turns) * across[0] + np.sin(turns) * along[0])
    return np.concatenate([path + half * across, tip, (path - half * across)[::-1], tail])
