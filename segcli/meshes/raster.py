"""Which face of a mesh each pixel shows, at which depth and where on it: a z-buffer in NumPy.

The camera, here and everywhere in segcli: x right, y down, z forward; a point projects to u = fx·x/z + cx and
v = fy·y/z + cy in continuous pixels, of which the one in row r and column c covers [c, c+1) × [r, r+1) and has its
centre at (c + ½, r + ½). That is OpenCV's frame; PyTorch3D's and Pix3D's is (-x, -y, z).

Every triangle is cut into pixel rows and every row into a span of columns, without bounding boxes, so that slivers cost
nothing; one sort by depth lets the nearest win. The cost grows with faces × rows + pixels drawn.
"""

from typing import NamedTuple

import numpy as np

NEAR = 1e-3  # faces with a corner nearer than this are left out
Camera = tuple[float, float, float, float]  # fx, fy, cx, cy in pixels


class Fragments(NamedTuple):
    """face int32 [H,W] (-1: none), depth float32 [H,W] (z; inf: none), weights float32 [H,W,3]: the point shown is the
    sum of weight times corner, correct in perspective."""

    face: np.ndarray
    depth: np.ndarray
    weights: np.ndarray


def project(points: np.ndarray, camera: Camera) -> np.ndarray:
    """[N,3] in the camera's frame -> [N,2] in pixels; what is behind the camera has no meaningful place."""
    fx, fy, cx, cy = camera
    z = np.maximum(points[:, 2], NEAR)
    return np.stack([fx * points[:, 0] / z + cx, fy * points[:, 1] / z + cy], 1)


def rasterise(vertices: np.ndarray, faces: np.ndarray, camera: Camera, size: tuple[int, int]) -> Fragments:
    """vertices [V,3] in the camera's frame, faces [F,3], size (H, W)."""
    height, width = size
    face = np.full(height * width, -1, np.int32)
    depth = np.full(height * width, np.inf, np.float32)
    weights = np.zeros((height * width, 3), np.float32)
    flat = project(vertices, camera)
    index = np.flatnonzero((vertices[:, 2] > NEAR)[faces].all(1)) if len(faces) else np.zeros(0, np.int64)
    x, y = flat[faces[index], 0], flat[faces[index], 1]
    area = _twice_area(x, y)
    seen = (np.abs(area) > 1e-12) & (x.max(1, initial=-1) > 0) & (x.min(1, initial=width + 1) < width)
    index, x, y, area = index[seen], x[seen], y[seen], area[seen]
    owner, row, column = cover(x, y, size)
    if len(owner):
        b1, b2 = _inside(x[owner], y[owner], area[owner], column + 0.5, row + 0.5)
        # 1/z is linear on the screen, z is not
        over = np.stack([1 - b1 - b2, b1, b2], 1).clip(0, 1) / vertices[faces[index[owner]], 2]
        inverse = over.sum(1)
        order = np.argsort(inverse, kind="stable")  # of several writes to a pixel the last one stays: the nearest
        pixel = (row * width + column)[order]
        last = np.empty(height * width, np.int64)
        face[pixel] = index[owner][order]
        last[pixel] = order
        hit = np.flatnonzero(face >= 0)
        depth[hit] = 1 / inverse[last[hit]]
        weights[hit] = over[last[hit]] / inverse[last[hit], None]
    return Fragments(face.reshape(size), depth.reshape(size), weights.reshape(height, width, 3))


def cover(x: np.ndarray, y: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Triangles with corners x, y [F,3] in pixels -> (triangle, row, column) of every pixel whose centre one covers."""
    height, width = size
    top = np.ceil(y.min(1) - 0.5).clip(0, height).astype(np.int64)
    bottom = np.floor(y.max(1) - 0.5).clip(-1, height - 1).astype(np.int64)
    owner, row = _ranges(top, bottom)
    px, py, line = x[owner], y[owner], (row + 0.5)[:, None]
    qx, qy = np.roll(px, -1, 1), np.roll(py, -1, 1)
    rise = qy - py
    along = (line - py) / np.where(rise == 0, 1, rise)
    at = np.where((rise != 0) & (along >= 0) & (along <= 1), px + along * (qx - px), np.nan)
    low = np.fmin.reduce(at, 1, initial=np.inf)  # where the row's middle line enters and leaves the triangle
    high = np.fmax.reduce(at, 1, initial=-np.inf)
    left = np.ceil(low.clip(-1, width + 1) - 0.5).clip(0).astype(np.int64)
    right = np.floor(high.clip(-1, width + 1) - 0.5).clip(-1, width - 1).astype(np.int64)
    span, column = _ranges(left, right)
    return owner[span], row[span], column


def heights(corners: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Triangles [F,3,3], seen along their last axis -> (row, column, height) of every crossing with a line through the
    middle of a cell of a size × size grid over the first two axes (columns, rows)."""
    x, y, z = corners[..., 0], corners[..., 1], corners[..., 2]
    owner, row, column = cover(x, y, (size, size))
    area = _twice_area(x, y)[owner]
    area = np.where(np.abs(area) < 1e-9, np.inf, area)
    b1, b2 = _inside(x[owner], y[owner], area, column + 0.5, row + 0.5)
    z = z[owner]
    return row, column, z[:, 0] + b1 * (z[:, 1] - z[:, 0]) + b2 * (z[:, 2] - z[:, 0])


def _twice_area(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    area: np.ndarray = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    return area


def _inside(
    x: np.ndarray, y: np.ndarray, area: np.ndarray, u: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Barycentric weights of the second and third corner at points (u, v)."""
    du, dv = u - x[:, 0], v - y[:, 0]
    second = (du * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * dv) / area
    third = ((x[:, 1] - x[:, 0]) * dv - du * (y[:, 1] - y[:, 0])) / area
    return second, third


def _ranges(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The whole numbers first..last of each range, one after the other -> (which range, number)."""
    count = (last - first + 1).clip(0)
    owner = np.repeat(np.arange(len(count)), count)
    start = np.cumsum(count) - count
    return owner, np.arange(len(owner)) - start[owner] + first[owner]
