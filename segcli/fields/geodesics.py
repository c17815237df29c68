"""Distances along the surface of a body, between places on its charts."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree
from torch import Tensor

from segcli.core.errors import DataError
from segcli.fields.side_files import read_arrays


@dataclasses.dataclass(frozen=True)
class Geodesics:
    """charts: of each chart a tree of places (u, v) and the numbers of these; distances [N(N-1)/2] of numbers i > j, at
    i(i-1)/2 + j; sigma [charts + 1] by chart."""

    charts: dict[int, tuple[KDTree, np.ndarray]]
    distances: np.ndarray
    sigma: np.ndarray

    def similarity(self, said: Tensor, labelled: Tensor) -> float:
        """GPS of charts, u and v [P,3]; chart 0 says nothing. Of each the nearest place in (u, v) is taken."""
        one, other = self._numbers(said.double().numpy()), self._numbers(labelled.double().numpy())
        known = (one >= 0) & (other >= 0)
        first, second = np.maximum(one, other)[known], np.minimum(one, other)[known]
        distance = np.zeros(len(first))
        apart = first > second
        distance[apart] = self.distances[(first * (first - 1) // 2 + second)[apart]]
        sigma = self.sigma[labelled[:, 0].long().numpy()][known]
        return float(np.exp(-(distance**2) / (2 * sigma**2)).sum() / max(len(one), 1))

    def _numbers(self, points: np.ndarray) -> np.ndarray:
        """int64 [P]; -1 on no chart."""
        out = np.full(len(points), -1)
        for chart, (tree, numbers) in self.charts.items():
            on = points[:, 0] == chart
            if on.any():
                out[on] = numbers[tree.query(points[on, 1:])[1]]
        return out


@functools.lru_cache(maxsize=1)
def geodesics(path: Path, charts: int) -> Geodesics:
    """Read from a side file with these arrays. Raises DataError.

    chart, u, v, vertex [V]: places on the surface, and the vertex of the mesh that lies there; one on a seam stands
    once for each chart. distances [N(N-1)/2]: along the surface between vertices i > j, at i(i-1)/2 + j. sigma: one
    number, or one for each chart.
    """
    chart, u, v, vertex, distances, sigma = read_arrays(path, "chart", "u", "v", "vertex", "distances", "sigma")
    if not len(chart) == len(u) == len(v) == len(vertex) > 0 or sigma.size not in (1, charts):
        raise DataError(f"{path}: chart, u, v and vertex must be of one length, sigma one number or one a chart")
    n = int(vertex.max()) + 1
    if vertex.min() < 0 or distances.shape != (n * (n - 1) // 2,):
        pairs = f"{list(distances.shape)} distances, and not those of all pairs of {n} vertices"
        raise DataError(f"{path}: has {pairs}", hint="are they of this mesh?")
    if sorted({*chart.tolist()}) != [*range(1, charts + 1)]:
        raise DataError(f"{path}: has not the charts 1 to {charts} that the dataset declares", hint="of another body?")
    if not (np.isfinite(distances).all() and distances.min(initial=0) >= 0 and np.isfinite(sigma).all()):
        raise DataError(f"{path}: distances and sigma must be finite, and no distance below 0")
    if sigma.min() <= 0:
        raise DataError(f"{path}: sigma must be above 0")
    trees = {}
    for one in range(1, charts + 1):
        on = chart == one
        trees[one] = KDTree(np.stack([u[on], v[on]], 1).astype(np.float64)), vertex[on].astype(np.int64)
    spread = np.broadcast_to(sigma.astype(np.float64).ravel(), charts)
    return Geodesics(trees, distances, np.concatenate([spread[:1], spread]))
