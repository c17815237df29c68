"""Procedural solids: unions of boxes, surfaces of revolution, rings. x right, y up, z to the viewer, as OBJ files."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from segcli.core.errors import UsageError

Mesh = tuple[np.ndarray, np.ndarray]  # vertices [V,3], faces [F,3]; closed, faces counter-clockwise seen from outside
Corner = tuple[float, float, float]
AROUND = 24  # sides of what is round


def boxes(parts: Sequence[tuple[Corner, Corner]]) -> Mesh:
    """The union of boxes (low corner, high corner) as one closed surface, without faces inside it."""
    bounds = np.array(parts, float)
    axes = [np.unique(bounds[:, :, k].round(6)) for k in range(3)]
    middles = np.meshgrid(*((a[1:] + a[:-1]) / 2 for a in axes), indexing="ij")
    full = np.zeros(middles[0].shape, bool)
    for low, high in bounds:
        full |= np.all([(m > a) & (m < b) for m, a, b in zip(middles, low, high, strict=True)], 0)
    around, quads = np.pad(full, 1), []
    for axis, side in itertools.product(range(3), (0, 1)):
        beside = np.roll(around, 1 - 2 * side, axis)[1:-1, 1:-1, 1:-1]
        cells = np.argwhere(full & ~beside)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        square = np.zeros((4, 3), np.int64)
        square[:, axis] = side
        square[:, i], square[:, j] = ([0, 1, 1, 0], [0, 0, 1, 1]) if side else ([0, 0, 1, 1], [0, 1, 1, 0])
        quads.append(cells[:, None] + square)
    corners = np.concatenate(quads).reshape(-1, 3)
    unique, index = np.unique(corners, axis=0, return_inverse=True)
    quad = index.reshape(-1, 4)
    vertices = np.stack([axes[k][unique[:, k]] for k in range(3)], 1)
    return vertices, np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])


def lathe(profile: Sequence[tuple[float, float]]) -> Mesh:
    """A profile (radius, height) from the axis below to the axis above, turned about the y axis."""
    radius, height = np.array(profile, float)[1:-1].T
    angle = np.arange(AROUND) / AROUND * 2 * np.pi
    rings = np.stack(
        np.broadcast_arrays(radius[:, None] * np.sin(angle), height[:, None], radius[:, None] * np.cos(angle)), -1
    )
    ends = np.array([[0, profile[0][1], 0], [0, profile[-1][1], 0]])
    vertices = np.concatenate([rings.reshape(-1, 3), ends])
    here = np.arange(AROUND)
    beside = (here + 1) % AROUND
    low, high = len(vertices) - 2, len(vertices) - 1
    top = (len(radius) - 1) * AROUND
    faces = [
        np.stack([np.full(AROUND, low), beside, here], 1),
        np.stack([np.full(AROUND, high), top + here, top + beside], 1),
    ]
    for k in range(len(radius) - 1):
        a, b = k * AROUND, (k + 1) * AROUND
        faces += [np.stack([a + here, a + beside, b + beside], 1), np.stack([a + here, b + beside, b + here], 1)]
    return vertices, np.concatenate(faces)


def torus(thick: float) -> Mesh:
    """A ring of radius 1 about the y axis, `thick` the radius of its tube."""
    across = AROUND // 2
    a, b = np.meshgrid(*(np.arange(n) / n * 2 * np.pi for n in (AROUND, across)), indexing="ij")
    reach = 1 + thick * np.cos(b)
    vertices = np.stack([reach * np.sin(a), thick * np.sin(b), reach * np.cos(a)], -1).reshape(-1, 3)
    i, j = (value.ravel() for value in np.meshgrid(np.arange(AROUND), np.arange(across), indexing="ij"))
    at = lambda x, y: (i + x) % AROUND * across + (j + y) % across
    quad = [at(0, 0), at(1, 0), at(1, 1), at(0, 1)]
    return vertices, np.concatenate(
        [np.stack([quad[0], quad[1], quad[2]], 1), np.stack([quad[0], quad[2], quad[3]], 1)]
    )


def _legs(width: float, depth: float, height: float, thick: float) -> list[tuple[Corner, Corner]]:
    places = itertools.product((0.0, width - thick), (0.0, depth - thick))
    return [((x, 0.0, z), (x + thick, height, z + thick)) for x, z in places]


def _block(u: Callable[..., float]) -> Mesh:
    return boxes([((0, 0, 0), (u(0.35, 1), u(0.35, 1), u(0.35, 1)))])


def _table(u: Callable[..., float]) -> Mesh:
    w, h, d, top = u(0.8, 1.4), u(0.5, 0.9), u(0.6, 1.0), u(0.06, 0.12)
    return boxes([((0, h, 0), (w, h + top, d)), *_legs(w, d, h, u(0.08, 0.14))])


def _chair(u: Callable[..., float]) -> Mesh:
    w, h, d, seat, leg, back = u(0.45, 0.6), u(0.45, 0.6), u(0.45, 0.6), u(0.06, 0.1), u(0.06, 0.1), u(0.4, 0.7)
    return boxes([((0, h, 0), (w, h + seat, d)), ((0, h, 0), (w, h + back, leg)), *_legs(w, d, h, leg)])


def _bench(u: Callable[..., float]) -> Mesh:
    w, h, d, seat, side = u(1.0, 1.5), u(0.35, 0.5), u(0.35, 0.5), u(0.06, 0.1), u(0.08, 0.14)
    return boxes([((0, h, 0), (w, h + seat, d)), ((0, 0, 0), (side, h, d)), ((w - side, 0, 0), (w, h, d))])


def _stairs(u: Callable[..., float]) -> Mesh:
    count, w, run, rise = round(u(2.5, 5.5)), u(0.5, 1.0), u(0.2, 0.35), u(0.15, 0.3)
    return boxes([((0, 0, i * run), (w, (count - i) * rise, (i + 1) * run)) for i in range(count)])


def _cross(u: Callable[..., float]) -> Mesh:
    a, b, t = u(0.25, 0.4), u(0.25, 0.4), u(0.25, 0.5)
    return boxes([((0, (1 - b) / 2, 0), (1, (1 + b) / 2, t)), (((1 - a) / 2, 0, 0), ((1 + a) / 2, 1, t))])


def _cylinder(u: Callable[..., float]) -> Mesh:
    r, h = u(0.3, 0.6), u(0.6, 1.2)
    return lathe([(0, 0), (r, 0), (r, h), (0, h)])


def _cone(u: Callable[..., float]) -> Mesh:
    r, h = u(0.4, 0.7), u(0.7, 1.2)
    tip = r * u(0.05, 0.3)
    return lathe([(0, 0), (r, 0), (tip, h), (0, h)])


def _vase(u: Callable[..., float]) -> Mesh:
    y = np.linspace(-1, 1, 14)
    r = np.maximum(0.35 + 0.25 * np.sin(y * u(1.5, 3) + u(0, 6)) + u(-0.1, 0.1) * y, 0.12)
    return lathe([(0, -1), *zip(r.tolist(), y.tolist(), strict=True), (0, 1)])


def _ring(u: Callable[..., float]) -> Mesh:
    return torus(u(0.2, 0.42))


def _arch(u: Callable[..., float]) -> Mesh:
    w, h, t, d = u(0.8, 1.2), u(0.7, 1.1), u(0.2, 0.3), u(0.3, 0.5)
    return boxes([((0, 0, 0), (t, h, d)), ((w - t, 0, 0), (w, h, d)), ((0, h - t, 0), (w, h, d))])


FAMILIES: dict[str, Callable[[Callable[..., float]], Mesh]] = {
    "block": _block,
    "table": _table,
    "chair": _chair,
    "bench": _bench,
    "stairs": _stairs,
    "cross": _cross,
    "cylinder": _cylinder,
    "cone": _cone,
    "vase": _vase,
    "ring": _ring,
    "arch": _arch,
}
HELD_OUT = ("arch",)  # not among the families by default: how a model does on solids of a kind that it never saw


def made(family: str, rng: np.random.Generator) -> Mesh:
    """One random solid of a family, centred, its longest edge 1. Raises UsageError for an unknown one."""
    if family not in FAMILIES:
        raise UsageError(f"solids: no family is called {family!r}", hint="families: " + ", ".join(FAMILIES))
    vertices, faces = FAMILIES[family](rng.uniform)
    low, high = vertices.min(0), vertices.max(0)
    return (vertices - (low + high) / 2) / (high - low).max(), faces
