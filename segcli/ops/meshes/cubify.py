"""From occupancy to a surface: voxels become cubes without inner faces (Gkioxari et al., 2019, section 3.2)."""

import functools
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.ops.meshes.packed import Meshes

Align = Literal["corner", "topleft"]

# for the neighbour at (z, y, x): the corners (z, y, x) of the side between, counter-clockwise seen from the neighbour
# where x points right, y down and z away from the viewer
SIDES = {
    (0, 0, 1): ((0, 0, 1), (0, 1, 1), (1, 1, 1), (1, 0, 1)),
    (0, 0, -1): ((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)),
    (0, 1, 0): ((0, 1, 0), (1, 1, 0), (1, 1, 1), (0, 1, 1)),
    (0, -1, 0): ((0, 0, 0), (0, 0, 1), (1, 0, 1), (1, 0, 0)),
    (1, 0, 0): ((1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0)),
    (-1, 0, 0): ((0, 0, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1)),
}


@torch.no_grad()
def cubify(occupancy: Tensor, threshold: float | Tensor, align: Align = "corner") -> Meshes:
    """occupancy [B,D,H,W] (z, y, x), 0..1 -> B meshes around the voxels of at least `threshold` (one number, or B).

    Closed, with outward normals; corners of adjacent voxels are one vertex. A grid without such a voxel gives an empty
    mesh. align: "corner" fills [-1,1]³ with the grid; "topleft" puts the first corners of the first and the last voxel
    at -1 and 1, so that the last voxels reach beyond, as the published weights were trained (pytorch3d's default).
    """
    limit = torch.as_tensor(threshold, dtype=occupancy.dtype, device=occupancy.device)
    full = occupancy >= limit.reshape(-1, 1, 1, 1)
    b, d, h, w = full.shape
    lattice, strides = (d + 1) * (h + 1) * (w + 1), ((h + 1) * (w + 1), w + 1, 1)
    padded = F.pad(full, (1,) * 6)
    quads, owners = [], []
    for (dz, dy, dx), corners in SIDES.items():
        beside = padded[:, 1 + dz : 1 + dz + d, 1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]
        mesh, z, y, x = (full & ~beside).nonzero(as_tuple=True)
        first = mesh * lattice + z * strides[0] + y * strides[1] + x
        steps = [sum(c * s for c, s in zip(corner, strides, strict=True)) for corner in corners]
        quads.append(first[:, None] + torch.tensor(steps, device=full.device))
        owners.append(mesh)
    owner = torch.cat(owners)
    quad = torch.cat(quads)[owner.argsort(stable=True)]
    used, place = torch.unique(quad, return_inverse=True)
    faces = place.reshape(-1, 4)[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)
    at = used % lattice
    corner = torch.stack([at % (w + 1), at // (w + 1) % (h + 1), at // strides[0]], 1)
    cells = torch.tensor([w, h, d], device=full.device) - int(align == "topleft")
    vertices = (corner / cells * 2 - 1).float()
    counts = torch.bincount(used // lattice, minlength=b).tolist()
    return Meshes(vertices, faces, counts, (2 * torch.bincount(owner, minlength=b)).tolist())


@functools.lru_cache
def icosphere(level: int) -> tuple[Tensor, Tensor]:
    """A unit sphere of 20·4^level faces, an icosahedron whose triangles are split: vertices [v,3] float32, faces [f,3].

    level 2 has 162 vertices, 3 has 642, 4 has 2,562. On the CPU, whatever the default device is.
    """
    with torch.device("cpu"):
        return _icosphere(level)


def _icosphere(level: int) -> tuple[Tensor, Tensor]:
    t = (1 + 5**0.5) / 2
    signs = [(a, b) for a in (-1.0, 1.0) for b in (-t, t)]
    corners = [turned for a, b in signs for turned in ((0.0, a, b), (a, b, 0.0), (b, 0.0, a))]
    vertices = torch.tensor(corners, dtype=torch.float64)
    near = (torch.cdist(vertices, vertices) - 2).abs() < 1e-6  # neighbours are 2 apart
    triples = torch.combinations(torch.arange(12), 3)
    a, b, c = triples.T
    faces = triples[near[a, b] & near[b, c] & near[c, a]]
    corner = vertices[faces]
    outward = torch.linalg.det(corner) > 0
    faces = torch.where(outward[:, None], faces, faces.flip(1))
    vertices = F.normalize(vertices)
    for _ in range(level):
        pairs = faces[:, [0, 1, 1, 2, 2, 0]].view(-1, 2).sort(1).values
        edges, index = torch.unique(pairs, dim=0, return_inverse=True)
        ab, bc, ca = (index.view(-1, 3) + len(vertices)).unbind(1)
        a, b, c = faces.unbind(1)
        parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        faces = torch.cat([torch.stack(part, 1) for part in parts])
        vertices = torch.cat([vertices, F.normalize(vertices[edges].mean(1))])
    return vertices.float(), faces
