"""Points on surfaces, and what they say of two surfaces' difference: chamfer distance and normals; the edge loss."""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree
from torch import Tensor

from segcli.ops.meshes.packed import Meshes

ROWS = 2048  # of a distance matrix at once


def sample_points(
    meshes: Meshes, count: int, generators: Sequence[torch.Generator | None] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """`count` points on each mesh, uniform by area, and unit normals there, both [B,count,3]; bool [B]: it has area.

    Points and normals have gradients to the vertices. One draw in each of `count` equal shares of the area: unbiased,
    and less noisy than independent draws. A mesh without area gives zeros. generators: each mesh's own, on the CPU.
    """
    device, kind = meshes.vertices.device, meshes.vertices.dtype
    own: Sequence[torch.Generator | None] = [None] * len(meshes) if generators is None else generators
    draws = torch.stack([torch.rand(count, 3, generator=one, dtype=torch.float64) for one in own]).to(device)
    normals, areas = meshes.normals_and_areas()
    with torch.no_grad():
        total = torch.zeros(len(meshes), dtype=torch.float64, device=device)
        total = total.index_add(0, meshes.face_mesh, areas.double())
        real = total > 1e-12
        if not real.any():
            return (
                meshes.vertices.new_zeros(len(meshes), count, 3),
                meshes.vertices.new_zeros(len(meshes), count, 3),
                real,
            )
        # every mesh with area has an interval of length 1 on a line, in which its faces have their shares
        share = areas.double() / total.clamp(min=1e-12)[meshes.face_mesh] * real[meshes.face_mesh]
        start = real.double().cumsum(0) - real.double()
        at = start[:, None] + (torch.arange(count, device=device) + draws[..., 0]) / count
        counts = torch.tensor(meshes.face_counts, device=device)[:, None]
        ends = counts.cumsum(0)  # rounding must not lead into a mesh beside
        face = torch.searchsorted(share.cumsum(0), at).clamp(min=ends - counts, max=(ends - 1).clamp(min=0))
        face = face.clamp(max=len(meshes.faces) - 1)
        root, v = draws[..., 1].sqrt(), draws[..., 2]
        weights = torch.stack([1 - root, root * (1 - v), root * v], -1).to(kind)
    corners = meshes.vertices[meshes.faces[face]]  # [B,count,3,3]
    keep = real[:, None, None].to(kind)
    return (weights[..., None] * corners).sum(2) * keep, normals[face] * keep, real


@torch.no_grad()
def nearest(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """x [B,P,3], y [B,Q,3] -> int64 [B,P], the y nearest to each x, and [B,Q], the x nearest to each y.

    On a CPU by k-d trees, in the order of n log n and a few MB; elsewhere by all distances, ROWS at a time. Which one
    is nearest to a point that is not finite has no meaning; distances to it are then not finite either.
    """
    if x.device.type != "cpu":
        return _nearest_of_all(x, y), _nearest_of_all(y, x)
    known = [points.double().nan_to_num(0, 0, 0).numpy() for points in (x, y)]  # trees refuse others
    found = list(_pool().map(_nearest_of_trees, *known))
    first, second = (np.stack([pair[i] for pair in found]) for i in (0, 1))
    return torch.from_numpy(first), torch.from_numpy(second)


@functools.lru_cache
def _pool() -> ThreadPoolExecutor:
    """scipy releases the interpreter while it searches."""
    return ThreadPoolExecutor(max(1, torch.get_num_threads()), "nearest")


def _nearest_of_trees(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tree = lambda points: cKDTree(points, compact_nodes=False, balanced_tree=False)  # half the time to build
    return tree(y).query(x)[1], tree(x).query(y)[1]


def _nearest_of_all(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([torch.cdist(rows, y).argmin(2) for rows in x.split(ROWS, 1)], 1)


def chamfer(x: Tensor, y: Tensor, x_normals: Tensor, y_normals: Tensor) -> tuple[Tensor, Tensor]:
    """Of points [B,P,3], [B,Q,3] and their normals, two losses [B]: the mean squared distance to the nearest point of
    the other set, both ways added; 1 - |cosine| of the normals there, both ways added.

    Which point is nearest is found without gradient: moving it by little changes nothing there, so the gradient through
    the distance alone is exact. (Gkioxari et al., 2019, equations 1 and 2; a normal's sign does not count.)
    """
    of_x, of_y = nearest(x.detach(), y.detach())
    take = lambda values, index: values.gather(1, index[..., None].expand(-1, -1, 3))
    distance = (x - take(y, of_x)).square().sum(-1).mean(1) + (y - take(x, of_y)).square().sum(-1).mean(1)
    angle = lambda a, b: 1 - F.cosine_similarity(a, b, dim=-1).abs().mean(1)
    return distance, angle(x_normals, take(y_normals, of_x)) + angle(y_normals, take(x_normals, of_y))


def edge_loss(meshes: Meshes) -> Tensor:
    """Mean squared length of each mesh's edges [B], 0 for an empty one (Wang et al., 2018, section 3.4)."""
    start, end = meshes.vertices[meshes.edges].unbind(1)
    mesh = meshes.vertex_mesh[meshes.edges[:, 0]]
    total = meshes.vertices.new_zeros(len(meshes)).index_add(0, mesh, (start - end).square().sum(1))
    return total / torch.bincount(mesh, minlength=len(meshes)).clamp(min=1)
