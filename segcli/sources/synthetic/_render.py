"""Pictures of bodies before a camera, lit, in front of clutter: what the embedded 3D data is drawn with."""

import dataclasses
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from segcli.meshes.raster import Camera, Fragments, rasterise
from segcli.sources.synthetic._textures import STUFF_COLOURS, material, pattern, smooth_field

FINE = 2  # samples a pixel, along each side
CREASE = np.cos(np.radians(40))  # edges sharper than this stay edges; others are shaded as round
Paint = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass
class Body:
    """vertices [V,3] before the camera, faces [F,3]; paint: face [P], weights of its corners [P,3] -> RGB, 0 to 1."""

    vertices: np.ndarray
    faces: np.ndarray
    paint: Paint


@dataclasses.dataclass
class Picture:
    """image uint8 [S,S,3]; owner [S,S]: the body that each pixel's centre shows, -1 for none; shown: of all bodies
    together, faces counted on from body to body; whole [N]: pixels of each body, had nothing been before it."""

    image: np.ndarray
    owner: np.ndarray
    shown: Fragments
    whole: np.ndarray


def turn(axis: int, angle: float) -> np.ndarray:
    """[3,3]: a rotation about an axis, by radians."""
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    out = np.eye(3)
    out[i, i] = out[j, j] = np.cos(angle)
    out[i, j], out[j, i] = -np.sin(angle), np.sin(angle)
    return out


def render(bodies: Sequence[Body], camera: Camera, size: int, rng: np.random.Generator) -> Picture:
    """One picture of `size` × `size` pixels; a bar lies before the bodies of every fourth one."""
    vertices = np.concatenate([body.vertices for body in bodies])
    starts = np.cumsum([0, *(len(body.vertices) for body in bodies)])
    faces = np.concatenate([body.faces + start for body, start in zip(bodies, starts[:-1], strict=True)])
    counts = [len(body.faces) for body in bodies]
    owners, first = np.repeat(np.arange(len(bodies)), counts), np.cumsum([0, *counts])
    shown = rasterise(vertices, faces, camera, (size, size))
    owner = np.where(shown.face >= 0, owners[shown.face.clip(0)], -1)
    fine: Camera = (FINE * camera[0], FINE * camera[1], FINE * camera[2], FINE * camera[3])
    large = rasterise(vertices, faces, fine, (FINE * size, FINE * size))
    canvas = _shadowed(cv2.resize(clutter(size, rng), (FINE * size, FINE * size)), large.face >= 0, rng)
    hit = large.face >= 0
    face, weights = large.face[hit], large.weights[hit]
    colour = np.zeros((len(face), 3))
    for i, body in enumerate(bodies):
        own = owners[face] == i
        if own.any():
            colour[own] = body.paint(face[own] - first[i], weights[own])
    places = (vertices[faces[face]] * weights[..., None]).sum(1)
    normals = (_corner_normals(vertices, faces)[face] * weights[..., None]).sum(1)
    canvas[hit] = _lit(colour, places, normals, rng)
    image = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.25:
        owner = _bar(image, owner, rng)
    image = image + rng.normal(0, rng.uniform(0.005, 0.025), image.shape)
    whole = [np.count_nonzero(rasterise(b.vertices, b.faces, camera, (size, size)).face >= 0) for b in bodies]
    return Picture((image.clip(0, 1) * 255).astype(np.uint8), owner, shown, np.array(whole))


def clutter(size: int, rng: np.random.Generator) -> np.ndarray:
    """A busy background, float32 RGB [size,size,3] of 0 to 1: two materials, and things of no class."""
    first, second = rng.choice([*STUFF_COLOURS], 2)
    fall = np.linspace(-3, 3, size, dtype=np.float32)[:, None] + rng.uniform(-2, 2)
    mix = (fall + smooth_field(size, 3, rng) > 0)[..., None]
    both = np.where(mix, material(str(first), size, rng), material(str(second), size, rng)).astype(np.float32)
    picture: np.ndarray = cv2.GaussianBlur(both, (0, 0), float(rng.uniform(0.4, 1.6)))
    for _ in range(rng.integers(2, 9)):
        middle, reach = rng.uniform(0, size, 2), rng.uniform(0.05, 0.25) * size
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
        corners = middle + reach * np.stack([np.cos(angles), np.sin(angles) * rng.uniform(0.3, 1)], 1)
        mask = np.zeros((size, size), np.uint8)
        cv2.fillPoly(mask, [np.rint(corners * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        v, u = np.mgrid[:size, :size].astype(np.float32)
        share = mask[..., None].astype(np.float32) / 255
        picture = picture * (1 - share) + pattern(u, v, rng) * share
    return (picture / 255).clip(0, 1)


def texture(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A solid texture: RGB [P,3] of 0 to 1 at points [P,3] of a body of size 1."""
    first, second = rng.uniform(0.15, 1, (2, 3))
    kind, often, strength = rng.integers(4), rng.uniform(4, 14), rng.uniform(0.25, 0.8)
    along = rng.normal(size=3)
    along /= np.linalg.norm(along)
    mix = np.zeros(len(points))
    if kind == 1:  # stripes
        mix = (np.sin(points @ along * often * 2) > 0).astype(float)
    elif kind == 2:  # checks
        mix = np.floor(points * often / 2 + 0.013).sum(1) % 2
    elif kind == 3:  # veins
        mix = 0.5 + 0.5 * np.sin(points @ along * often + 2 * np.sin(points @ np.roll(along, 1) * often))
    mixed: np.ndarray = first + (second - first) * (strength * mix)[:, None]
    return mixed


def _corner_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """[F,3,3]: the normal at each corner of each face, of the vertex unless the face is far from that."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    across = np.cross(b - a, c - a)
    around = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(around, faces[:, k], across)
    own = _unit(across)[:, None].repeat(3, 1)
    smooth = _unit(around)[faces]
    near = (own * smooth).sum(-1, keepdims=True) > CREASE
    return np.where(near, smooth, own)


def _unit(values: np.ndarray) -> np.ndarray:
    unit: np.ndarray = values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)
    return unit


def _lit(colour: np.ndarray, places: np.ndarray, normals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colours [P,3] of points as one lamp and the sky light them; normals are turned to the viewer, so that inverted
    faces look as others do."""
    view, normals = _unit(-places), _unit(normals)
    normals = normals * np.where((normals * view).sum(1, keepdims=True) < 0, -1, 1)
    lamp = _unit(rng.normal(size=3) * [1, 0.6, 0.4] + [0, -1.2, -0.9])  # from above and from the viewer's side
    sky, shine = rng.uniform(0.3, 0.5), rng.uniform(0, 0.35)
    light = sky * (0.8 - 0.2 * normals[:, 1]) + (1 - sky) * (normals @ lamp).clip(0)
    half = (normals * _unit(lamp + view)).sum(1).clip(0)
    lit: np.ndarray = (colour * light[:, None] + shine * half[:, None] ** 24).clip(0, 1)
    return lit


def _shadowed(canvas: np.ndarray, covered: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A soft shadow of what covers the canvas, beside it."""
    side = canvas.shape[0]
    shift = np.array([[1, 0, rng.uniform(-0.06, 0.06) * side], [0, 1, rng.uniform(0.01, 0.06) * side]])
    shadow = cv2.warpAffine(covered.astype(np.float32), shift, (side, side))
    shadow = cv2.GaussianBlur(shadow, (0, 0), side * float(rng.uniform(0.01, 0.03)))
    shadowed: np.ndarray = canvas * (1 - rng.uniform(0.2, 0.55) * shadow[..., None])
    return shadowed


def _bar(image: np.ndarray, owner: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a bar before everything, in place. -> the owners that are left."""
    size = len(image)
    angle, wide = rng.uniform(0, np.pi), rng.uniform(0.02, 0.06) * size
    v, u = np.mgrid[:size, :size] + 0.5 - rng.uniform(0.3, 0.7, (2, 1, 1)) * size
    inside = np.abs(u * np.sin(angle) - v * np.cos(angle)) < wide
    colours = pattern(u.astype(np.float32), v.astype(np.float32), rng) / 255
    image[inside] = colours[inside]
    left: np.ndarray = np.where(inside, -1, owner)
    return left
