"""The meshes of a picture of the report, as numbers that its 3D view draws."""

from typing import TypedDict

import torch
from torch import Tensor

from segcli.fields.mesh import PosedMeshes
from segcli.predictions.meshes import before_camera
from segcli.types import Prediction, Target

MOST = 4  # objects of a panel
FACES = 6_000  # of an object: one of more is not shown, it would only make the file large


class Solid(TypedDict):
    """points: x, y, z of each vertex, y up and z to the viewer; corners: three vertices a face."""

    label: int
    score: float | None
    points: list[float]
    corners: list[int]


def solids(look: Target | Prediction, least: float) -> list[Solid]:
    """Of the best objects with a mesh and a score from `least`. Labels lie where they are, predictions at distance
    1."""
    found = look.instances
    if found is None or "mesh" not in found.fields:
        return []
    field = PosedMeshes.of(found)
    out: list[Solid] = []
    for i in torch.where(field.has)[0].tolist():
        score = None if found.scores is None else round(float(found.scores[i]), 3)
        if (score is None or score >= least) and len(out) < MOST:
            points, faces = _of(field, i, look.size)
            if len(faces) <= FACES:
                flat = [round(v, 3) for v in points.flatten().tolist()]
                out.append(
                    Solid(label=int(found.labels[i]), score=score, points=flat, corners=faces.flatten().tolist())
                )
    return out


def _of(field: PosedMeshes, i: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    if field.found is not None:
        [(points, faces)] = before_camera(field[torch.tensor([i])], size)
        return torch.from_numpy(points), torch.from_numpy(faces)
    shape = field.shapes[i]
    assert shape is not None
    return field.vertices(i) * torch.tensor([1.0, -1, -1]), torch.from_numpy(shape.faces)
