"""The head of Mesh R-CNN (Gkioxari et al., 2019): voxels in the box's cube, their surface, and its refinement.

Everything lives in the cube [-1,1]³ of a box and a depth range (ops/meshes/frustum). Voxels say what is where in it;
their surface is the first mesh, whose vertices graph convolutions move; a third part says how deep the cube is. How far
away it is can't be seen in one image.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.core import distributed
from segcli.core.errors import UsageError
from segcli.fields.mesh import PosedMeshes
from segcli.models.interface import Detections, Finished, RoIHead, Samples
from segcli.models.layers.sampler import keyed_generator
from segcli.models.rcnn.mesh_layers import DepthHead, Refinement, VoxelHead
from segcli.models.rcnn.mesh_targets import MeshTargets
from segcli.models.rcnn.pooler import Pooler
from segcli.ops.meshes.cubify import Align, cubify, icosphere
from segcli.ops.meshes.packed import Meshes
from segcli.ops.meshes.surface import chamfer, edge_loss, sample_points

DESCRIBED = 20  # detections of an image that get a mesh, the best: a mesh costs more than all else of a region
FULL = 0.2  # from which probability a voxel is full
LOSSES = ("loss_voxel", "loss_depth", "loss_chamfer", "loss_normal", "loss_edge")
Start = Literal["voxels", "sphere"]


def build(
    *,
    num_things: int,
    channels: int,
    strides: list[int],
    pooler: str = "roi_align",
    grid: int = 24,
    width: int = 128,
    stages: int = 3,
    start: Start = "voxels",
    pixel_aligned: bool = True,
    align: Align = "corner",
) -> RoIHead:
    """grid: voxels along each side, an even number. width: of the graph convolutions. stages: of refinement; 0 leaves
    the voxels' surface. start: what is refined, the voxels' surface or a sphere. pixel_aligned: vertices see the image
    where they lie in it, not the mean over the region. align: how voxels lie in the cube, see `cubify`; the
    official weights need `topleft`.
    """
    pool = lambda side: Pooler(side, strides[:4], method=pooler)
    check(grid, stages, start)
    voxels = VoxelHead(channels, grid) if start == "voxels" else None
    depth = DepthHead(channels * 49, num_things)
    refinement = Refinement(channels, width, stages, pixel_aligned)
    return MeshHead(voxels, depth, refinement, (pool(grid // 2), pool(7), pool(14)), align)


def check(grid: int, stages: int, start: str) -> None:
    """Raises UsageError for settings that make no mesh."""
    if grid < 2 or grid % 2:
        raise UsageError(f"model.heads: grid must be an even number from 2, not {grid}")
    if stages < 0 or (start == "sphere" and not stages):
        raise UsageError("model.heads: a sphere without stages is the same for every object", hint="stages: 3")


class MeshHead(RoIHead):
    """voxel_head, z_head, mesh_head: the three parts; poolers: theirs, in this order."""

    needs = {"mesh": PosedMeshes}
    metric = "mesh"
    class_layers = ("z_head.z_pred.",)
    described = DESCRIBED

    samples: int | None = None
    """Positive samples an image that voxels and depth learn from; None: all."""
    refined: int | None = None
    """How many of them an image are refined; None: all."""
    weights = (3.0, 1.0, 1.0, 0.1, 1.0)
    """Of voxels, depth, chamfer, normals and edges, as in the reference's settings for Pix3D; stages are added."""
    dice = 0.0
    """Weight of a dice loss on voxels, in addition."""
    taught = 0.1
    """Below this IoU of predicted and labelled voxels, the labelled ones are refined in training: an untrained voxel
    part gives none, or noise of many vertices."""
    points = 5000
    """Drawn on each surface for its losses."""
    level, radius = 4, 1.0
    """The sphere's fineness (`icosphere`) and size; one of this fineness also stands for a mesh when costs are
    counted."""

    def __init__(
        self,
        voxels: nn.Module | None,
        depth: nn.Module,
        refinement: Refinement,
        poolers: tuple[Pooler, Pooler, Pooler],
        align: Align = "corner",
    ):
        super().__init__()
        self.voxel_head, self.z_head, self.mesh_head = voxels, depth, refinement
        self.voxel_pooler, self.z_pooler, self.mesh_pooler = poolers
        self.align = align
        icosphere(self.level)  # is made and kept now, not while costs are counted

    def loss(self, features: list[Tensor], samples: Samples) -> dict[str, Tensor]:
        """Means over samples whose object has a mesh. Chamfer, normals and edges add up over the stages; a sample in
        whose cube the label reaches beyond ±5 gives neither of the first two (its box is hardly the object's)."""
        targets = MeshTargets.of(samples.positives(self.samples))
        zero = features[0].sum() * 0 + torch.stack([p.sum() for p in self.parameters()]).sum() * 0
        losses = dict.fromkeys(LOSSES, zero)
        share = distributed.share(len(targets))
        chosen = self._refined(targets)
        share_refined = distributed.share(len(chosen))
        surface = targets.surface(self.points, chosen)
        near = surface[0].abs().amax((1, 2)) < 5
        share_near = distributed.share(int(near.sum()))
        if not len(targets):
            return losses
        voxel_weight, depth_weight, *_ = self.weights
        rows = torch.arange(len(targets), device=targets.labels.device)
        extent = self.z_head(self.z_pooler(features, targets.boxes))[rows, targets.labels]
        losses["loss_depth"] = zero + depth_weight * F.smooth_l1_loss(extent, targets.extent()) * share
        start = None
        if self.voxel_head is not None:
            logits = self.voxel_head(self.voxel_pooler(features, targets.boxes))
            labelled = targets.voxels(logits.shape[-1])
            loss = voxel_weight * F.binary_cross_entropy_with_logits(logits, labelled)
            if self.dice:
                loss = loss + self.dice * _dice(logits.sigmoid(), labelled)
            losses["loss_voxel"] = zero + loss * share
            start = self._taught(logits.detach().sigmoid(), labelled)[chosen]
        if len(chosen):
            maps = self.mesh_pooler(features, targets.boxes)[chosen]
            stages = self.mesh_head(maps, self._first(start, len(chosen), maps.device))
            generators = [keyed_generator(targets.seeds[i], 9) for i in chosen.tolist()]
            means = self._surface_losses(stages, *surface, near, generators)
            shares = (share_near, share_near, share_refined)
            for name, weight, value, own in zip(LOSSES[2:], self.weights[2:], means, shares, strict=True):
                losses[name] = zero + weight * value * own
        return losses

    def _refined(self, targets: MeshTargets) -> Tensor:
        """The samples that are refined, int64."""
        if not self.mesh_head.stages:
            return torch.zeros(0, dtype=torch.int64, device=targets.labels.device)
        chosen, first = [], 0
        for boxes in targets.boxes:
            order = torch.arange(len(boxes))
            if self.refined is not None and len(boxes) > self.refined:
                order = torch.randperm(len(boxes), generator=keyed_generator(targets.seeds[first], 8))[: self.refined]
            chosen.append(order.sort().values + first)
            first += len(boxes)
        return torch.cat(chosen).to(targets.labels.device)

    def _taught(self, predicted: Tensor, labelled: Tensor) -> Tensor:
        full, real = predicted >= FULL, labelled > 0
        iou = (full & real).flatten(1).sum(1) / (full | real).flatten(1).sum(1).clamp(min=1)
        return torch.where((iou < self.taught)[:, None, None, None], labelled, predicted)

    def _first(self, voxels: Tensor | None, count: int, device: torch.device) -> Meshes:
        """What is refined."""
        if voxels is None:
            vertices, faces = icosphere(self.level)
            return Meshes.join([((vertices * self.radius).to(device), faces.to(device))] * count)
        return cubify(voxels.float(), full_from(voxels), self.align)

    def _surface_losses(
        self,
        stages: list[Meshes],
        truth: Tensor,
        truth_normals: Tensor,
        near: Tensor,
        generators: list[torch.Generator],
    ) -> Tensor:
        """[3]: chamfer and normals, means over the samples that are `near` (a mesh without area adds 0), and edges, a
        mean over all. generators: each sample's own, so that its points do not depend on who is beside it."""
        total = torch.zeros(3, device=truth.device)
        for meshes in stages:
            points, normals, real = sample_points(meshes, self.points, generators)
            distance, angle = chamfer(points, truth, normals, truth_normals)
            mean = lambda v, kept=near & real: (v * kept).sum() / near.sum().clamp(min=1)
            total = total + torch.stack([mean(distance), mean(angle), edge_loss(meshes).mean()])
        return total

    def predict(self, features: list[Tensor], detections: list[Detections]) -> None:
        """Adds of the best 20 detections `voxels` [n,G,G,G] (where it has them), `depth` [n], log(depth range / box
        height), and their meshes, packed: `mesh_counts` [n,2] of vertices and faces, `mesh_vertices` [S+1,V,3] before
        and after each of S stages, `mesh_faces` [F,3], indices into all V."""
        for i, found in enumerate(detections):  # image by image, which bounds the memory
            own, boxes = [f[i : i + 1] for f in features], [found.boxes[: self.described]]
            count, device = len(boxes[0]), found.boxes.device
            voxels = None if self.voxel_head is None else self.voxel_head(self.voxel_pooler(own, boxes)).sigmoid()
            rows = torch.arange(count, device=device)
            found.extra["depth"] = self.z_head(self.z_pooler(own, boxes))[rows, found.labels[:count]]
            if voxels is not None:
                found.extra["voxels"] = voxels
            nothing = (torch.zeros(0, 3, device=device), torch.zeros(0, 3, dtype=torch.int64, device=device))
            first = self._first(voxels, count, device) if count else Meshes(*nothing, [], [])
            refined = self.mesh_head(self.mesh_pooler(own, boxes), first) if count else []
            counts = list(zip(first.vertex_counts, first.face_counts, strict=True))
            found.extra["mesh_counts"] = torch.tensor(counts, dtype=torch.int64).view(-1, 2)
            found.extra["mesh_vertices"] = torch.stack([meshes.vertices for meshes in [first, *refined]])
            found.extra["mesh_faces"] = first.faces

    def finish(self, found: Detections, size: tuple[int, int], original: tuple[int, int]) -> Finished:
        boxes = found.boxes * found.boxes.new_tensor([original[1] / size[1], original[0] / size[0]] * 2)
        vertices, faces = found.extra["mesh_vertices"][-1].cpu(), found.extra["mesh_faces"].cpu()
        counts = found.extra["mesh_counts"].T.tolist()
        meshes = Meshes(vertices, faces, *counts).split() if len(faces) else []
        nothing = (torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
        meshes += [nothing] * (len(boxes) - len(meshes))
        heights, depth = boxes[:, 3] - boxes[:, 1], found.extra["depth"]
        extent = torch.zeros_like(heights)
        extent[: len(depth)] = depth.clamp(max=math.log(1000 / 16)).exp() * heights[: len(depth)]
        return {"fields": {"mesh": PosedMeshes.predicted(meshes, extent.cpu(), boxes.cpu())}}

    def count(self, features: list[Tensor], regions: int) -> None:
        """A mesh counts as a sphere of this head's level: 2,562 vertices at level 4, 642 at level 3."""
        if self.voxel_head is not None:
            self.voxel_head(self.voxel_pooler.fixed(features, regions))
        self.z_head(self.z_pooler.fixed(features, regions))
        if len(self.mesh_head.stages) and regions:
            spheres = Meshes.join([icosphere(self.level)] * regions).to(features[0].device)
            self.mesh_head(self.mesh_pooler.fixed(features, regions), spheres)


def full_from(voxels_NGGG: Tensor) -> Tensor:
    """[N]: from which probability on a voxel of each object is full: from FULL, or from 0.6 of the highest one where
    that is less, so that no mesh is empty."""
    return (0.6 * voxels_NGGG.flatten(1).amax(1)).clamp(min=1e-6, max=FULL)


def _dice(predicted: Tensor, labelled: Tensor) -> Tensor:
    both = (predicted * labelled).flatten(1).sum(1)
    return (1 - (2 * both + 1) / ((predicted + labelled).flatten(1).sum(1) + 1)).mean()
