"""`visualize data` and `visualize predictions`: which images are shown, and how the worst are found."""

import numpy as np
import pytest
import torch
from PIL import Image

from segcli.commands import visualize_predictions
from segcli.commands.prepare import prepare
from segcli.commands.visualize_data import show_data
from segcli.commands.visualize_predictions import show_predictions
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError, ModelError, UsageError
from segcli.core.recipe.recipe import Recipe
from segcli.data.dataset import Dataset
from segcli.engine.run_folder import RunFolder
from segcli.metrics.image_quality import image_quality
from segcli.predictions.coco_results import ResultsWriter
from segcli.types import Instances, Panoptic, Prediction, Segment, Target

INFO = DatasetInfo("toy", (Category("cat", 1), Category("dog", 2)), {"val": 1})


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return prepare("shapes", tmp_path_factory.mktemp("data") / "도형", settings={"train": 3, "val": 5})


def recipe(root, **data):
    return Recipe.parse(
        {
            "name": "toy",
            "task": "instance",
            "data": {"root": str(root), "size": 96, **data},
            "model": {
                "name": "rcnn_lite",
                "backbone": {"name": "efficientnet_lite0"},
                "heads": {"iou_box": {}, "lite_mask": {}},
            },
            "train": {"steps": 1},
        },
        "test",
    )


def test_a_sheet_shows_a_split_and_a_second_one_what_does_not_fit(shapes, tmp_path, monkeypatch):
    first, second = (show_data(shapes, tmp_path / n, split="val", count=4, seed=s) for n, s in (("a", 0), ("b", 0)))
    assert [p.name for p in first] == ["data-val.jpg"]
    assert first[0].read_bytes() == second[0].read_bytes(), "the same seed, the same sheet"
    assert show_data(shapes, tmp_path / "c", split="val", count=4, seed=5)[0].read_bytes() != first[0].read_bytes()
    pixels = np.asarray(Image.open(first[0]))
    assert pixels.shape[1] == 1800
    monkeypatch.setattr("segcli.commands.visualize_data.PER_SHEET", 3)
    names = [p.name for p in show_data(shapes, tmp_path, count=100)]
    assert names == ["data-all.jpg", "data-all-2.jpg", "data-all-3.jpg"], "8 images in all"


def test_augmented_images_are_shown_as_training_sees_them(shapes, tmp_path):
    asked = recipe(shapes, augment={"flip": 0.5, "scale": [0.5, 1.5], "colour": 1.0})
    (sheet,) = show_data(shapes, tmp_path, split="train", count=8, augmented=asked)
    assert np.asarray(Image.open(sheet)).std() > 20
    with pytest.raises(UsageError, match=r"data\.augment is empty"):
        show_data(shapes, tmp_path, split="train", augmented=recipe(shapes))


def test_data_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="not a prepared dataset"):
        show_data(tmp_path, tmp_path / "out")


@pytest.fixture
def run(shapes, tmp_path):
    """A run whose stored predictions are the labels, except that those of images 1 and 3 are worse and worst."""
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_recipe(recipe(shapes))
    dataset = Dataset(shapes, "val")
    with ResultsWriter(folder.path / "predictions" / "val.json", dataset.info) as writer:
        for i in range(len(dataset)):
            target = dataset.encoded_target(i)
            found = target.instances
            found.scores, found.crowd = torch.full((len(found),), 0.9), None
            kept = found[:0] if i == 3 else found[: len(found) // 2] if i == 1 else found
            writer.add(Prediction(target.image_id, target.size, kept), dataset.file_names[i])
    return folder.path


def test_the_worst_images_come_first(run, shapes, monkeypatch):
    shown = []
    real = visualize_predictions.contact_sheet
    monkeypatch.setattr(
        visualize_predictions, "contact_sheet", lambda *a, **k: shown.append((a[1], k["title"])) or real(*a, **k)
    )
    (sheet,) = show_predictions(run, worst=3, progress=False)
    assert sheet == run / "pictures" / "worst-val.jpg"
    captions, title = shown[0]
    names = Dataset(shapes, "val").file_names
    assert captions[0] == f"{names[3]} · quality 0.00"
    assert captions[1].startswith(f"{names[1]} · quality 0.")
    assert captions[2].endswith("quality 1.00")
    assert title.startswith(f"{run.name}: 3 worst of 5 images (val)"), "the run's folder: several have one recipe"
    assert "matched IoUs" in title, "how quality is computed"


def test_without_worst_the_seed_chooses(run, tmp_path, monkeypatch):
    monkeypatch.setattr(visualize_predictions, "PER_SHEET", 2)
    sheets = show_predictions(run, tmp_path / "out", count=3, progress=False)
    assert [p.name for p in sheets] == ["predictions-val.jpg", "predictions-val-2.jpg"]


@pytest.mark.parametrize("foreign", ["predictions-val.jpg", "predictions-val-2.jpg", "worst-val.jpg"])
def test_a_file_of_the_user_is_never_replaced_by_a_sheet(run, tmp_path, monkeypatch, foreign):
    monkeypatch.setattr(visualize_predictions, "PER_SHEET", 2)
    monkeypatch.setattr(visualize_predictions, "WIDTH", 600)
    out = tmp_path / "album"
    out.mkdir()
    (out / foreign).write_bytes(b"of the user")
    worst = 3 if foreign.startswith("worst") else None
    with pytest.raises(DataError, match=f"{foreign}: is there already and was not written by segcli"):
        show_predictions(run, out, count=3, worst=worst, progress=False)
    assert [p.name for p in out.iterdir()] == [foreign]
    assert (out / foreign).read_bytes() == b"of the user"
    (out / foreign).rename(out / "mine.jpg")
    for _ in range(2):  # our own are
        assert show_predictions(run, out, count=3, worst=worst, progress=False)
    (out / foreign).write_bytes(b"retouched")
    with pytest.raises(DataError, match="was changed since segcli wrote it"):
        show_predictions(run, out, count=3, worst=worst, progress=False)


def test_sheets_of_data_replace_their_own_alone(shapes, tmp_path):
    for _ in range(2):
        (sheet,) = show_data(shapes, tmp_path / "out", split="val", count=2)
    sheet.write_bytes(b"retouched")
    with pytest.raises(DataError, match=r"data-val\.jpg: is there already"):
        show_data(shapes, tmp_path / "out", split="val", count=2)
    assert sheet.read_bytes() == b"retouched"


def test_sheets_in_a_run_that_was_copied_are_its_own(run):
    (run / "pictures").mkdir()
    (run / "pictures" / "predictions-val.jpg").write_bytes(b"made on another machine")
    (sheet,) = show_predictions(run, count=3, progress=False)
    assert sheet.stat().st_size > 1000


def test_a_run_without_predictions_says_what_to_do(run, tmp_path):
    with pytest.raises(ModelError, match="not a run folder"):
        show_predictions(tmp_path / "elsewhere")
    (run / "predictions" / "val.json").unlink()
    with pytest.raises(DataError, match=r"val\.json: there is no such file") as caught:
        show_predictions(run, progress=False)
    assert "segcli eval" in caught.value.hint


def objects(*boxes, labels=None, scores=None, crowd=None):
    n = len(boxes)
    return Instances(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels or [0] * n, dtype=torch.int64),
        torch.tensor(scores) if scores else None,
        torch.tensor(crowd) if crowd else None,
    )


def quality(found, labelled, score=0.5):
    return image_quality(Prediction(1, (100, 100), found), Target(1, (100, 100), labelled), INFO, score=score)


def test_quality_counts_matches_misses_and_false_alarms():
    a, b, half = (0, 0, 10, 10), (50, 50, 60, 60), (0, 0, 10, 7)
    assert quality(objects(a, scores=[0.9]), objects(a)) == 1
    assert quality(objects(half, scores=[0.9]), objects(a)) == pytest.approx(0.7)
    assert quality(objects(a, scores=[0.9]), objects(a, b)) == pytest.approx(1 / 1.5), "a miss"
    assert quality(objects(a, b, scores=[0.9, 0.8]), objects(a)) == pytest.approx(1 / 1.5), "a false alarm"
    assert quality(objects(a, b, scores=[0.9, 0.4]), objects(a)) == 1, "below the score"
    assert quality(objects(a, scores=[0.9]), objects(a, labels=[1])) == 0, "another class"
    assert quality(objects(half, a, scores=[0.8, 0.9]), objects(a)) == pytest.approx(1 / 1.5), "the best one first"
    assert quality(objects(scores=None), objects()) == 1


def test_quality_excuses_what_lies_on_a_crowd():
    crowd = objects((0, 0, 50, 50), crowd=[True])
    assert quality(objects((0, 0, 10, 10), (20, 20, 30, 30), scores=[0.9, 0.9]), crowd) == 1
    assert quality(objects((60, 60, 70, 70), scores=[0.9]), crowd) == 0


def test_quality_of_maps():
    labelled = torch.tensor([[0, 0, 1, 255]])
    target = Target(1, (1, 4), Instances.empty(), semantic=labelled)
    found = Prediction(1, (1, 4), semantic=np.array([[0, 1, 1, 0]], np.uint8))
    assert image_quality(found, target, INFO) == pytest.approx(0.5)
    ids = np.array([[1, 1, 2, 2]], np.int32)
    target = Target(1, (1, 4), Instances.empty(), panoptic=Panoptic(ids, [Segment(1, 0), Segment(2, 1)]))
    found = Prediction(1, (1, 4), panoptic=Panoptic(ids, [Segment(1, 0), Segment(2, 0)]))
    assert image_quality(found, target, INFO) == pytest.approx(1 / 2)
