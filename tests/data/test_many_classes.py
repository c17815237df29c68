"""Around the number of classes that 8 bits hold: 254 and 255 keep their meaning, above that 255 is a class."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from sources import picture, text

from segcli.commands.prepare import diagnose, prepare
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.data import views
from segcli.data.canonical import prepared
from segcli.data.dataset import Dataset
from segcli.data.geometry import Geometry, transform
from segcli.doctor.self_test import self_test
from segcli.drawing.sheets import legend_of
from segcli.metrics import metric_for
from segcli.ops.preprocess import Preprocess
from segcli.predictions.coco_results import ResultsWriter, map_names
from segcli.predictions.store import StoredPredictions
from segcli.types import Instances, Panoptic, Prediction, Segment, Target, ignore_label, label_type

SIZE = (40, 32)
COUNTS = (254, 255, 256, 300)


def labels(count, turn=0):
    """[40,32]: every class on cells of 2 x 2 pixels, the rest and the last rows unlabelled."""
    cells = np.full(20 * 16, ignore_label(count), np.uint16)
    cells[:count] = np.roll(np.arange(count), turn)
    return np.kron(cells.reshape(20, 16), np.ones((2, 2), np.uint16))


def source(path, count):
    """`count` classes named by their places, their values in 8 bits where these suffice."""
    blank = 255 if count < 256 else 65535
    for number, split in enumerate(("training", "validation")):
        Image.fromarray(np.full((*SIZE, 3), 60 + number, np.uint8)).save(
            _made(path / "images" / split / f"{split}.png")
        )
        values = labels(count, number)
        values[values == ignore_label(count)] = blank
        picture(path / "annotations" / split / f"{split}.png", values.astype(np.uint8 if values.max() < 256 else "<u2"))
    text(path / "classes.txt", "".join(f"class {i}\n" for i in range(count)))
    return path


def _made(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def predicted(data, i, change=None):
    found = data.target(i).semantic.numpy().copy()
    for old, new in (change or {}).items():
        found[found == old] = new
    return Prediction(data.image_ids[i], data.sizes[i], semantic=found)


def score(data, change=None):
    metric = metric_for("semantic", data.info, 100)
    for i in range(len(data)):
        metric.update([predicted(data, i, change)], [data.target(i)])
    return metric.compute()["mIoU"]


@pytest.mark.parametrize("count", COUNTS)
def test_every_class_is_read_as_it_was_written(tmp_path, count):
    root = prepare(str(source(tmp_path / "s", count)), tmp_path / "out")
    data = Dataset(root, "train", task="semantic")
    assert (data.target(0).semantic.numpy() == labels(count)).all()
    with Image.open(root / "semantic/train/training.png") as stored:
        assert np.asarray(stored).dtype == label_type(count) == (np.uint8 if count < 255 else np.uint16)
        assert (np.asarray(stored) == labels(count)).all()
    codes = {finding.code for finding in diagnose(str(root)).findings if finding.severity == "error"}
    assert not codes & {"label_map", "lost_class", "all_ignored", "self_test"}
    assert set(self_test(root)[0].values()) == {1.0}
    assert score(data) == 1.0
    for change in ({254: 0}, {255: 0}, {256: 255}, {253: ignore_label(count)}):
        worse = next(iter(change)) < count
        assert (score(data, change) < 1.0) == worse, change
    assert sum("are ignored" in note for note in prepared(root)["notes"]) == 2, "once a split"


def test_a_folder_of_255_classes_in_8_bits_is_still_read(tmp_path):
    root = prepare(str(source(tmp_path / "s", 255)), tmp_path / "out")
    values = labels(255)
    values[values == 65535] = 255
    picture(root / "semantic/train/training.png", values.astype(np.uint8))
    assert (Dataset(root, "train", task="semantic").target(0).semantic.numpy() == labels(255)).all()


def test_what_nothing_names_is_refused_and_mended(tmp_path):
    root = prepare(str(source(tmp_path / "s", 300)), tmp_path / "out")
    wrong = labels(300)
    wrong[:2, :2] = 300
    picture(root / "semantic/train/training.png", wrong)
    assert "label_map" in {finding.code for finding in diagnose(str(root)).findings}
    mended = prepare(str(root), tmp_path / "mended", fix=True)
    found = Dataset(mended, "train", task="semantic").target(0).semantic.numpy()
    assert (found[:2, :2] == 65535).all()
    assert (found[2:] == labels(300)[2:]).all()


@pytest.mark.parametrize("form", ["tif", "three channels"])
def test_16_bits_in_other_files(tmp_path, form):
    path = source(tmp_path / "s", 300)
    for file in sorted((path / "annotations").rglob("*.png")):
        values = np.asarray(Image.open(file)).astype(np.uint16)
        if form == "tif":
            Image.fromarray(values).save(file.with_suffix(".tif"))
            file.unlink()
        else:
            assert cv2.imwrite(str(file), np.dstack([values] * 3))
    data = Dataset(prepare(str(path), tmp_path / "out", format="semantic"), "train", task="semantic")
    assert (data.target(0).semantic.numpy() == labels(300)).all()


def test_classes_without_names_keep_255(tmp_path):
    path = source(tmp_path / "s", 300)
    (path / "classes.txt").unlink()
    data = Dataset(prepare(str(path), tmp_path / "out", settings={"masks": "classes"}), "train", task="semantic")
    assert len(data.info.names) == 300
    assert (data.target(0).semantic.numpy() == labels(300)).all()


@pytest.mark.parametrize("size", [(40, 32), (80, 64), (56, 40)])
@pytest.mark.parametrize("degrees", [0, 20])
def test_255_and_what_is_ignored_stay_apart_on_the_way_to_a_model(tmp_path, size, degrees):
    data = Dataset(prepare(str(source(tmp_path / "s", 300)), tmp_path / "out"), "train", task="semantic")
    scene = transform(data.read(0), Geometry(0, False, True, size, (90, 90), (3, 5), degrees))
    moved = scene.sample(data.read(0), np.zeros(0, int)).target
    assert {255, 256, 65535} <= set(moved.semantic.unique().tolist()) <= {*range(300), 65535}
    assert moved.ignore == 65535
    assert moved.semantic[-1, -1] == 65535, "the canvas around the image"
    way = Preprocess(64, 128, "pil", "centre")
    assert way.target(moved).ignore == 65535
    assert set(way.target(moved).semantic.unique().tolist()) <= {*range(300), 65535}


@pytest.mark.parametrize("count", COUNTS)
def test_predictions_are_read_back(tmp_path, count):
    data = Dataset(prepare(str(source(tmp_path / "s", count)), tmp_path / "out"), "val", task="semantic")
    with ResultsWriter(tmp_path / "val.json", data.info) as writer:
        writer.add(predicted(data, 0), map_names(data.file_names)[0])
    with Image.open(tmp_path / "val_semantic" / map_names(data.file_names)[0]) as stored:
        assert np.asarray(stored).dtype == label_type(count)
    assert (StoredPredictions(tmp_path / "val.json", data).read(0).semantic == labels(count, 1)).all()


def test_panoptic_categories_beyond_255_have_their_own_labels():
    ids = np.array([[0, 1, 2, 3]], np.int32)
    found = Panoptic(ids, [Segment(1, 255), Segment(2, 256), Segment(3, 299)])
    assert views.semantic_from_panoptic(found, ignore_label(300)).tolist() == [[65535, 255, 256, 299]]
    info = DatasetInfo("many", tuple(Category(f"c{i}", i, thing=i < 150) for i in range(300)), {"val": 1})
    metric = metric_for("panoptic", info, 100)
    metric.update([Prediction(1, (1, 4), panoptic=found)], [Target(1, (1, 4), Instances.empty(), panoptic=found)])
    assert metric.compute()["PQ"] == 1.0
    assert set(metric.replicates(np.ones((2, 1), np.float32))["PQ"]) == {1.0}


def test_a_legend_of_many_classes_names_those_that_are_shown(tmp_path):
    info = DatasetInfo("many", tuple(Category(f"c{i}", i, thing=False) for i in range(300)), {"val": 1})
    few = Target(1, (1, 3), Instances.empty(), _tensor([[255, 256, 65535]]), ignore=65535)
    many = Target(1, SIZE, Instances.empty(), _tensor(labels(300)), ignore=65535)
    lines = [legend_of(shown, info, 1600).shape[0] for shown in ([few], [few, many])]
    assert lines[0] < lines[1] < 200
    assert legend_of([Target(1, SIZE, Instances.empty())], info, 1600) is None


def _tensor(values):
    return torch.from_numpy(np.asarray(values, np.int64))
