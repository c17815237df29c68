"""The mesh heads: what they cost, learn and predict."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import trimesh

from segcli.core.errors import UsageError
from segcli.fields.mesh import PosedMeshes
from segcli.metrics.mesh import compare
from segcli.models.interface import Detections, Samples
from segcli.models.rcnn.heads import lite_mesh, mesh
from segcli.models.rcnn.heads.mesh import FULL, MeshHead
from segcli.models.rcnn.mesh_layers import RefinementStage
from segcli.models.rcnn.mesh_targets import MeshTargets
from segcli.ops.meshes.cubify import cubify, icosphere
from segcli.ops.meshes.graph import neighbour_sum, vertex_align
from segcli.ops.meshes.packed import Meshes
from segcli.types import Instances, Target

STRIDES = [4, 8, 16, 32]
SIZE = (64, 64)


@dataclasses.dataclass
class Solid:
    """What a meshes.shape.Shape has, without a file."""

    vertices: np.ndarray
    faces: np.ndarray
    points: np.ndarray
    normals: np.ndarray
    voxels: np.ndarray


def ball() -> Solid:
    """A ball of diameter 1."""
    vertices, faces = icosphere(3)
    solid = trimesh.Trimesh(vertices.numpy() / 2, faces.numpy())
    points, index = trimesh.sample.sample_surface(solid, 4000, seed=0)
    axis = (torch.arange(48) + 0.5) / 48 - 0.5
    inside = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0) < 0.5
    normals = solid.face_normals[index]
    return Solid(
        vertices=(vertices / 2).numpy(),
        faces=faces.numpy(),
        points=points.astype("float32"),
        normals=normals.astype("float32"),
        voxels=inside.numpy(),
    )


BALL = ball()


def target(shapes: list[Solid | None] | None = None) -> Target:
    """Balls 3 before a camera of focal length 96, in the middle of the image: boxes of about 34 pixels."""
    shapes = [BALL] if shapes is None else shapes
    n = len(shapes)
    shift, camera = torch.tensor([[0.0, 0, 3]]).repeat(n, 1), torch.tensor([[96.0, 96, 32, 32]]).repeat(n, 1)
    field = PosedMeshes(shapes, torch.eye(3).repeat(n, 1, 1), torch.ones(n), shift, camera)
    boxes = torch.tensor([[15.5, 15.5, 48.5, 48.5]]).repeat(n, 1)
    return Target(1, SIZE, Instances(boxes, torch.zeros(n, dtype=torch.int64), fields={"mesh": field}))


def samples(of: Target, matched: list[int] | None = None) -> Samples:
    matched = list(range(len(of.instances))) if matched is None else matched
    index = torch.tensor(matched, dtype=torch.int64)
    return Samples([of.instances.boxes[index]], [torch.ones_like(index)], [index], [of], [5])


def pyramid(channels: int = 16) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, channels, 64 // s, 64 // s, generator=generator) for s in STRIDES]


def lite(**settings: object) -> MeshHead:
    head = lite_mesh.build(**{"num_things": 2, "fine": 16, "grid": 8, "width": 8, **settings})
    head.points = 200
    return head


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_three_parts_have_the_published_number_of_parameters():
    head = mesh.build(num_things=9, channels=256, strides=STRIDES)
    millions = [parameters(part) / 1e6 for part in (head.voxel_head, head.z_head, head.mesh_head)]
    assert millions == pytest.approx([2.63, 13.90, 0.47], abs=0.006)


def test_settings_that_make_no_mesh_are_refused():
    for settings in ({"grid": 7}, {"start": "sphere", "stages": 0}):
        with pytest.raises(UsageError, match=r"grid|sphere"):
            lite(**settings)


def test_voxel_targets_are_the_object_in_its_box():
    """A ball is round in its box, and the place where its surface is hit lies at the full cells' border."""
    voxels = MeshTargets.of(samples(target())).voxels(16)[0]
    assert 0.4 < float(voxels.mean()) < 0.65  # π/6 = 0.52, and cells that are touched
    assert voxels[8, 8, 8] == 1
    assert not voxels[0, 0, 0].any()
    assert not voxels[-1, -1, -1].any()
    assert torch.allclose(voxels, voxels.transpose(1, 2))  # round in the image
    assert torch.allclose(voxels, voxels.flip(2))


def test_surface_targets_lie_on_the_voxels_surface_and_look_outward():
    targets = MeshTargets.of(samples(target()))
    points, normals = targets.surface(500, torch.tensor([0]))
    assert points.abs().amax() < 1.1
    assert ((points * normals).sum(-1) > 0).all()
    vertices = cubify(targets.voxels(24), 0.5).vertices
    assert torch.cdist(points[0], vertices).amin(1).max() < 0.25


def test_a_perfect_voxel_part_scores_near_the_label():
    """Through the whole geometry: voxels of the label, their surface, back before the camera, the published score."""
    given = MeshTargets.of(samples(target()))
    boxes, near, far, camera = given.frustum
    extent = (far - near) / ((far + near) / 2) * camera[:, 1]
    f1 = {}
    for side in (8, 24):
        found = PosedMeshes.predicted(cubify(given.voxels(side), 0.5).split(), extent, boxes)
        f1[side] = compare(found, 0, given.field, 0)[2]  # at 0.5, a twentieth of the ball
    assert f1[8] < f1[24]
    assert f1[24] > 0.95


def test_the_depth_target_is_the_range_in_pixels_over_the_box():
    """The ball: from 2.5 to 3.5 deep, 96 pixels a unit at depth 3 would be 32; its box is 33 high."""
    assert MeshTargets.of(samples(target())).extent() == pytest.approx(math.log(96 / 3 / 33), abs=1e-3)


def test_the_bottleneck_on_cells_is_the_bottleneck_on_vertices():
    torch.manual_seed(0)
    stage = RefinementStage(16, 0, 8)
    torch.nn.init.normal_(stage.verts_offset.weight)
    maps, meshes = torch.randn(2, 16, 7, 7), Meshes.join([icosphere(1), icosphere(0)])
    moved, features = stage(maps, meshes, None)
    hidden = torch.cat([stage.bottleneck(vertex_align(maps, meshes)).relu(), meshes.vertices], 1)
    for layer in stage.gconvs:
        summed = layer.w0(hidden) + neighbour_sum(meshes, layer.w1(hidden))
        hidden = torch.cat([summed.relu(), meshes.vertices], 1)
    assert torch.allclose(features, hidden[:, :-3], atol=1e-5)
    assert torch.allclose(moved.vertices, meshes.vertices + stage.verts_offset(hidden).tanh(), atol=1e-5)


def test_without_pixel_alignment_every_vertex_sees_the_same():
    stage = RefinementStage(16, 0, 8, aligned=False)
    maps = torch.randn(1, 16, 7, 7)
    meshes = Meshes.join([icosphere(0)])
    first = stage(maps, meshes, None)[1]
    assert torch.allclose(first, stage(maps.flip(3), meshes, None)[1], atol=1e-6)
    aligned = RefinementStage(16, 0, 8)
    assert not torch.allclose(aligned(maps, meshes, None)[1], aligned(maps.flip(3), meshes, None)[1], atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"stages": 0}, {"start": "sphere"}, {"pixel_aligned": False}])
def test_every_parameter_learns_whatever_an_image_shows(settings: dict[str, object]):
    head = lite(**settings)
    for given in (samples(target()), samples(target([])), samples(target([None])), samples(target([None, BALL]))):
        head.zero_grad()
        losses = head.loss(pyramid(), given)
        assert set(losses) == {f"loss_{part}" for part in ("voxel", "depth", "chamfer", "normal", "edge")}
        assert all(torch.isfinite(v) for v in losses.values())
        sum(losses.values()).backward()
        assert all(p.grad is not None for p in head.parameters())


def test_objects_without_a_mesh_teach_nothing():
    losses = lite().loss(pyramid(), samples(target([None, None])))
    assert all(float(v) == 0 for v in losses.values())
    both, one = lite().eval(), target([None, BALL])
    assert len(MeshTargets.of(samples(one))) == 1
    assert float(both.loss(pyramid(), samples(one))["loss_voxel"]) > 0


def test_it_learns_one_object():
    torch.manual_seed(0)
    head, features, given = lite(), pyramid(), samples(target())
    optimizer = torch.optim.Adam(head.parameters(), 0.02)
    values = []
    for _ in range(15):
        losses = head.loss(features, given)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        values.append({k: float(v) for k, v in losses.items()})
    assert values[-1]["loss_voxel"] < 0.5 * values[0]["loss_voxel"]
    assert values[-1]["loss_depth"] < 0.5 * values[0]["loss_depth"] + 1e-3
    assert values[-1]["loss_chamfer"] < 0.7 * values[0]["loss_chamfer"]


def test_the_same_seeds_give_the_same_losses():
    head, features, given = lite(), pyramid(), samples(target([BALL] * 3))
    first, second = (head.loss(features, given) for _ in range(2))
    assert {k: v.item() for k, v in first.items()} == {k: v.item() for k, v in second.items()}


def test_where_no_voxel_is_full_the_highest_are_taken():
    head = lite()
    voxels = torch.full((2, 8, 8, 8), 0.01)
    voxels[0, 3, 3, 3], voxels[1, 4:6, 4, 4] = FULL / 2, FULL * 2
    assert head._first(voxels, 2, voxels.device).face_counts == [12, 20]


@pytest.mark.parametrize("settings", [{}, {"stages": 0}, {"start": "sphere"}], ids=["voxels", "voxels alone", "sphere"])
def test_meshes_of_the_best_detections_come_back_in_their_boxes(settings: dict[str, object]):
    head = lite(**settings).eval()
    boxes = torch.tensor([[8.0, 8, 40, 56]]).repeat(22, 1)
    found = [Detections(boxes, torch.zeros(22, dtype=torch.int64), torch.linspace(1, 0, 22))]
    none = [Detections(boxes[:0], torch.zeros(0, dtype=torch.int64), torch.zeros(0))]
    with torch.no_grad():
        for given in (found, none):
            head.predict(pyramid(), given)
        field = head.finish(found[0], (64, 64), (128, 192))["fields"]["mesh"]
        assert len(head.finish(none[0], (64, 64), (128, 192))["fields"]["mesh"]) == 0
    assert torch.equal(field.boxes[0], torch.tensor([24.0, 16, 120, 112]))
    sizes = [len(faces) for _, faces in field.found]
    assert all(sizes[:20])
    assert sizes[20:] == [0, 0]
    assert torch.allclose(field.extent[:20], found[0].extra["depth"].exp() * 96)
    assert trimesh.Trimesh(*(v.numpy() for v in field.found[0])).is_watertight
