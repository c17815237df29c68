"""What meets at a mesh's vertices: sums over neighbours, and image features where the vertices are projected."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.ops.meshes.packed import Meshes


def neighbour_sum(meshes: Meshes, features: Tensor) -> Tensor:
    """features [V,C] -> for each vertex the sum over its neighbours [V,C], in the time of one sparse product."""
    if features.device.type not in ("cpu", "cuda"):  # no sparse products there; nor on the meta device
        start, end = torch.cat([meshes.edges, meshes.edges.flip(1)]).unbind(1)
        return torch.zeros_like(features).index_add(0, start, features[end])
    return _NeighbourSum.apply(meshes.adjacency, features)


class _NeighbourSum(torch.autograd.Function):
    """The matrix is symmetric, so that the gradient is the same product."""

    @staticmethod
    def forward(ctx: Any, adjacency: Tensor, features: Tensor) -> Tensor:
        ctx.adjacency = adjacency
        return _product(adjacency, features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, _product(ctx.adjacency, gradients[0])


def _product(adjacency: Tensor, features: Tensor) -> Tensor:
    """In float32 or float64: sparse products of fewer bits are not to be had everywhere."""
    kind = torch.float64 if features.dtype == torch.float64 else torch.float32
    with torch.autocast(features.device.type, enabled=False):
        return (adjacency.to(kind) @ features.to(kind).contiguous()).to(features.dtype)


def vertex_align(maps: Tensor, meshes: Meshes) -> Tensor:
    """maps [B,C,S,T], of each mesh one over [-1,1]² -> bilinear values [V,C] at every vertex's (x, y).

    ±1 are the centres of the outermost cells; beyond them the border's value (grid_sample's `align_corners=True`,
    `padding_mode="border"`). `embedding_bag` fetches and sums the four cells in one pass. (Wang et al., 2018,
    Pixel2Mesh, section 3.3; Gkioxari et al., 2019.)
    """
    b, c, s, t = maps.shape
    cells = maps.permute(0, 2, 3, 1).reshape(b * s * t, c)
    last = meshes.vertices.new_tensor([t - 1, s - 1])
    at = ((meshes.vertices[:, :2] + 1) / 2 * last).clamp(min=torch.zeros_like(last), max=last)
    low = torch.minimum(at.detach().floor(), (last - 1).clamp(min=0))
    (u, v), (x, y) = (at - low).to(cells.dtype).unbind(1), low.long().unbind(1)
    first = (meshes.vertex_mesh * s + y) * t + x
    right, down = int(t > 1), t * int(s > 1)
    index = torch.stack([first, first + right, first + down, first + down + right], 1)
    weight = torch.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v], 1)
    return F.embedding_bag(index, cells, mode="sum", per_sample_weights=weight)
