"""Solids: the same for the same seed, masks and boxes where their meshes project, folders of meshes, broken ones."""

import json

import numpy as np
import pytest
import trimesh

from segcli.commands.prepare import describe, prepare
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, UsageError
from segcli.data.dataset import Dataset
from segcli.doctor.self_test import self_test
from segcli.fields.mesh import PosedMeshes
from segcli.meshes.files import obj_text
from segcli.meshes.raster import rasterise
from segcli.sources.plan import plan_for
from segcli.sources.synthetic import solids
from segcli.sources.synthetic._families import FAMILIES, made


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    small = {"train": 2, "val": 2, "size": 96, "families": ["table", "vase"]}
    return prepare("solids", tmp_path_factory.mktemp("solids") / "s", settings=small)


def test_every_family_is_closed_and_faces_outward():
    for family in FAMILIES:
        vertices, faces = made(family, np.random.default_rng(3))
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        assert mesh.is_watertight
        assert mesh.is_winding_consistent
        assert mesh.volume > 0
        assert np.ptp(vertices, 0).max() == pytest.approx(1)


def check_labels(root):
    """Of every object the mask is the part of its projected mesh that `visible` says."""
    dataset = Dataset(root, fields={"mesh": PosedMeshes})
    for i in range(len(dataset)):
        objects = dataset.target(i).instances
        field = PosedMeshes.of(objects)
        assert field.has.all()
        for k in range(len(objects)):
            camera = tuple(field.camera[k].tolist())
            seen = rasterise(field.vertices(k).numpy(), field.shapes[k].faces, camera, dataset.sizes[i]).face >= 0
            mask = objects.mask(k)
            assert not (mask & ~seen).sum() > 2  # what is stored is rounded
            visible = dataset.annotations(i)[k]["visible"]
            assert mask.sum() / seen.sum() == pytest.approx(visible, abs=0.02)
            assert visible > 0.3


def test_labels_are_where_the_posed_meshes_are(root):
    info = DatasetInfo.load(root)
    assert (info.declared, info.names) == ({"mesh": {}}, ["solid"])
    check_labels(root)
    scores, failed = self_test(root)
    assert failed == []
    assert scores["val/mesh_AP"] == pytest.approx(1)
    assert describe(root)["next"] == f"segcli train solids/mesh_rcnn --data {root}"


def test_a_mesh_far_from_its_origin_stays_what_it_is(tmp_path):
    """As the part of a plant may be, in millimetres about a point of the site."""
    ball = trimesh.creation.icosphere(2, radius=50).apply_translation([2**20, 0, -(2**20)])
    (tmp_path / "ball.stl").write_bytes(trimesh.exchange.stl.export_stl(ball))
    settings = {"train": 1, "val": 1}
    check_labels(prepare("solids", tmp_path / "s", source_path=tmp_path / "ball.stl", settings=settings))


def test_a_recipe_without_settings_takes_what_prepare_made():
    settings = plan_for("solids", None, None, 0, {}).recorded
    assert json.loads(json.dumps(settings)) == settings  # prepared.json gives them back as they are


def test_an_image_depends_on_seed_split_and_number_alone():
    few, many = solids.build(train=1, val=1, size=96), solids.build(train=3, val=1, size=96)
    first = [solids.record(draft.splits["train"][0]) for draft in (few, many)]
    assert first[0] == first[1]
    other = solids.record(solids.build(train=1, val=1, size=96, seed=1).splits["train"][0])
    assert other.image != first[0].image != solids.record(many.splits["val"][0]).image


def test_a_folder_of_meshes_is_shown_and_divided_as_asked(tmp_path):
    source = tmp_path / "obj" / "toys"
    source.mkdir(parents=True)
    ball = trimesh.creation.icosphere(1)
    inverted = ball.faces[:, ::-1]
    (source / "ball.obj").write_text(obj_text(ball.vertices, inverted), encoding="utf-8")
    (tmp_path / "obj" / "open.obj").write_text(obj_text(ball.vertices, ball.faces[:30]), encoding="utf-8")
    small = {"train": 2, "val": 1, "size": 96}
    root = prepare("solids", tmp_path / "s", source_path=tmp_path / "obj", split="val=1.0", settings=small)
    assert DatasetInfo.load(root).splits == {"val": 3}
    assert sorted(p.relative_to(root / "files").as_posix() for p in (root / "files").rglob("*.obj")) == [
        "meshes/open.obj",
        "meshes/toys/ball.obj",
    ]
    families = {a["family"] for i in range(3) for a in Dataset(root).annotations(i)}
    assert families <= {"toys", "obj"}
    again = prepare("solids", tmp_path / "s", source_path=tmp_path / "obj", split="val=1.0", settings=small)
    assert again == root
    (source / "ball.obj").write_text("v 0 0 0\nv 1 0 0\nf 1 2 2\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"holds a dataset prepared differently .*source files"):
        prepare("solids", tmp_path / "s", source_path=tmp_path / "obj", split="val=1.0", settings=small)
    with pytest.raises(DataError, match=r"ball\.obj: no face has an area"):
        prepare("solids", tmp_path / "t", source_path=tmp_path / "obj")
    with pytest.raises(UsageError, match="no family is called 'sofa'"):
        prepare("solids", tmp_path / "t", settings={"families": ["sofa"]})
    with pytest.raises(UsageError, match="families names none"):
        prepare("solids", tmp_path / "t", settings={"families": []})
    with pytest.raises(DataError, match="there is no such file"):
        prepare("solids", tmp_path / "t", source_path=tmp_path / "nowhere")
