"""DensePose labels follow every change of an image, and say what they can't."""

import json

import numpy as np
import pytest
import torch

from segcli.commands.prepare import prepare
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError, UsageError
from segcli.data.dataset import Dataset
from segcli.fields.body_surface import surface
from segcli.fields.densepose import DensePose, encoded
from segcli.predictions.coco_results import coco_results
from segcli.types import Instances, Origin, Placed, Prediction

DECLARED = {"charts": 3, "coarse": 2, "mirror": [1, 3, 2], "mirror_coarse": [2, 1], "mirror_uv": "1-u"}
INFO = DatasetInfo("d", (Category("person", 1),), {}, declared={"densepose": DECLARED})
PARTS = np.zeros((256, 256), np.uint8)
PARTS[:128, :64], PARTS[128:, :] = 1, 2
LABEL = {"id": 7, "category_id": 1, "bbox": [10.0, 20, 32, 16], "dp_masks": encoded(PARTS)}
LABEL |= {"dp_x": [0.0, 128.0, 256.0], "dp_y": [64.0, 128.0, 256.0], "dp_I": [1.0, 2.0, 3.0]}
LABEL |= {"dp_U": [0.25, 0.5, 1.0], "dp_V": [0.0, 0.1, 0.2]}


def origin(tmp_path, info=INFO):
    return Origin(info, (48, 64), tmp_path, "labels")


def test_points_and_parts_are_read_over_the_box(tmp_path):
    field = DensePose.read([LABEL, {"id": 8, "bbox": [0, 0, 9, 9]}], origin(tmp_path))
    assert field.points[0][:, :3].tolist() == [[10, 24, 1], [26, 28, 2], [42, 36, 3]]
    assert (len(field.points[1]), field.coarse[1]) == (0, None)
    at = torch.tensor([[11.0, 21], [20, 21], [30, 35], [9, 21], [11, 37]])
    assert field.coarse_at(0, at).tolist() == [1, 0, 2, 0, 0]
    assert field.coarse_at(1, at).tolist() == [0] * 5


def test_moves_of_the_image_move_points_and_parts_alike(tmp_path):
    field = DensePose.read([LABEL], origin(tmp_path))
    xy = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([64.0, 48])
    before = field.coarse_at(0, xy)
    turn = np.array([[0.6, 0.8, 3.0], [-0.8, 0.6, 40.0]])
    moves = [
        (field.scale(2, 0.5), xy * torch.tensor([2, 0.5])),
        (field.crop(5, 7, 64, 48), xy - torch.tensor([5, 7])),
        (field.rotate(turn), xy @ torch.tensor(turn[:, :2].T).float() + torch.tensor(turn[:, 2]).float()),
    ]
    for moved, there in moves:
        assert (moved.coarse_at(0, there) == before).float().mean() > 0.98
        assert moved.points[0][0, 2:].tolist() == field.points[0][0, 2:].tolist()
    flipped = field.flip(64)
    mirrored = flipped.coarse_at(0, torch.stack([64 - xy[:, 0], xy[:, 1]], 1))
    assert (mirrored == torch.tensor([0, 2, 1])[before]).float().mean() > 0.98
    assert flipped.points[0][:2].tolist() == [[54, 24, 1, 0.75, 0], [38, 28, 3, 0.5, pytest.approx(0.1)]]
    assert torch.allclose(flipped.flip(64).points[0], field.points[0])
    assert len(field.crop(12, 0, 20, 48).points[0]) == 1


def test_a_flip_without_tables_is_refused_by_name_and_done_with_the_tables_of_a_file(tmp_path):
    bare = DatasetInfo("d", INFO.categories, {})
    points = {key: LABEL[key] for key in ("id", "bbox", "dp_x", "dp_y", "dp_I", "dp_U", "dp_V")}
    with pytest.raises(UsageError, match="declares no mirror tables of its DensePose charts"):
        DensePose.read([points], origin(tmp_path, bare)).flip(64)
    u, v = np.zeros((3, 5, 5)), np.ones((3, 5, 5))
    u[1, 0, 2] = 0.375  # chart 2 at v = 0.1 (row 0), u = 0.5 (column 2)
    np.savez(tmp_path / "tables.npz", U=u, V=v)
    tabled = DatasetInfo("d", INFO.categories, {}, declared={"densepose": {**DECLARED, "mirror_uv": "tables.npz"}})
    field = DensePose.read([points], origin(tmp_path, tabled)).flip(64)
    assert field.points[0][1].tolist() == [38, 28, 3, 0.375, 1]
    np.savez(tmp_path / "few.npz", U=u[:2], V=v[:2])
    few = DatasetInfo("d", INFO.categories, {}, declared={"densepose": {**DECLARED, "mirror_uv": "few.npz"}})
    with pytest.raises(DataError, match=r"few\.npz: U and V must be \[3, R, R\]"):
        DensePose.read([points], origin(tmp_path, few)).flip(64)
    with pytest.raises(DataError, match=r"declared\.densepose\.mirror: is no list of the numbers 1 to 3"):
        surface({**DECLARED, "mirror": [1, "2", 3]})


def test_a_tile_keeps_the_points_that_lie_on_it(tmp_path):
    field = DensePose.read([LABEL], origin(tmp_path))
    placed = Placed((1.0, 1.0), (16, 16), (32, 32), [0, 4, 26, 16])  # the part of the box from x = 16 on
    moved = {"bbox": list(placed.box), **DensePose.moved(LABEL, placed)}
    again = DensePose.read([moved], origin(tmp_path))
    assert torch.allclose(again.points[0], field.crop(16, 16, 32, 32).points[0], atol=1e-4)
    xy = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([26.0, 16]) + torch.tensor(
        [0, 4]
    )
    assert (again.coarse_at(0, xy) == field.coarse_at(0, xy + 16)).float().mean() > 0.97


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dp_x": None}, "must be lists of one length"),
        ({"dp_masks": [{"size": [256, 256]}]}, "there is no 'counts'"),
        ({"bbox": None}, "need a bbox"),
    ],
)
def test_broken_labels_have_no_place_on_a_tile(changed, said):
    with pytest.raises(ValueError, match=said):
        DensePose.moved({**LABEL, **changed}, Placed((1.0, 1.0), (16, 16), (32, 32), [0, 4, 26, 16]))


def test_maps_are_stored_read_back_and_looked_up(tmp_path):
    field = DensePose.read([LABEL, {**LABEL, "id": 9, "bbox": [0.0, 0, 20, 20]}], origin(tmp_path))
    perfect, has = field.perfect()
    assert has.all()
    for i in (0, 1):
        assert torch.allclose(perfect.at(i, field.points[i][:, :2]), field.points[i][:, 2:], atol=0.5 / 255 + 1e-6)
    assert not perfect.at(0, torch.tensor([[0.0, 0], [63, 47]])).any()
    boxes = perfect.boxes
    found = Instances(boxes, torch.zeros(2, dtype=torch.int64), torch.ones(2), fields={"densepose": perfect})
    entries = coco_results(Prediction(3, (48, 64), found), INFO, tmp_path)
    back = DensePose.read(entries[1:], origin(tmp_path))
    assert torch.equal(back.maps[0], perfect.maps[1])
    assert torch.allclose(back.boxes[0], boxes[1], atol=1e-3)
    canvas = np.zeros((48, 64, 3), np.uint8)
    field.draw(canvas, found, INFO, 1.0, [])
    assert canvas[23, 10].any()
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(DataError, match=rf"{file.name}: is no \.npz file"):
        DensePose.read(entries, origin(tmp_path))
    file.unlink()
    with pytest.raises(DataError, match=rf"{file.name}: can't be read"):
        DensePose.read(entries, origin(tmp_path))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dp_I": [1.0, 2.0, 4.0]}, "dp_I is 4, and the dataset declares the charts 1 to 3"),
        ({"dp_U": [0.1]}, "must be lists of one length"),
        ({"dp_V": None}, "must be lists of one length"),
        ({"dp_U": [0.1, 0.2, 1.5]}, "dp_U and dp_V must be 0 to 1"),
        ({"dp_x": [0.0, 1.0, 300.0]}, "dp_x and dp_y must be 0 to 256"),
        ({"dp_y": [0.0, 1.0, float("inf")]}, "is not a finite number"),
        ({"dp_masks": encoded(np.full((256, 256), 5, np.uint8))}, "dp_masks has part 5, and the dataset declares 2"),
        ({"dp_masks": [{"size": [9, 9], "counts": "0"}]}, "dp_masks can't be decoded"),
        ({"dp_masks": "12"}, "dp_masks is no list"),
        ({"dp_I": None, "dp_x": None, "dp_y": None, "dp_U": None, "dp_V": None, "bbox": None}, "and no bbox"),
    ],
)
def test_broken_labels_are_named(tmp_path, changed, said):
    assert list(DensePose.problems([LABEL, {"id": 1}], origin(tmp_path))) == []
    (problem,) = DensePose.problems([{**LABEL, **changed}], origin(tmp_path))
    assert problem.startswith("annotation 7")
    assert said in problem


def test_coco_files_with_densepose_are_known_as_such(tiny_dataset, tmp_path):
    source = tmp_path / "raw"
    for split in ("train", "val"):
        data = json.loads((tiny_dataset / "annotations" / f"{split}.json").read_text(encoding="utf-8"))
        one = data["annotations"][0]
        one |= {key: LABEL[key] for key in LABEL if key.startswith("dp_")} | {"dp_I": [1.0, 24.0, 14.0]}
        source.mkdir(exist_ok=True)
        (source / f"{split}.json").write_text(json.dumps(data), encoding="utf-8")
    (source / "images").symlink_to(tiny_dataset / "images")
    root = prepare(source, tmp_path / "data", trusted=True)
    assert DatasetInfo.load(root).declared == {"densepose": {}}
    field = Dataset(root, "train", fields={"densepose": DensePose}).target(0).instances.fields["densepose"]
    assert field.points[0][:, 2].tolist() == [1, 24, 14]
