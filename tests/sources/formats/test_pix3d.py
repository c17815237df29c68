"""Pix3D's poses become those of segcli's camera; what does not fit is named."""

import json

import numpy as np
import pytest
from sources import FORMATS, picture

from segcli.commands.prepare import prepare
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError
from segcli.data.dataset import Dataset
from segcli.fields.mesh import PosedMeshes
from segcli.meshes.raster import project


def test_left_and_up_of_pix3d_are_right_and_down_of_the_camera(tmp_path):
    FORMATS["pix3d"](tmp_path / "in")
    path = tmp_path / "in/pix3d.json"
    entries = json.loads(path.read_text(encoding="utf-8"))
    for entry in entries:
        entry["trans_mat"] = [1.0, 0.5, 4.0]  # to the left and up
    path.write_text(json.dumps(entries), encoding="utf-8")
    root = prepare(tmp_path / "in", tmp_path / "out")
    assert DatasetInfo.load(root).declared == {"mesh": {}}
    dataset = Dataset(root, fields={"mesh": PosedMeshes})
    field = PosedMeshes.of(dataset.target(0).instances)
    points, camera = field.vertices(0).numpy(), tuple(field.camera[0].tolist())
    assert camera == (32, 32, 16, 12)  # 32 mm on a sensor of 32 mm are as many pixels as the image is wide
    at = project(points, camera)
    apex = at[np.argmin(np.abs(points[:, 2] - 5))]  # the model's corner (0, 0, 1)
    assert apex == pytest.approx([16 - 32 * 1 / 5, 12 - 32 * 0.5 / 5], abs=1e-4)


def test_masks_and_models_that_do_not_fit_are_named(tmp_path):
    FORMATS["pix3d"](tmp_path / "in")
    picture(tmp_path / "in/mask/cat/a.png", np.zeros((5, 6), np.uint8))
    with pytest.raises(DataError, match=r"mask/cat/a\.png: the mask has 6 x 5 pixels, its image 32 x 24"):
        prepare(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in/model/cat/model.obj").unlink()
    with pytest.raises(DataError, match=r"the model 'model/cat/model\.obj' of img/a\.png is missing"):
        prepare(tmp_path / "in", tmp_path / "out")
