"""A region of the image and a range of depths are a frustum in front of the camera; it is mapped to [-1,1]³ and back.

The camera's frame: x right, y down, z forward, in the mesh's unit; camera (fx, fy, cx, cy) in pixels. x' and y' are a
point's place in the box, whatever its depth; z' = p + q / z is -1 at `near` and 1 at `far`. The map is projective:
straight lines stay straight and flat faces flat. (Gkioxari et al., 2019, section 3.2; it is their code's homography of
the xz and the yz plane in closed form.)
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.ops.meshes.packed import Meshes


def to_box(points: Tensor, boxes: Tensor, near: Tensor, far: Tensor, camera: Tensor) -> Tensor:
    """points [N,P,3] in the camera's frame; boxes [N,4] in pixels; near <= far [N], > 0; camera [N,4] -> [N,P,3].

    Points at or behind the camera are taken as 0.001 before it.
    """
    z = points[..., 2:].clamp(min=1e-3)
    p, q = _depth(near, far)
    pixels = points[..., :2] / z * camera[:, None, :2] + camera[:, None, 2:]
    middle, half = _middle_and_half(boxes)
    return torch.cat([(pixels - middle) / half, p + q / z], -1)


def from_box(points: Tensor, boxes: Tensor, near: Tensor, far: Tensor, camera: Tensor) -> Tensor:
    """The reverse, with the same arguments. Beyond `far` it stops short of z' where the depth would be infinite."""
    p, q = _depth(near, far)
    z = q / (points[..., 2:] - p).clamp(max=-1e-4)
    middle, half = _middle_and_half(boxes)
    pixels = points[..., :2] * half + middle
    return torch.cat([(pixels - camera[:, None, 2:]) / camera[:, None, :2] * z, z], -1)


def meshes_from_box(meshes: Meshes, boxes: Tensor, near: Tensor, far: Tensor, camera: Tensor) -> Meshes:
    """`from_box` for the vertices of B meshes, each with its own box [B,4], range [B] and camera [B,4]."""
    of = meshes.vertex_mesh
    moved = from_box(meshes.vertices[:, None], boxes[of], near[of], far[of], camera[of])
    return meshes.moved(moved[:, 0])


def normals_to_box(points: Tensor, normals: Tensor, boxes: Tensor, near: Tensor, far: Tensor, camera: Tensor) -> Tensor:
    """Unit normals [N,P,3] of a surface at `points` after `to_box`: those of the mapped surface.

    A normal is mapped by the transposed inverse of the map's derivative: here by the derivative of (x, y, z) as a
    function of (x', y', z').
    """
    z = points[..., 2:].clamp(min=1e-3)
    _, q = _depth(near, far)
    _, half = _middle_and_half(boxes)
    # x = (x'·half_x + m_x - cx)/fx · z, so that ∂x/∂x' = half_x/fx · z; z depends on z' alone: ∂z/∂z' = -z²/q
    sideways = normals[..., :2] * half / camera[:, None, :2] * z
    along = (normals * torch.cat([points[..., :2] / z, torch.ones_like(z)], -1)).sum(-1, keepdim=True) * z.square() / -q
    return F.normalize(torch.cat([sideways, along], -1), dim=-1)


def _depth(near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    """(p, q) [N,1,1] of z' = p + q / z. What is flat and faces the camera gets a range of a ten-thousandth."""
    far = torch.maximum(far, near * (1 + 1e-4))
    q = 2 * near * far / (near - far)
    return (-1 - q / near)[:, None, None], q[:, None, None]


def _middle_and_half(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    return (low + high) / 2, (high - low).clamp(min=1e-3) / 2
