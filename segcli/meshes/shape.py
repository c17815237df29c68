"""One model of a dataset's meshes, normalised, with what labels and scores need of it; read once a process."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from segcli.meshes.files import read_mesh
from segcli.meshes.surface import sample, voxelise

POINTS = 10_000  # on the surface: what the published evaluation samples
GRID = 48  # voxels along each edge of [-½, ½]³


class Shape:
    """A mesh in its own frame: centred, and so large that its longest edge is 1.

    vertices float32 [V,3], faces int64 [F,3]; a point p of the file is (p - centre) / size here. points, normals
    float32 [POINTS,3]: on its surface, uniform by area, always the same. voxels bool [GRID]³ (z, y, x): what it fills
    of [-½, ½]³. A shape travels between processes as its path. Raises DataError as `read_mesh` does.
    """

    def __init__(self, path: Path):
        self.path = path
        read = read_mesh(path)
        low, high = read.vertices.min(0), read.vertices.max(0)
        self.size = float((high - low).max())
        self.centre: np.ndarray = (low + high) / 2
        self.vertices = ((read.vertices - self.centre) / self.size).astype(np.float32)
        self.faces = read.faces

    @functools.cached_property
    def _surface(self) -> tuple[np.ndarray, np.ndarray]:
        return sample(self.vertices, self.faces, POINTS, np.random.default_rng(0))

    @property
    def points(self) -> np.ndarray:
        return self._surface[0]

    @property
    def normals(self) -> np.ndarray:
        return self._surface[1]

    @functools.cached_property
    def voxels(self) -> np.ndarray:
        return voxelise(self.vertices + 0.5, self.faces, self.points + 0.5, GRID)

    def __reduce__(self) -> tuple[Callable[[Path], "Shape"], tuple[Path]]:
        return shape, (self.path,)


def shape(path: Path) -> Shape:
    """The shape of a file as it is now."""
    facts = path.stat()
    return _kept(path, facts.st_mtime_ns, facts.st_size)


@functools.lru_cache(maxsize=1024)
def _kept(path: Path, _time: int, _size: int) -> Shape:
    return Shape(path)
