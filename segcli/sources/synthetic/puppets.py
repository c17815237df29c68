"""The embedded data for poses: puppets with 24 charts of the body, u and v, and 13 keypoints. Nothing is downloaded.

One or two, sometimes three, posed figures in clothes of their own in an image, seen from any side, lit, in front of
clutter; they hide one another, and a bar lies before some. Left and right are told apart by the face, a zip down the
chest, a badge on its left side and a cuff on the left arm. Labels are DensePose-COCO's (`dp_*`: up to POINTS points and
the coarse parts of each figure; fields/densepose.py) and COCO's keypoints: 2 where the joint's own limbs cover it, 1
where anything else does, 0 outside of the image.

Image `index` of a split depends on (seed, split, index, size) alone.
"""

from collections.abc import Iterator, Sequence
from typing import cast

import cv2
import numpy as np

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError, UsageError
from segcli.data.canonical import Draft, Record
from segcli.data.png import encode_png
from segcli.fields.densepose import GRID, encoded
from segcli.meshes.raster import project
from segcli.sources.synthetic._bodies import SPOTS, annotated, camera_of, place, seen_enough
from segcli.sources.synthetic._figure import BONES, COARSE, JOINTS, MIRROR, MIRROR_COARSE, Figure, figure
from segcli.sources.synthetic._records import SIDES, SPLITS, Index, in_processes
from segcli.sources.synthetic._render import Body, Paint, Picture, render, turn

POINTS = 120  # labelled points of a figure: DensePose-COCO has about 100
REACH = {1: (0.6, 0.92), 2: (0.5, 0.72), 3: (0.4, 0.5)}
TRIES = 50
NEAR_LIMB = 0.09  # a joint is visible where the surface before it is so near, in figure heights


def build(*, train: int = 1000, val: int = 200, seed: int = 0, size: int = 160) -> Draft:
    """`train` and `val` images of `size` × `size` pixels. Raises UsageError for numbers out of range."""
    for name, value, low, high in [("train", train, 1, 10**6), ("val", val, 1, 10**6), ("size", size, *SIDES)]:
        if not low <= value <= high:
            raise UsageError(f"puppets: {name} must be {low} to {high}, not {value}")
    if seed < 0:
        raise UsageError(f"puppets: seed must be 0 or more, not {seed}")
    pairs = tuple((i, i + 1) for i in range(1, len(JOINTS), 2))
    person = Category("person", 1, keypoints=JOINTS, skeleton=BONES, flip_pairs=pairs)
    charts = {"charts": len(MIRROR), "coarse": len(MIRROR_COARSE), "mirror": [*MIRROR]}
    info = DatasetInfo(
        name="puppets",
        categories=(person,),
        splits={},
        licence="CC0-1.0 (made by segcli)",
        source=f"segcli puppets, seed {seed}, size {size}",
        declared={"densepose": {**charts, "mirror_coarse": [*MIRROR_COARSE], "mirror_uv": "1-u"}},
    )
    entries = {part: Index.numbered(part, count, seed, size) for part, count in (("train", train), ("val", val))}
    return Draft(info, entries, records)


def records(entries: Sequence[Index]) -> Iterator[Record]:
    """The records of `entries`, in order."""
    return in_processes(record, entries)


def record(entry: Index) -> Record:
    """One image with its labels."""
    rng = np.random.default_rng([entry.seed, SPLITS[entry.split], entry.number])
    for _ in range(TRIES):
        camera, count = camera_of(entry.size, rng), int(rng.choice([1, 2, 3], p=[0.45, 0.45, 0.1]))
        figures, bodies, joints = [figure(rng) for _ in range(count)], [], []
        for one, spot in zip(figures, SPOTS[count], strict=True):
            facing = rng.normal(0, 1.0) if rng.random() < 0.6 else rng.uniform(-np.pi, np.pi)  # mostly to the viewer
            rotation = turn(0, rng.uniform(-0.1, 0.4)) @ turn(1, facing)
            scale, shift = place(one.vertices @ rotation.T, spot, rng.uniform(*REACH[count]), camera, rng)
            bodies.append(Body(one.vertices @ rotation.T * scale + shift, one.faces, _clothes(one, rng)))
            joints.append((one.joints @ rotation.T * scale + shift, scale))
        picture = render(bodies, camera, entry.size, rng)
        if seen_enough(picture) and all(body.vertices[:, 2].min() > 0.1 for body in bodies):
            break
    else:
        raise DataError(f"puppets: no scene of image {entry.file_name} shows its figures", hint="another --seed")
    first = np.cumsum([0, *(len(one.faces) for one in figures)])
    annotations: list[Annotation] = []
    for i, (one, (places, scale)) in enumerate(zip(figures, joints, strict=True)):
        label = annotated(picture.owner == i, 1, int(picture.whole[i]))
        seen = _keypoints(picture, i, project(places, camera), places[:, 2], scale * NEAR_LIMB)
        chart, uv = _surface(one, picture, i, int(first[i]))
        label |= {"keypoints": seen.ravel().tolist(), "num_keypoints": int((seen[:, 2] > 0).sum())}
        annotations.append(cast(Annotation, {**label, **_densepose(label, chart, uv, rng)}))
    return Record(entry.file_name, picture.owner.shape, encode_png(picture.image, level=1), annotations)


def _keypoints(picture: Picture, i: int, flat: np.ndarray, depth: np.ndarray, near: float) -> np.ndarray:
    """float [13,3]: x, y, visibility."""
    out = np.zeros((len(flat), 3))
    size = len(picture.owner)
    for row, (x, y), z in zip(out, flat, depth, strict=True):
        if 0 <= x < size and 0 <= y < size:
            at = int(y), int(x)
            before = picture.owner[at] == i and picture.shown.depth[at] > z - near
            row[:] = round(float(x), 2), round(float(y), 2), 2 if before else 1
    return out


def _surface(one: Figure, picture: Picture, i: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """chart [S,S] (0 where the figure is not), u and v [S,S,2] of the pixels' centres."""
    own = picture.owner == i
    chart, uv = np.zeros(own.shape, np.int64), np.zeros((*own.shape, 2))
    face, weights = picture.shown.face[own] - first, picture.shown.weights[own]
    chart[own] = one.chart[face]
    uv[own] = (one.uv[face] * weights[..., None]).sum(1).clip(0, 1)
    return chart, uv


def _densepose(label: Annotation, chart: np.ndarray, uv: np.ndarray, rng: np.random.Generator) -> dict[str, object]:
    """DensePose-COCO's keys: points drawn among the figure's pixels, and its coarse parts."""
    x, y, w, h = (int(value) for value in label["bbox"])
    rows, columns = np.nonzero(chart)
    pick = rng.permutation(len(rows))[:POINTS]
    rows, columns = rows[pick], columns[pick]
    parts = np.array(COARSE, np.uint8)[chart[y : y + h, x : x + w]]
    return {
        "dp_x": ((columns + 0.5 - x) / w * GRID).round(2).tolist(),
        "dp_y": ((rows + 0.5 - y) / h * GRID).round(2).tolist(),
        "dp_I": chart[rows, columns].tolist(),
        "dp_U": uv[rows, columns, 0].round(4).tolist(),
        "dp_V": uv[rows, columns, 1].round(4).tolist(),
        "dp_masks": encoded(cv2.resize(parts, (GRID, GRID), interpolation=cv2.INTER_NEAREST)),
    }


def _clothes(one: Figure, rng: np.random.Generator) -> Paint:
    """How a figure is painted: skin, hair, a shirt with zip and badge, trousers, shoes, a cuff on the left arm."""
    skin = rng.uniform(0.3, 0.95) * np.array([1.0, 0.8, 0.66])
    shirt, trousers, shoes, hair, stripe, mark, cuff = rng.uniform(0.08, 1, (7, 3))
    short_sleeves, short_trousers = rng.random(2) < 0.4
    often = rng.uniform(15, 50) if rng.random() < 0.5 else 0.0

    def paint(face: np.ndarray, weights: np.ndarray) -> np.ndarray:
        chart = one.chart[face]
        u, v = (one.uv[face] * weights[..., None]).sum(1).T
        coarse = np.array(COARSE)[chart]
        colour = np.tile(skin, (len(face), 1))
        for parts, ink in (((1, 10, 11), shirt), ((6, 7), trousers), ((4, 5), shoes)):
            colour[np.isin(coarse, parts)] = ink
        if not short_sleeves:
            colour[np.isin(coarse, (12, 13))] = shirt
        if not short_trousers:
            colour[np.isin(coarse, (8, 9))] = trousers
        torso, front = coarse == 1, chart == 2
        colour[torso & (v > 0.88)] = trousers
        colour[torso & (v < 0.88) & (np.sin(v * often) > 0.4)] = stripe
        colour[front & (np.abs(u - 0.5) < 0.04)] = mark
        colour[front & (np.abs(u - 0.75) < 0.1) & (np.abs(v - 0.3) < 0.06)] = mark
        colour[np.isin(chart, (19, 21)) & (v > 0.7)] = cuff
        _face(colour, chart, u, v, hair)
        return colour

    return paint


def _face(colour: np.ndarray, chart: np.ndarray, u: np.ndarray, v: np.ndarray, hair: np.ndarray) -> None:
    """Hair, eyes and a mouth, in place. ahead: 1 in the middle of the face, 0 at the back of the head."""
    head = chart >= 23
    ahead = np.where(chart == 24, 1 - u, u)
    colour[head & ((ahead < 0.6) | (v < 0.25))] = hair
    colour[head & (np.abs(ahead - 0.84) < 0.06) & (np.abs(v - 0.45) < 0.06)] = 0.05
    colour[head & (ahead > 0.86) & (np.abs(v - 0.78) < 0.04)] = (0.6, 0.1, 0.1)
