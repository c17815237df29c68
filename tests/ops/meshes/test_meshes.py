"""Operators on meshes against known answers and independent formulas."""

import pytest
import torch
import torch.nn.functional as F
import trimesh
from torch.autograd import gradcheck

from segcli.ops.meshes.cubify import cubify, icosphere
from segcli.ops.meshes.graph import neighbour_sum, vertex_align
from segcli.ops.meshes.packed import Meshes
from segcli.ops.meshes.surface import ROWS, _nearest_of_all, chamfer, edge_loss, nearest, sample_points


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def two_spheres() -> Meshes:
    return Meshes.join([icosphere(1), icosphere(0)])


def cube(kind: torch.dtype = torch.float64) -> Meshes:
    """Two unit cubes."""
    box = trimesh.creation.box()
    return Meshes.join([(torch.tensor(box.vertices, dtype=kind), torch.tensor(box.faces))] * 2)


def solid(vertices: torch.Tensor, faces: torch.Tensor) -> trimesh.Trimesh:
    return trimesh.Trimesh(vertices.numpy(), faces.numpy(), process=False)


def test_meshes_of_different_size_are_joined_and_split_again():
    parts = [icosphere(1), (torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64)), icosphere(0)]
    back = Meshes.join(parts).split()
    assert all(torch.equal(a, b) for one, two in zip(parts, back, strict=True) for a, b in zip(one, two, strict=True))


def test_a_voxel_becomes_a_cube_at_its_place():
    occupancy = torch.zeros(1, 4, 4, 4)
    occupancy[0, 1, 2, 3] = 1  # z, y, x
    [(vertices, faces)] = cubify(occupancy, 0.5).split()
    assert (len(vertices), len(faces)) == (8, 12)
    assert vertices.min(0).values.tolist() == [0.5, 0.0, -0.5]
    assert vertices.max(0).values.tolist() == [1.0, 0.5, 0.0]
    [(beyond, _)] = cubify(occupancy, 0.5, "topleft").split()  # its first corner at 3 / 3, its last one beyond 1
    assert torch.allclose(beyond.amax(0), torch.tensor([4 / 3 * 2 - 1, 1.0, 2 / 3 * 2 - 1]))


def test_shared_corners_are_one_vertex_and_inner_sides_are_left_out():
    occupancy = torch.zeros(1, 4, 4, 4)
    occupancy[0, 1:3, 1:3, 1:3] = 1
    meshes = cubify(occupancy, 0.5)
    assert (len(meshes.vertices), len(meshes.faces)) == (26, 48)


@pytest.mark.parametrize(
    ("cut", "euler"), [((slice(0), slice(0)), 2), ((slice(1, 2), slice(1, 2)), 0)], ids=["block", "ring"]
)
def test_the_surface_has_the_right_euler_number(cut: tuple[slice, slice], euler: int):
    occupancy = torch.ones(1, 1, 3, 3)
    occupancy[(0, 0, *cut)] = 0
    meshes = cubify(occupancy, 0.5)
    assert len(meshes.vertices) - len(meshes.edges) + len(meshes.faces) == euler


def test_the_surface_of_any_voxels_is_closed_and_looks_outward():
    occupancy = (torch.rand(3, 9, 7, 8, generator=seeded()) > 0.6).float()
    for full, (vertices, faces) in zip(occupancy, cubify(occupancy, 0.5).split(), strict=True):
        assert solid(vertices, faces).volume == pytest.approx(float(full.sum()) * 8 / (9 * 7 * 8), abs=1e-4)


def test_each_grid_has_its_own_threshold_and_may_be_empty():
    occupancy = torch.full((3, 2, 2, 2), 0.3)
    assert cubify(occupancy, torch.tensor([0.2, 0.3, 0.4])).face_counts == [48, 48, 0]
    assert len(cubify(occupancy, 0.9).vertices) == 0


def test_a_sphere_is_round_closed_and_looks_outward():
    vertices, faces = icosphere(4)
    assert (len(vertices), len(faces)) == (2562, 20 * 4**4)
    assert solid(vertices, faces).is_watertight
    assert 4.15 < solid(vertices, faces).volume < 4 / 3 * torch.pi


def dense_adjacency(meshes: Meshes) -> torch.Tensor:
    out = torch.zeros(len(meshes.vertices), len(meshes.vertices))
    for face in meshes.faces.tolist():
        for i in face:
            for j in face:
                out[i, j] = float(i != j)
    return out


def test_neighbours_are_summed_as_by_a_dense_matrix():
    meshes = two_spheres()
    features = torch.randn(len(meshes.vertices), 5, generator=seeded())
    dense = dense_adjacency(meshes)
    assert set(dense[-12:].sum(1).tolist()) == {5.0}  # an icosahedron
    assert torch.allclose(neighbour_sum(meshes, features), dense @ features, atol=1e-5)
    small = Meshes.join([icosphere(0)])
    assert gradcheck(lambda x: neighbour_sum(small, x), features[:12, :2].double().requires_grad_())


def test_aligned_features_are_those_of_grid_sample():
    maps = torch.randn(2, 6, 5, 7, generator=seeded(), dtype=torch.float64, requires_grad=True)
    places = (torch.rand(60, 3, generator=seeded(), dtype=torch.float64) * 2.4 - 1.2).requires_grad_()
    meshes = Meshes(places, torch.zeros(0, 3, dtype=torch.int64), [30, 30], [0, 0])
    got = vertex_align(maps, meshes)
    grid = places.view(2, 30, 1, 3)[..., :2]
    expected = (
        F.grid_sample(maps, grid, align_corners=True, padding_mode="border")[..., 0].transpose(1, 2).reshape(60, 6)
    )
    assert torch.allclose(got, expected)
    weight = torch.randn(60, 6, generator=seeded(1), dtype=torch.float64)
    for a, b in zip(*(torch.autograd.grad((v * weight).sum(), (maps, places)) for v in (got, expected)), strict=True):
        assert torch.allclose(a, b)


def test_points_lie_on_the_surface_in_proportion_to_area():
    meshes = cube()
    points, normals, real = sample_points(meshes, 6000, [seeded()] * 2)
    assert real.tolist() == [True, True]
    assert torch.allclose(points.abs().amax(-1), torch.tensor(0.5, dtype=torch.float64))
    assert torch.allclose((points * normals).sum(-1), torch.tensor(0.5, dtype=torch.float64))  # outward
    side = normals[0].round().long() @ torch.tensor([1, 2, 3])
    assert (torch.unique(side, return_counts=True)[1] - 1000).abs().max() <= 12


def test_empty_meshes_among_others_give_zeros_and_no_gradient_of_nan():
    nothing = (torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    flat = (torch.zeros(3, 3), torch.tensor([[0, 1, 2]]))
    meshes = Meshes.join([nothing, icosphere(1), flat, nothing])
    vertices = meshes.vertices.requires_grad_()
    points, normals, real = sample_points(meshes, 50, [seeded()] * 4)
    assert real.tolist() == [False, True, False, False]
    assert not points[[0, 2, 3]].any()
    assert (points[1].norm(dim=-1) > 0.8).all()
    (points.sum() + normals.sum() + edge_loss(meshes).sum()).backward()
    assert torch.isfinite(vertices.grad).all()
    assert sample_points(Meshes.join([nothing]), 5)[0].shape == (1, 5, 3)


def test_points_and_normals_have_exact_gradients():
    meshes = cube()
    assert gradcheck(
        lambda v: sample_points(meshes.moved(v), 20, [seeded(3)] * 2)[:2], meshes.vertices.requires_grad_()
    )


def test_nearest_points_are_the_same_by_trees_and_by_all_distances():
    x, y = torch.rand(2, ROWS + 300, 3, generator=seeded()), torch.rand(2, 200, 3, generator=seeded(1))
    assert torch.equal(nearest(x, y)[0], _nearest_of_all(x, y))
    assert torch.equal(nearest(x, y)[1], _nearest_of_all(y, x))


def test_points_that_are_not_finite_give_a_loss_that_is_not():
    """So that the training names step and images, as it does for every loss."""
    x = torch.rand(1, 20, 3, generator=seeded())
    y = x.clone()
    y[0, 3, 1], y[0, 4, 0] = torch.nan, torch.inf
    assert not chamfer(x, y, x, x)[0].isfinite().any()
    assert not chamfer(y, x, x, x)[0].isfinite().any()


def test_a_cloud_moved_by_little_is_twice_the_square_away():
    points = torch.stack(torch.meshgrid(*[torch.arange(5.0)] * 3, indexing="ij"), -1).view(1, -1, 3)
    move = torch.tensor([0.03, -0.04, 0.12])
    up = torch.tensor([0.0, 0, 1]).expand_as(points)
    distance, angle = chamfer(points, points + move, up, -up)
    assert torch.allclose(distance, torch.tensor([2 * 0.13**2]))
    assert torch.allclose(angle, torch.zeros(1))  # a normal's sign does not count
    assert torch.allclose(chamfer(points, points, up, up.roll(1, -1))[1], torch.tensor([2.0]))


def test_chamfer_agrees_with_all_distances_and_has_exact_gradients():
    double = {"dtype": torch.float64, "generator": seeded()}
    x, y = torch.rand(2, 30, 3, **double), torch.rand(2, 20, 3, **double)
    x_normals, y_normals = torch.randn(2, 30, 3, **double), torch.randn(2, 20, 3, **double)
    all_distances = torch.cdist(x, y).square()
    expected = all_distances.amin(2).mean(1) + all_distances.amin(1).mean(1)
    assert torch.allclose(chamfer(x, y, x_normals, y_normals)[0], expected)
    inputs = (x.requires_grad_(), x_normals.requires_grad_())
    assert gradcheck(lambda a, n: chamfer(a, y, n, y_normals), inputs)


def test_edges_of_a_cube_are_its_sides_and_diagonals():
    meshes = cube()
    assert len(meshes.edges) == 36
    assert torch.allclose(edge_loss(meshes), torch.full((2,), (12 * 1 + 6 * 2) / 18, dtype=torch.float64))
    assert gradcheck(lambda v: edge_loss(meshes.moved(v)), meshes.vertices.requires_grad_())


def test_memory_of_the_losses_grows_with_the_number_of_points_not_its_square():
    """All distances of 8 pairs of 10,000 points would be 3.2 GB; the losses keep a few arrays of the points' size."""
    meshes = Meshes.join([icosphere(3)] * 8)
    kept: list[int] = []
    count = lambda tensor: kept.append(tensor.numel() * tensor.element_size()) or tensor
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        points, normals, _ = sample_points(meshes.moved(meshes.vertices.requires_grad_()), 10_000, [seeded()] * 8)
        distance, angle = chamfer(points, points.detach() + 0.01, normals, normals.detach())
        (distance + angle).sum().backward()
    assert sum(kept) < 300e6
