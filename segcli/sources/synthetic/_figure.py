"""A posed mannequin whose surface has DensePose's 24 charts, and its joints.

Charts (as DensePose-COCO numbers them): 1, 2 torso, back and front; 3, 4 right and left hand; 5, 6 left and right foot;
7-10 upper legs, right and left from behind, then right and left from the front; 11-14 lower legs alike; 15-18 upper
arms, left and right from the front, then left and right from behind; 19-22 lower arms alike; 23, 24 right and left half
of the head. u runs once around a chart, 0 to 1, v along the limb. In a mirror image a chart becomes MIRROR's, and u
1 - u: the mannequin is symmetric.

Frame: y down; it faces -z, the viewer, at rest, so its right side is at -x.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segcli.sources.synthetic._render import turn

MIRROR = (1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 24, 23)
# chart -> DensePose-COCO's coarse part: torso, right and left hand, left and right foot, right and left upper leg,
# right and left lower leg, left and right upper arm, left and right lower arm, head
COARSE = (0, 1, 1, 2, 3, 4, 5, 6, 7, 6, 7, 8, 9, 8, 9, 10, 11, 10, 11, 12, 13, 12, 13, 14, 14)
MIRROR_COARSE = (1, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 14)
JOINTS = (
    "head",
    *(
        f"{side} {name}"
        for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")
    ),
)
BONES = (
    *((1, 2), (1, 3), (3, 5), (2, 4), (4, 6), (1, 7), (2, 8), (7, 8), (7, 9), (9, 11), (8, 10), (10, 12)),
    *((0, 1), (0, 2)),
)
AROUND, ALONG = 16, 10  # corners around a limb and along it
FORWARD = np.array([0.0, 0.0, -1.0])
# charts of limbs, (from behind, from the front), by side: -1 is the figure's right
UPPER_ARM, LOWER_ARM = {-1: (18, 16), 1: (17, 15)}, {-1: (22, 20), 1: (21, 19)}
UPPER_LEG, LOWER_LEG = {-1: (7, 9), 1: (8, 10)}, {-1: (11, 13), 1: (12, 14)}
HAND, FOOT = {-1: 3, 1: 4}, {-1: 6, 1: 5}


class Figure(NamedTuple):
    """vertices [V,3], height about 1, centred; faces [F,3]; chart [F]; uv [F,3,2] at the corners; joints [13,3]."""

    vertices: np.ndarray
    faces: np.ndarray
    chart: np.ndarray
    uv: np.ndarray
    joints: np.ndarray


class _Limb(NamedTuple):
    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    chart: np.ndarray


def _limb(
    start: np.ndarray,
    end: np.ndarray,
    widths: Sequence[float],
    charts: tuple[int, ...],
    ahead: np.ndarray,
    depth: float = 1.0,
    side: int = 1,
) -> _Limb:
    """A closed tube with rounded ends. widths: radii along it; charts: one, or (behind, front); ahead: where its front
    is; depth: its radius to the front over that to the side; side: u grows to the right seen from the front, or (-1) to
    the left, so that right and left limbs are mirror images of one another."""
    along = (end - start) / np.linalg.norm(end - start)
    front = ahead - along * (ahead @ along)
    front /= np.linalg.norm(front)
    right = np.cross(along, front) * side
    t = np.linspace(0, 1, ALONG)
    round_end = np.sqrt(np.clip(1 - np.clip((np.abs(2 * t - 1) - 0.8) / 0.2, 0, 1) ** 2, 0.03, 1))
    radius = np.interp(t, np.linspace(0, 1, len(widths)), widths) * round_end
    angle = np.arange(AROUND) / AROUND * 2 * np.pi  # the first half is the front
    ring = np.cos(angle)[:, None] * right + depth * np.sin(angle)[:, None] * front
    rings = (start + t[:, None, None] * (end - start) + radius[:, None, None] * ring).reshape(-1, 3)
    vertices = np.concatenate([rings, start[None], end[None]])
    i, j = (value.ravel() for value in np.meshgrid(np.arange(ALONG - 1), np.arange(AROUND), indexing="ij"))
    half = AROUND // 2
    in_front = j < half

    def at(x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
        turned = (j + y) / AROUND if len(charts) == 1 else (j + y) / half - (~in_front)
        return (i + x) * AROUND + (j + y) % AROUND, np.stack([turned, t[i + x]], 1)

    corners = [at(0, 0), at(0, 1), at(1, 1), at(1, 0)]
    pick = ((0, 1, 2), (0, 2, 3))
    faces = [np.stack([corners[k][0] for k in three], 1) for three in pick]
    uv = [np.stack([corners[k][1] for k in three], 1) for three in pick]
    chart = np.where(in_front, charts[-1], charts[0])
    here = np.arange(AROUND)
    for row, tip in ((0, len(rings)), (ALONG - 1, len(rings) + 1)):
        faces.append(np.stack([row * AROUND + here, row * AROUND + (here + 1) % AROUND, np.full(AROUND, tip)], 1))
        edge = here / AROUND if len(charts) == 1 else here / half - (here >= half)
        step = 1 / AROUND if len(charts) == 1 else 1 / half
        ends = np.full(AROUND, t[row])
        uv.append(np.stack([np.stack([edge + k * step, ends], 1) for k in (0, 1, 0.5)], 1))
    caps = np.where(here < half, charts[-1], charts[0])
    if side < 0:
        uv = [np.stack([1 - one[..., 0], one[..., 1]], -1) for one in uv]
    return _Limb(vertices, np.concatenate(faces), np.concatenate(uv), np.concatenate([chart, chart, caps, caps]))


def figure(rng: np.random.Generator) -> Figure:
    """A figure in a random pose."""
    u = rng.uniform
    parts: list[_Limb] = []
    hip = np.zeros(3)
    lean = turn(0, u(-0.15, 0.3)) @ turn(2, u(-0.15, 0.15))
    neck = lean @ np.array([0, -0.30, 0])
    broad = u(0.9, 1.15)
    waist = [0.118 * broad, 0.115 * broad, 0.09 * broad, 0.1 * broad]
    seat = hip + np.array([0, 0.045, 0])
    parts.append(_limb(neck + lean @ [0, -0.015, 0], seat, waist, (1, 2), lean @ FORWARD, 0.62))
    nod = lean @ turn(0, u(-0.3, 0.3)) @ turn(1, u(-0.6, 0.6))
    top = neck + lean @ np.array([0, -0.045, 0])
    crown = top + nod @ np.array([0, -0.17, 0])
    # the head's halves are right and left: the "front" of its tube is its left side
    parts.append(_limb(crown, top, [0.058, 0.076, 0.07, 0.045], (23, 24), nod @ np.array([1.0, 0, 0]), 0.9))
    parts.append(_limb(top + nod @ np.array([0, -0.03, 0]), neck, [0.035, 0.035], (1, 2), lean @ FORWARD))
    joints = {"head": (crown + top) / 2}
    for side, word in ((-1, "right"), (1, "left")):
        shoulder = neck + lean @ np.array([side * 0.135 * broad, 0.025, 0])
        arm = lean @ turn(2, -side * u(0.1, 1.7)) @ turn(0, u(-1.0, 0.6))
        elbow = shoulder + arm @ np.array([0, 0.16, 0])
        fore = arm @ turn(0, u(-1.7, 0.0))
        wrist = elbow + fore @ np.array([0, 0.15, 0])
        tip = wrist + fore @ np.array([0, 0.08, 0])
        parts.append(_limb(shoulder, elbow, [0.042, 0.04, 0.035], UPPER_ARM[side], arm @ FORWARD, side=side))
        parts.append(_limb(elbow, wrist, [0.036, 0.032, 0.025], LOWER_ARM[side], fore @ FORWARD, side=side))
        parts.append(_limb(wrist, tip, [0.026, 0.032, 0.022], (HAND[side],), fore @ FORWARD, 0.6, side))
        root = hip + lean @ np.array([side * 0.062, 0.03, 0])
        thigh = turn(2, -side * u(0.0, 0.4)) @ turn(0, u(-1.0, 0.4))
        knee = root + thigh @ np.array([0, 0.24, 0])
        shin = thigh @ turn(0, u(0.0, 1.1))
        ankle = knee + shin @ np.array([0, 0.23, 0])
        heel, toe = ankle + shin @ np.array([0, 0.0, 0.03]), ankle + shin @ np.array([0, 0.04, -0.115])
        parts.append(_limb(root, knee, [0.072, 0.064, 0.05], UPPER_LEG[side], thigh @ FORWARD, side=side))
        parts.append(_limb(knee, ankle, [0.05, 0.047, 0.032], LOWER_LEG[side], shin @ FORWARD, side=side))
        parts.append(_limb(heel, toe, [0.03, 0.036, 0.026], (FOOT[side],), shin @ np.array([0, -1.0, 0]), 0.7, side))
        places = zip(
            ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"),
            (shoulder, elbow, wrist, root, knee, ankle),
            strict=True,
        )
        joints |= {f"{word} {name}": place for name, place in places}
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    vertices = np.concatenate([part.vertices for part in parts])
    middle = (vertices.min(0) + vertices.max(0)) / 2
    return Figure(
        vertices - middle,
        np.concatenate([part.faces + start for part, start in zip(parts, starts[:-1], strict=True)]),
        np.concatenate([part.chart for part in parts]),
        np.concatenate([part.uv for part in parts]),
        np.array([joints[name] for name in JOINTS]) - middle,
    )
