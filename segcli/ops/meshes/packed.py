"""Triangle meshes of different size as one packed list, so that no operator loops over them."""

import dataclasses
import functools
import warnings
from collections.abc import Iterable

import torch
from torch import Tensor


@dataclasses.dataclass
class Meshes:
    """B triangle meshes, one after the other.

    vertices [V,3] float; faces [F,3] int64, indices into all V vertices; vertex_counts, face_counts: of each of the B
    meshes, in their order. A mesh may be empty.
    """

    vertices: Tensor
    faces: Tensor
    vertex_counts: list[int]
    face_counts: list[int]

    @classmethod
    def join(cls, parts: Iterable[tuple[Tensor, Tensor]]) -> "Meshes":
        """Of at least one (vertices [v,3], faces [f,3] into them)."""
        vertices, faces = zip(*parts, strict=True)
        counts = [len(v) for v in vertices]
        starts = [sum(counts[:i]) for i in range(len(counts))]
        moved = torch.cat([f + start for f, start in zip(faces, starts, strict=True)])
        return cls(torch.cat(vertices), moved, counts, [len(f) for f in faces])

    def split(self) -> list[tuple[Tensor, Tensor]]:
        """The reverse of `join`."""
        out, start = [], 0
        parts = zip(self.vertices.split(self.vertex_counts), self.faces.split(self.face_counts), strict=True)
        for vertices, faces in parts:
            out.append((vertices, faces - start))
            start += len(vertices)
        return out

    def __len__(self) -> int:
        return len(self.vertex_counts)

    def moved(self, vertices: Tensor) -> "Meshes":
        """The same faces at other positions [V,3]. What depends on the faces alone is not computed again."""
        out = dataclasses.replace(self, vertices=vertices)
        kept = ("vertex_mesh", "face_mesh", "edges", "adjacency")
        out.__dict__.update({name: self.__dict__[name] for name in kept if name in self.__dict__})
        return out

    def to(self, device: torch.device | str) -> "Meshes":
        """With edges, which the meta device could not find."""
        out = Meshes(self.vertices.to(device), self.faces.to(device), self.vertex_counts, self.face_counts)
        for name in ("vertex_mesh", "face_mesh", "edges"):
            out.__dict__[name] = getattr(self, name).to(device)
        return out

    @functools.cached_property
    def vertex_mesh(self) -> Tensor:
        """Which mesh each vertex belongs to, int64 [V]."""
        return _owners(self.vertex_counts, self.vertices.device)

    @functools.cached_property
    def face_mesh(self) -> Tensor:
        """Which mesh each face belongs to, int64 [F]."""
        return _owners(self.face_counts, self.vertices.device)

    @functools.cached_property
    def edges(self) -> Tensor:
        """Every edge once, int64 [E,2] with the lower vertex first, sorted."""
        pairs = self.faces[:, [0, 1, 1, 2, 2, 0]].view(-1, 2).sort(1).values
        keys = torch.unique(pairs[:, 0] * len(self.vertices) + pairs[:, 1])
        base = max(len(self.vertices), 1)
        return torch.stack([keys // base, keys % base], 1)

    @functools.cached_property
    def adjacency(self) -> Tensor:
        """Sparse CSR [V,V] of ones, float32: row i has vertex i's neighbours. Symmetric."""
        count = len(self.vertices)
        both = torch.cat([self.edges, self.edges.flip(1)])
        both = both[(both[:, 0] * count + both[:, 1]).argsort()]
        rows = torch.zeros(count + 1, dtype=torch.int64, device=both.device)
        rows[1:] = torch.bincount(both[:, 0], minlength=count).cumsum(0)
        ones = torch.ones(len(both), device=both.device)
        with warnings.catch_warnings():  # torch calls this format a beta
            warnings.simplefilter("ignore", UserWarning)
            return torch.sparse_csr_tensor(rows, both[:, 1].contiguous(), ones, (count, count), check_invariants=False)

    def normals_and_areas(self) -> tuple[Tensor, Tensor]:
        """Unit normals [F,3], counter-clockwise seen from outside, and areas [F]. A face without area has normal 0."""
        a, b, c = self.vertices[self.faces].unbind(1)
        cross = torch.linalg.cross(b - a, c - a)
        length = (cross.square().sum(1) + 1e-24).sqrt()  # 1e-24: a gradient where the face has no area
        return cross / length[:, None], length / 2


def _owners(counts: list[int], device: torch.device) -> Tensor:
    return torch.repeat_interleave(torch.tensor(counts, device=device))
