"""The rasteriser against rays cast by trimesh with embree; voxels of solids whose volume is known."""

import numpy as np
import pytest
import trimesh
from trimesh.ray.ray_pyembree import RayMeshIntersector

from segcli.meshes.raster import project, rasterise
from segcli.meshes.surface import sample, voxelise

CAMERA, SIZE = (90.0, 80.0, 33.0, 20.0), (48, 64)


def posed(mesh):
    turn = trimesh.transformations.random_rotation_matrix(np.array([0.2, 0.5, 0.7]))[:3, :3]
    return mesh.vertices @ turn.T + [0.1, 0.2, 3.0], mesh.faces


@pytest.mark.parametrize(
    "mesh", [trimesh.creation.icosphere(3), trimesh.creation.box(), trimesh.creation.annulus(0.5, 1, 0.3)]
)
def test_each_pixel_shows_what_a_ray_through_its_centre_meets_first(mesh):
    vertices, faces = posed(mesh)
    found = rasterise(vertices, faces, CAMERA, SIZE)
    fx, fy, cx, cy = CAMERA
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    rays = np.stack([(columns + 0.5 - cx) / fx, (rows + 0.5 - cy) / fy, np.ones(SIZE)], -1).reshape(-1, 3)
    caster = RayMeshIntersector(trimesh.Trimesh(vertices, faces, process=False))
    places, ray, met = caster.intersects_location(np.zeros_like(rays), rays, multiple_hits=False)
    depth = np.full(len(rays), np.inf)
    depth[ray] = places[:, 2]
    mine = found.depth.ravel()
    assert (np.isfinite(mine) != np.isfinite(depth)).mean() < 0.002  # rays along an edge
    both = np.isfinite(mine) & np.isfinite(depth)
    assert both.sum() > 300
    assert np.abs(mine[both] - depth[both]).max() < 1e-3
    same = found.face.ravel()[ray] == met
    assert same.mean() > 0.99
    hit = ray[same]  # the same point of a texture: u, v of corners, weighted in space as trimesh does it
    uv = np.random.default_rng(0).random((len(vertices), 2))
    theirs = trimesh.triangles.points_to_barycentric(vertices[faces[met[same]]], places[same])
    mine_there = found.weights.reshape(-1, 3)[hit]
    shown = [(uv[faces[met[same]]] * weights[..., None]).sum(1) for weights in (mine_there, theirs)]
    assert np.abs(shown[0] - shown[1]).max() < 5e-3
    on = found.face >= 0
    points = (vertices[faces[found.face[on]]] * found.weights[on][..., None]).sum(1)
    assert np.abs(points[:, 2] - found.depth[on]).max() < 1e-4
    flat = project(points, CAMERA)
    assert np.abs(flat - np.stack([columns[on], rows[on]], 1) - 0.5).max() < 1e-2


def test_what_is_behind_the_camera_or_beside_the_picture_draws_nothing():
    vertices = np.array([[0, 0, -1.0], [1, 0, -1], [0, 1, -1], [90, 0, 1], [91, 0, 1], [90, 1, 1]])
    for faces in (np.array([[0, 1, 2]]), np.array([[3, 4, 5]]), np.array([[0, 1, 3]]), np.zeros((0, 3), int)):
        assert (rasterise(vertices, faces, CAMERA, SIZE).face == -1).all()


def test_voxels_fill_solids_whatever_their_winding_and_leave_open_shells_hollow():
    def filled(mesh, faces=None):
        faces = mesh.faces if faces is None else faces
        points, _ = sample(mesh.vertices, faces, 2000, np.random.default_rng(0))
        return voxelise(mesh.vertices + 0.5, faces, points + 0.5, 32)

    ball = trimesh.creation.icosphere(4, radius=0.4)
    inverted = np.where(np.random.default_rng(1).random((len(ball.faces), 1)) < 0.5, ball.faces, ball.faces[:, ::-1])
    whole = filled(ball)
    assert whole.mean() == pytest.approx(4 / 3 * np.pi * 0.4**3, rel=0.12)  # cells that the surface touches count
    assert (filled(ball, inverted) == whole).mean() > 0.995
    assert whole[16, 16, 16]
    open_ball = ball.faces[ball.vertices[ball.faces][:, :, 1].mean(1) > -0.2]
    assert not filled(ball, open_ball)[16, 16, 16]


def test_points_are_uniform_by_area_and_normals_point_outward():
    box = trimesh.creation.box((1.0, 0.5, 0.25))
    points, normals = sample(box.vertices, box.faces, 7000, np.random.default_rng(0))
    assert (np.abs(points) <= np.array([0.5, 0.25, 0.125]) + 1e-6).all()
    assert ((points * normals).sum(1) > 0).all()
    wide = (np.abs(normals[:, 2]) > 0.9).mean()
    assert wide == pytest.approx(2 * 0.5 / box.area, abs=0.01)
