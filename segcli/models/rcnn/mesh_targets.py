"""What the mesh head learns of its samples: each object's shape in the cube of its sample's box
(ops/meshes/frustum)."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.fields.mesh import PosedMeshes
from segcli.meshes.shape import Shape
from segcli.models.interface import Samples
from segcli.models.layers.sampler import keyed_generator
from segcli.ops.meshes.frustum import from_box, normals_to_box, to_box

Frustum = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclasses.dataclass
class MeshTargets:
    """Of N samples whose object has a mesh. boxes: the samples', [n,4] an image; labels [N] 0..C-1; frustum: all boxes
    [N,4], near, far [N] and camera [N,4]; field: the objects' shapes and poses; seeds: one a sample."""

    boxes: list[Tensor]
    labels: Tensor
    frustum: Frustum
    field: PosedMeshes
    seeds: list[int]

    @classmethod
    def of(cls, samples: Samples) -> "MeshTargets":
        """Of the positive samples of objects with a mesh."""
        boxes, labels, fields, seeds = [], [], [], []
        for i, target in enumerate(samples.targets):
            field, matched = PosedMeshes.of(target.instances), samples.matched[i]
            has = field.has.to(matched.device)
            keep = has[matched] if len(field) else torch.zeros(len(matched), dtype=torch.bool, device=matched.device)
            boxes.append(samples.boxes[i][keep])
            labels.append(samples.labels[i][keep] - 1)
            fields.append(field[matched[keep].cpu()])
            seeds += [samples.seeds[i] * 1000 + k for k in range(int(keep.sum()))]
        join = lambda name: torch.cat([getattr(f, name) for f in fields])
        shapes = [shape for f in fields for shape in f.shapes]
        field = PosedMeshes(shapes, join("rotation"), join("scales"), join("shift"), join("camera"))
        near, far = field.depth_range()
        every = torch.cat(boxes)
        frustum = (every, near.to(every), far.to(every), field.camera.to(every))
        return cls(boxes, torch.cat(labels), frustum, field, seeds)

    def __len__(self) -> int:
        return len(self.labels)

    def shapes(self) -> list[Shape]:
        """Of every sample."""
        return [shape for shape in self.field.shapes if shape is not None]

    def voxels(self, side: int) -> Tensor:
        """float32 [N,side,side,side] (z, y, x): 1 where the object is.

        Each cell's centre is looked up in the object's own voxels: scattering those into the cells would leave holes.
        It is full where any of the 2³ voxels around it is, so that legs thinner than a cell stay.
        """
        boxes = self.frustum[0]
        axis = (torch.arange(side, device=boxes.device) + 0.5) / side * 2 - 1
        z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
        cells = torch.stack([x, y, z], -1).view(1, -1, 3).expand(len(self), -1, -1)
        places = self._in_own_frame(from_box(cells, *self.frustum))
        shapes = self.shapes()
        unique = list({id(shape): shape for shape in shapes}.values())
        order = {id(shape): k for k, shape in enumerate(unique)}
        grids = torch.stack([torch.from_numpy(shape.voxels) for shape in unique]).to(boxes)
        grids = F.max_pool3d(F.pad(grids, (1,) * 6)[:, None], 2, 1)[:, 0]  # of 2³ voxels around each corner
        count = grids.shape[-1]
        which = torch.tensor([order[id(shape)] for shape in shapes], device=boxes.device)
        at = ((places + 0.5) * (count - 1) + 0.5).floor()
        inside = ((at >= 0) & (at < count)).all(-1)
        x, y, z = at.clamp(0, count - 1).long().unbind(-1)
        return (grids[which[:, None], z, y, x] * inside).view(-1, side, side, side)

    def surface(self, count: int, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Of the samples `chosen` [n]: `count` points on the surface, in the box's cube, and unit normals,
        [n,count,3]."""
        if not len(chosen):
            return self.frustum[0].new_zeros(0, count, 3), self.frustum[0].new_zeros(0, count, 3)
        points, normals, shapes = [], [], self.shapes()
        for i in chosen.tolist():
            shape = shapes[i]
            pick = torch.randint(len(shape.points), (count,), generator=keyed_generator(self.seeds[i], 7))
            points.append(torch.from_numpy(shape.points)[pick])
            normals.append(torch.from_numpy(shape.normals)[pick])
        boxes = self.frustum[0]
        turn, scale, shift = (
            v[chosen.cpu()].to(boxes) for v in (self.field.rotation, self.field.scales, self.field.shift)
        )
        here = torch.stack(points).to(boxes) @ (turn.mT * scale[:, None, None]) + shift[:, None]
        frustum = tuple(v[chosen] for v in self.frustum)
        own = torch.stack(normals).to(boxes) @ turn.mT
        return to_box(here, *frustum), normals_to_box(here, own, *frustum)

    def extent(self) -> Tensor:
        """log of the depth range over the height of the box, both in pixels at the middle's depth [N]: see the paper's
        appendix, and the reference's evaluation."""
        boxes, near, far, camera = self.frustum
        pixels = (far - near) / ((far + near) / 2) * camera[:, 1]
        return (pixels / (boxes[:, 3] - boxes[:, 1]).clamp(min=1)).clamp(min=1e-3).log()

    def _in_own_frame(self, points: Tensor) -> Tensor:
        turn, scale, shift = (v.to(points) for v in (self.field.rotation, self.field.scales, self.field.shift))
        return (points - shift[:, None]) @ (turn / scale[:, None, None])
