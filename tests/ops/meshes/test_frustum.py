"""The map between the camera's frame and a region's cube: against a homography fitted to its corners."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segcli.ops.meshes.cubify import icosphere
from segcli.ops.meshes.frustum import from_box, meshes_from_box, normals_to_box, to_box
from segcli.ops.meshes.packed import Meshes

BOX, CAMERA = torch.tensor([[30.0, 40, 90, 130]]), torch.tensor([[200.0, 210, 80, 76]])
RANGE = (torch.tensor([2.0]), torch.tensor([3.5]))


def cube_points(count: int = 50) -> torch.Tensor:
    return torch.rand(1, count, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_there_and_back_is_where_it_began():
    points = cube_points()
    there = from_box(points, BOX, *RANGE, CAMERA)
    assert torch.allclose(to_box(there, BOX, *RANGE, CAMERA), points, atol=1e-5)


def test_the_cube_s_corners_are_the_box_at_both_depths():
    corner = from_box(torch.tensor([[[-1.0, -1, -1], [1, 1, 1]]]), BOX, *RANGE, CAMERA)[0]
    pixels = corner[:, :2] / corner[:, 2:] * CAMERA[0, :2] + CAMERA[0, 2:]
    assert torch.allclose(pixels.flatten(), BOX[0])
    assert torch.allclose(corner[:, 2], torch.tensor([2.0, 3.5]))


@pytest.mark.parametrize("axis", [0, 1])
def test_it_is_the_homography_of_each_plane_s_four_corners(axis: int):
    """As the published code finds it: eight equations for eight unknowns, solved here without the closed form."""
    sign = np.array([[-1.0, -1], [1, -1], [-1, 1], [1, 1]])
    cube = torch.zeros(1, 4, 3)
    cube[0, :, axis], cube[0, :, 2] = torch.tensor(sign[:, 0]), torch.tensor(sign[:, 1])
    source = from_box(cube, BOX, *RANGE, CAMERA)[0].double().numpy()[:, [axis, 2]]
    rows = []
    for (x, z), (u, v) in zip(source, sign, strict=True):
        rows += [[x, z, 1, 0, 0, 0, -u * x, -u * z], [0, 0, 0, x, z, 1, -v * x, -v * z]]
    matrix = np.append(np.linalg.solve(np.array(rows), sign.reshape(-1)), 1).reshape(3, 3)
    points = from_box(cube_points(), BOX, *RANGE, CAMERA)
    mapped = np.concatenate([points[0].numpy()[:, [axis, 2]], np.ones((50, 1))], 1) @ matrix.T
    expected = mapped[:, :2] / mapped[:, 2:]
    assert np.allclose(to_box(points, BOX, *RANGE, CAMERA)[0].numpy()[:, [axis, 2]], expected, atol=1e-4)


def test_normals_are_those_of_the_mapped_triangles():
    vertices, faces = icosphere(2)
    vertices = vertices * 0.5 + torch.tensor([0.1, -0.2, 2.75])
    corner, mapped = (v[faces] for v in (vertices, to_box(vertices[None], BOX, *RANGE, CAMERA)[0]))
    flat = lambda c: F.normalize(torch.linalg.cross(c[:, 1] - c[:, 0], c[:, 2] - c[:, 0]))
    got = normals_to_box(corner.mean(1)[None], flat(corner)[None], BOX, *RANGE, CAMERA)[0]
    assert (got * flat(mapped)).sum(1).min() > 0.999


def test_each_mesh_has_a_box_and_a_camera_of_its_own():
    meshes = Meshes.join([icosphere(0), icosphere(1)])
    boxes, near, far = torch.cat([BOX, BOX + 7]), torch.tensor([2.0, 1]), torch.tensor([3.5, 4])
    cameras = torch.cat([CAMERA, CAMERA * 2])
    moved = meshes_from_box(meshes, boxes, near, far, cameras).split()
    for i, (vertices, _) in enumerate(meshes.split()):
        one = from_box(vertices[None], boxes[i : i + 1], near[i : i + 1], far[i : i + 1], cameras[i : i + 1])[0]
        assert torch.allclose(moved[i][0], one)


def test_what_is_flat_and_faces_the_camera_has_a_place():
    at = torch.tensor([2.0])
    flat = from_box(torch.tensor([[[-1.0, 0.5, -1], [1, 1, -1]]]), BOX, at, at, CAMERA)
    assert torch.allclose(flat[..., 2], at)
    assert torch.allclose(to_box(flat, BOX, at, at, CAMERA)[0, :, :2], torch.tensor([[-1.0, 0.5], [1, 1]]), atol=1e-5)
    assert torch.isfinite(to_box(flat, BOX, at, at, CAMERA)).all()


def test_beyond_the_range_depths_stay_finite_and_in_front():
    far_out = torch.tensor([[[0.0, 0, 50], [0, 0, -50]]])
    assert (from_box(far_out, BOX, *RANGE, CAMERA)[..., 2] > 0).all()
    assert torch.isfinite(to_box(torch.zeros(1, 1, 3), BOX, *RANGE, CAMERA)).all()
