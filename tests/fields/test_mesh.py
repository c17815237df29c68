"""Posed meshes follow every change of an image: what they show stays on the same pixels."""

import numpy as np
import pytest
import torch
import trimesh

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import UsageError
from segcli.data.geometry import Geometry, transform
from segcli.fields.mesh import PosedMeshes
from segcli.meshes.files import obj_text
from segcli.meshes.raster import rasterise
from segcli.predictions.coco_results import coco_results
from segcli.types import Instances, Origin, Placed, Prediction, Sample, Target

INFO = DatasetInfo("d", (Category("solid", 1),), {}, declared={"mesh": {}})
SIZE = (48, 64)


@pytest.fixture
def origin(tmp_path):
    cone = trimesh.creation.cone(0.5, 1.0, sections=12)
    (tmp_path / "cone.obj").write_text(obj_text(cone.vertices * 2 + 3, cone.faces), encoding="utf-8")
    return Origin(INFO, SIZE, tmp_path, "labels")


def label(**changed):
    turn = trimesh.transformations.random_rotation_matrix(np.array([0.3, 0.1, 0.8]))[:3, :3]
    shift = np.array([0.1, 0.05, 4.0]) - turn @ [3, 3, 3.5]
    pose = {
        "rotation": turn.ravel().tolist(),
        "scale": 1.0,
        "shift": shift.tolist(),
        "camera": [60.0, 60.0, 30.0, 25.0],
    }
    return {"id": 7, "mesh": {"file": "cone.obj", **pose, **changed}}


def mask(field, i, size):
    seen = rasterise(field.vertices(i).numpy(), field.shapes[i].faces, tuple(field.camera[i].tolist()), size)
    return seen.face >= 0


def test_the_pose_is_that_of_the_file_s_points(origin):
    field = PosedMeshes.read([label(), {"id": 8}], origin)
    assert field.has.tolist() == [True, False]
    given = label()["mesh"]
    points = (
        trimesh.load(origin.folder / "cone.obj").vertices @ np.reshape(given["rotation"], (3, 3)).T + given["shift"]
    )
    low, high = field.depth_range()
    assert (low[0].item(), high[0].item()) == pytest.approx((points[:, 2].min(), points[:, 2].max()), abs=1e-4)
    assert field.vertices(0).numpy().min(0) == pytest.approx(points.min(0), abs=1e-4)


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry(0, False, True, (48, 64), (48, 64)),
        Geometry(0, False, False, (96, 128), (70, 100), (-9, -13)),
        Geometry(1, False, False, (64, 48), (64, 48)),
        Geometry(3, True, False, (64, 48), (64, 48)),
        Geometry(0, False, True, (48, 64), (48, 64), (0, 0), 25.0),
    ],
)
def test_rendered_masks_move_with_the_image(origin, geometry):
    field = PosedMeshes.read([label()], origin)
    own = mask(field, 0, SIZE)
    assert own.sum() > 200
    rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
    box = torch.tensor([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], dtype=torch.float32)
    instances = Instances(
        box, torch.zeros(1, dtype=torch.int64), masks=torch.from_numpy(own)[None], fields={"mesh": field}
    )
    sample = Sample(np.zeros((*SIZE, 3), np.uint8), Target(1, SIZE, instances), "a.png", SIZE)
    moved = transform(sample, geometry)
    again = mask(moved.fields["mesh"], 0, geometry.canvas)
    assert (again & moved.masks[0]).sum() / (again | moved.masks[0]).sum() > 0.9


def test_normals_stay_outward_in_a_mirror_image(origin):
    field = PosedMeshes.read([label()], origin).flip(64.0)
    assert torch.linalg.det(field.rotation[0]) == pytest.approx(-1, abs=1e-4)
    middle = field.vertices(0).mean(0)
    points = torch.from_numpy(field.shapes[0].points) @ field.rotation[0].T * field.scales[0] + field.shift[0]
    normals = torch.from_numpy(field.shapes[0].normals) @ field.rotation[0].T
    assert (((points - middle) * normals).sum(1) > 0).float().mean() > 0.99


def test_tiles_and_stored_predictions_keep_the_mesh(origin, tmp_path):
    placed = Placed((2.0, 2.0), (10, 20), (40, 40), [0, 0, 9, 9])
    assert PosedMeshes.moved(label(), placed)["mesh"]["camera"] == [120, 120, 50, 30]
    field = PosedMeshes.read([label(), {"id": 8}], origin)
    perfect, has = field.perfect()
    assert has.tolist() == [True, False]
    found = Instances(perfect.boxes, torch.zeros(2, dtype=torch.int64), torch.ones(2), fields={"mesh": perfect})
    entries = coco_results(Prediction(3, SIZE, found), INFO, tmp_path / "val_files")
    back = PosedMeshes.read(entries[::-1], Origin(INFO, SIZE, tmp_path / "val_files", "predictions"))
    assert back.has.tolist() == [False, True]
    assert torch.allclose(back.found[1][0], perfect.found[0][0], atol=1e-3)
    assert torch.equal(back.found[1][1], perfect.found[0][1])
    assert back.extent[1] == perfect.extent[0]
    with pytest.raises(UsageError, match="stored in a file beside"):
        coco_results(Prediction(3, SIZE, found), INFO)
    for one in (perfect, field):
        canvas = np.full((192, 256, 3), 255, np.uint8)
        one.draw(canvas, found, INFO, 4.0, [(200, 40, 40)] * 2)
        inked, exact = (canvas < 200).any(-1), mask(field.scale(4, 4), 0, (192, 256))
        assert (inked & exact).sum() / (inked | exact).sum() > 0.95


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"file": "none.obj"}, "no side file none.obj"),
        ({"rotation": [1.0] * 9}, "is no rotation"),
        ({"rotation": [1.0] * 8}, "rotation is not 9 finite numbers"),
        ({"camera": [0.0, 60.0, 30.0, 20.0]}, "must be above 0"),
        ({"shift": [0.0, 0.0, float("nan")]}, "shift is not 3 finite numbers"),
        ({"shift": [0.0, 0.0, 0.0]}, "reaches behind the camera"),
        ({"file": "../cone.obj"}, "not a path below"),
        ({"file": 3}, "is no object with a file"),
    ],
)
def test_broken_labels_are_named(origin, changed, said):
    assert list(PosedMeshes.problems([label(), {"id": 1}], origin)) == []
    (problem,) = PosedMeshes.problems([label(**changed)], origin)
    assert problem.startswith("annotation 7: mesh")
    assert said in problem


def test_pixels_that_are_not_square_are_not_rotated(origin):
    field = PosedMeshes.read([label(camera=[60.0, 50.0, 30.0, 25.0])], origin)
    with pytest.raises(UsageError, match="not square"):
        field.rotate(np.eye(3)[:2])
