"""Points on the surface of a mesh, and the voxels that it encloses."""

import numpy as np
from scipy import ndimage

from segcli.meshes.raster import heights

Array = np.ndarray


def sample(vertices: Array, faces: Array, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """float32 points and unit normals [count,3] of a mesh, uniform by area: stratified along the faces, so that no
    large face is missed by chance. The mesh must have an area."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    across = np.cross(b - a, c - a)
    area = np.linalg.norm(across, axis=1)
    ends = np.cumsum(area, dtype=np.float64)
    place = (np.arange(count) + rng.random(count)) / count * ends[-1]
    pick = np.searchsorted(ends, place).clip(0, len(faces) - 1)
    r, s = np.sqrt(rng.random((2, count, 1)))
    s = s**2
    points = (1 - r) * a[pick] + r * (1 - s) * b[pick] + r * s * c[pick]
    normals = across[pick] / np.maximum(area[pick, None], 1e-20)
    return points.astype(np.float32), normals.astype(np.float32)


def voxelise(vertices: Array, faces: Array, points: Array, size: int) -> Array:
    """What a mesh in [0, 1]³ fills: bool [size,size,size] (z, y, x). points: on its surface, for what is thinner than a
    cell.

    Lines through the cells' middles along all three axes mark the cells in which they meet the surface: no path from
    cell to neighbouring cell passes a closed surface unmarked, and what can't be reached from outside is inside. That
    asks for no winding and counts no crossings, so that meshes with inverted, doubled and overlapping faces do; an open
    shell stays a shell.
    """
    full = np.zeros((size,) * 3, bool)
    corners = vertices[faces] * size
    for axis in range(3):
        i, j = [k for k in range(3) if k != axis]
        row, column, height = heights(corners[..., [i, j, axis]], size)
        at = np.empty((len(row), 3), np.int64)
        at[:, i], at[:, j], at[:, axis] = column, row, np.floor(height).clip(0, size - 1)
        full[at[:, 2], at[:, 1], at[:, 0]] = True
    at = np.floor(points * size).astype(np.int64).clip(0, size - 1)
    full[at[:, 2], at[:, 1], at[:, 0]] = True
    filled: Array = ndimage.binary_fill_holes(full)
    return filled
