"""Predicted meshes as files: read back by another library, and where they lie."""

import io

import numpy as np
import pytest
import torch
import trimesh

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.fields.mesh import PosedMeshes
from segcli.models.rcnn.heads.mesh import DESCRIBED
from segcli.ops.meshes.cubify import icosphere
from segcli.predictions.meshes import MOST, before_camera, glb, write_meshes
from segcli.types import Instances, Prediction

INFO = DatasetInfo("solids", (Category("ball", 1),), {})
BOXES = torch.tensor([[40.0, 10, 80, 50], [0, 0, 10, 10]])


def prediction() -> Prediction:
    nothing = (torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    field = PosedMeshes.predicted([icosphere(2), nothing], torch.tensor([40.0, 0]), BOXES)
    instances = Instances(BOXES, torch.zeros(2, dtype=torch.int64), torch.tensor([0.9, 0.8]), fields={"mesh": field})
    return Prediction(1, (100, 200), instances)


@pytest.mark.parametrize("kind", ["obj", "glb"])
def test_files_are_read_back_by_another_library(tmp_path, kind):
    write_meshes(prediction(), INFO, tmp_path, "photo", (kind, "coco"))
    [file] = tmp_path.rglob("*.*")
    assert file == tmp_path / "meshes" / "photo" / f"1.{kind}"  # the second object has no mesh
    read = trimesh.load(io.BytesIO(file.read_bytes()), file_type=kind, force="mesh", process=False)
    [(vertices, faces), _] = before_camera(PosedMeshes.of(prediction().instances), (100, 200))
    assert np.allclose(read.vertices, vertices, atol=1e-5)
    assert np.array_equal(read.faces, faces)
    assert read.is_watertight
    assert read.volume > 0  # faces look outward


def test_it_lies_at_distance_1_and_is_seen_where_its_box_is():
    vertices, _ = before_camera(PosedMeshes.of(prediction().instances), (100, 200))[0]
    depth = -vertices[:, 2]  # z points to the viewer
    assert depth.min() == pytest.approx(1 - 40 / 200 / 2, abs=1e-3)
    assert depth.max() == pytest.approx(1 + 40 / 200 / 2, abs=1e-3)
    x, y = vertices[:, 0] / depth * 200 + 100, -vertices[:, 1] / depth * 200 + 50
    assert [x.min(), y.min(), x.max(), y.max()] == pytest.approx([40, 10, 80, 50], abs=0.5)


def test_a_colour_is_that_of_the_class():
    vertices, faces = (v.numpy() for v in icosphere(0))
    read = trimesh.load(io.BytesIO(glb(vertices, faces, "ball", (255, 0, 0))), file_type="glb", force="mesh")
    assert read.visual.material.baseColorFactor.tolist() == [255, 0, 0, 255]


def test_predictions_of_other_tasks_write_none(tmp_path):
    other = Prediction(1, (10, 10), Instances.empty())
    write_meshes(other, INFO, tmp_path, "photo", ("obj",))
    assert not list(tmp_path.iterdir())


def test_files_of_an_earlier_call_go_and_those_of_others_stay(tmp_path):
    folder = tmp_path / "meshes" / "photo"
    folder.mkdir(parents=True)
    for name in ("1.obj", "2.obj", "1-smoothed.obj", "2.glb"):
        (folder / name).write_text("earlier", encoding="utf-8")
    write_meshes(prediction(), INFO, tmp_path, "photo", ("obj",))
    assert sorted(file.name for file in folder.iterdir()) == ["1-smoothed.obj", "1.obj", "2.glb"]
    assert (folder / "1.obj").read_text(encoding="utf-8") != "earlier"


def test_as_many_are_announced_as_the_head_makes():
    assert MOST == DESCRIBED
