"""Scores of meshes: known answers, and average precision by hand."""

import dataclasses

import numpy as np
import pytest
import torch
import trimesh

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.fields.mesh import PosedMeshes
from segcli.metrics.mesh import EDGE, MeshScores, agreement, build
from segcli.ops.meshes.frustum import to_box
from segcli.types import Instances, Prediction, Target

INFO = DatasetInfo("solids", (Category("box", 1), Category("ball", 2)), {})
CAMERA = torch.tensor([200.0, 200, 64, 64])


@dataclasses.dataclass
class Solid:
    """What a meshes.shape.Shape has, without a file."""

    vertices: np.ndarray
    faces: np.ndarray
    points: np.ndarray
    normals: np.ndarray
    voxels: np.ndarray


def shape(solid: trimesh.Trimesh) -> Solid:
    points, index = trimesh.sample.sample_surface(solid, 10_000, seed=0)
    arrays = (solid.vertices, solid.faces, points, solid.face_normals[index])
    kinds = (np.float32, np.int64, np.float32, np.float32)
    return Solid(*(np.asarray(a, kind) for a, kind in zip(arrays, kinds, strict=True)), np.zeros((48, 48, 48), bool))


BOX, BALL = shape(trimesh.creation.box()), shape(trimesh.creation.icosphere(3, 0.5))


def posed(shapes: list[Solid | None]) -> PosedMeshes:
    """One beside the other, 5 before the camera, turned by 30 degrees about the axis that points down."""
    n, angle = len(shapes), np.pi / 6
    turn = torch.tensor([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]).float()
    shift = torch.tensor([[3.0 * i - 1.5, 0, 5] for i in range(n)])
    return PosedMeshes(shapes, turn.repeat(n, 1, 1), torch.full((n,), 2.0), shift, CAMERA.repeat(n, 1))


def target(shapes: list[Solid | None], labels: list[int] | None = None, image: int = 1) -> Target:
    field = posed(shapes)
    full = posed([s or BOX for s in shapes])
    corners = [full.vertices(i) for i in range(len(shapes))]
    pixels = [v[:, :2] / v[:, 2:] * 200 + 64 for v in corners]
    boxes = torch.stack([torch.cat([p.amin(0), p.amax(0)]) for p in pixels])
    labels = labels or [0] * len(shapes)
    return Target(image, (128, 128), Instances(boxes, torch.tensor(labels), fields={"mesh": field}))


def prediction(of: Target, scores: list[float], stretch: float = 1.0) -> Prediction:
    """The labels themselves (of objects without one, a box), `stretch` times as large, in their boxes' cubes."""
    boxes, field = of.instances.boxes, posed([s or BOX for s in of.instances.fields["mesh"].shapes])
    found, extents = [], []
    for i, s in enumerate(field.shapes):
        large = dataclasses.replace(field, scales=field.scales * stretch)
        vertices, true = large.vertices(i), field.vertices(i)[:, 2]
        near, far = true.amin()[None], true.amax()[None]
        cube = to_box(vertices[None], boxes[i][None], near, far, CAMERA[None])[0]
        found.append((cube, torch.from_numpy(s.faces)))
        extents.append((far - near) / ((near + far) / 2) * 200)
    predicted = PosedMeshes.predicted(found, torch.cat(extents), boxes)
    instances = Instances(boxes, of.instances.labels, torch.tensor(scores), fields={"mesh": predicted})
    return Prediction(of.image_id, of.size, instances)


def scored(*pairs: tuple[Prediction, Target]) -> MeshScores:
    metric = build(info=INFO)
    for one, other in pairs:
        metric.update([one], [other])
    return metric


def test_the_label_itself_scores_as_a_mesh_against_itself():
    truth = target([BOX, BALL], [0, 1])
    scores = scored((prediction(truth, [0.9, 0.8]), truth)).compute()
    assert scores["mesh_AP"] == scores["mesh_AP_near"] == 1
    assert scores["mesh_F1_03"] > 0.99  # two samples of 10,000 points
    assert 0.6 < scores["mesh_F1_01"] < 0.95
    assert scores["mesh_chamfer"] < 0.03
    assert scores["mesh_normal_consistency"] > 0.9


def test_distances_are_in_tenths_of_the_label_s_longest_edge():
    """Points on a plane 0.2 above it are within 0.3 and 0.5, not 0.1; chamfer is twice 0.2²."""
    axis = torch.linspace(0, EDGE, 60)
    plane = torch.cartesian_prod(axis, axis, torch.zeros(1))
    up = torch.tensor([0.0, 0, 1]).expand_as(plane)
    assert agreement(plane, up, plane + 0.2 * up, -up) == pytest.approx([0, 1, 1, 2 * 0.2**2, 1])


def test_half_a_surface_has_full_precision_and_half_the_recall():
    axis = torch.linspace(0, EDGE, 60)
    plane = torch.cartesian_prod(axis, axis, torch.zeros(1))
    up = torch.tensor([0.0, 0, 1]).expand_as(plane)
    half = plane[: len(plane) // 2]
    f1 = agreement(half, up[: len(half)], plane, up)[0]
    assert f1 == pytest.approx(2 * 0.5 / 1.5, abs=1e-3)


def test_a_mesh_of_the_wrong_size_is_no_hit():
    truth = target([BOX])
    scores = scored((prediction(truth, [0.9], stretch=1.6), truth)).compute()
    assert scores["mesh_AP"] == 0
    assert scores["mesh_F1_05"] < 0.5


def test_average_precision_by_hand():
    """Two boxes, of which one is found; a false one in between scores lower: precision 1 to recall 1/2."""
    first, second = target([BOX], image=1), target([BOX], image=2)
    wrong = prediction(second, [0.5], stretch=1.6)
    scores = scored((prediction(first, [0.9]), first), (wrong, second)).compute()
    assert scores["mesh_AP"] == 0.5
    better = prediction(second, [0.95], stretch=1.6)
    assert scored((prediction(first, [0.9]), first), (better, second)).compute()["mesh_AP"] == 0.25
    assert scores["mesh_F1_03"] < 0.8  # the mean over both objects


def test_a_second_mesh_of_an_object_is_a_false_one():
    truth = target([BOX])
    one = prediction(truth, [0.9]).instances
    twice = one[torch.tensor([0, 0])]
    twice.scores = torch.tensor([0.9, 0.95])
    metric = scored(
        (Prediction(1, (128, 128), twice), truth), *[(prediction(t, [0.5]), t) for t in [target([BOX], image=2)]]
    )
    assert metric.compute()["mesh_AP"] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_detections_of_nothing_count_in_one_score_and_not_in_the_published_one():
    truth = target([BOX])
    one = prediction(truth, [0.9]).instances
    both = one[torch.tensor([0, 0])]
    both.boxes = torch.stack([one.boxes[0], one.boxes[0] % 7])
    both.scores = torch.tensor([0.9, 0.95])
    scores = scored((Prediction(1, (128, 128), both), truth)).compute()
    assert (scores["mesh_AP"], scores["mesh_AP_near"]) == (0.5, 1.0)


def test_objects_without_a_mesh_are_left_out_and_missed_ones_have_an_f1_of_0():
    truth = target([BOX, None])
    whole = prediction(truth, [0.9, 0.95])
    assert scored((whole, truth)).compute()["mesh_AP"] == 1
    missed = target([BOX, BOX])
    found = prediction(missed, [0.9, 0.8]).instances[torch.tensor([0])]
    scores = scored((Prediction(1, (128, 128), found), missed)).compute()
    assert scores["mesh_F1_03"] == pytest.approx(0.5, abs=0.01)
    assert scores["mesh_normal_consistency"] > 0.9  # of those found
    assert scored((whole, target([None, None]))).compute() == {}


def test_nothing_found_scores_0_and_an_empty_mesh_is_no_error():
    truth = target([BOX])
    nothing = Prediction(1, (128, 128), Instances.empty())
    assert scored((nothing, truth)).compute() == {
        "mesh_AP": 0, "mesh_AP_near": 0, "mesh_F1_01": 0, "mesh_F1_03": 0, "mesh_F1_05": 0,
    }  # fmt: skip
    empty = prediction(truth, [0.9])
    empty.instances.fields["mesh"].found[0] = (torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    assert scored((empty, truth)).compute()["mesh_AP"] == 0


def test_resamples_and_merged_parts_agree_with_counting_again():
    truths = [target([BOX, BALL], [0, 1], image=i) for i in (3, 1, 2)]
    guesses = [
        prediction(t, s, stretch=f)
        for t, s, f in zip(truths, [[0.9, 0.3], [0.5, 0.8], [0.7, 0.6]], [1, 1.1, 1.6], strict=True)
    ]
    pairs = list(zip(guesses, truths, strict=True))
    whole, part = scored(*pairs), scored(pairs[0])
    part.merge(scored(*pairs[1:]))
    assert part.compute() == whole.compute()
    drawn = whole.replicates(np.array([[1, 1, 1], [0, 0, 2]], np.float32))  # by image id: 1, 2, 3
    assert {k: float(v[0]) for k, v in drawn.items()} == whole.compute()
    assert {k: float(v[1]) for k, v in drawn.items()} == pytest.approx(scored(pairs[0]).compute())
    assert whole.per_class()["ball"].keys() == {"mesh_AP", "mesh_F1_03"}
