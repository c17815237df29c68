"""Scoring a model on a split: the numbers, what is stored, and what is refused. The models here only repeat labels."""

import io
import json
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from segcli.commands import evaluate as command
from segcli.commands.evaluate import evaluate
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError, ModelError
from segcli.core.recipe.recipe import Expect, Recipe
from segcli.core.trust import grant
from segcli.data.dataset import Dataset
from segcli.engine.diagnosis import answers, measure
from segcli.engine.evaluation import Suppression, check_expectations, score_model
from segcli.engine.opening import Opened
from segcli.engine.run_folder import RunFolder
from segcli.metrics import metric_for
from segcli.models.interface import Model
from segcli.ops.preprocess import Preprocess
from segcli.predictions.store import StoredPredictions
from segcli.types import Panoptic, Prediction, Segment, encode_masks

SIZE = (60, 80)


def write_dataset(root, *, images=4, names=("cat", "dog"), source_ids=(7, 3), objects=5):
    """A canonical folder: rectangles of two classes with gaps in the ids, one image without objects."""
    rng = np.random.default_rng(0)
    records, annotations = [], []
    (root / "images").mkdir(parents=True)
    for image_id in range(1, images + 1):
        name = f"사진 {image_id}.png"
        Image.fromarray(rng.integers(0, 255, (*SIZE, 3), np.uint8)).save(root / "images" / name)
        records.append({"id": image_id, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        for k in range(objects if image_id > 1 else 0):
            x, y = 15 * k + int(rng.integers(3)), int(rng.integers(30))
            w, h = 8 + 2 * k, 10 + 3 * k
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": source_ids[k % 2],
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                }
            )
    categories = tuple(Category(n, s) for n, s in zip(names, source_ids, strict=True))
    info = DatasetInfo("toy", categories, {"val": images})
    (root / "info.json").write_text(json.dumps(info.to_json()), encoding="utf-8")
    (root / "annotations").mkdir()
    file = {
        "images": records,
        "annotations": annotations,
        "categories": [{"id": s, "name": n} for n, s in zip(names, source_ids, strict=True)],
    }
    (root / "annotations" / "val.json").write_text(json.dumps(file), encoding="utf-8")
    return root


def recipe(root, task="instance", **settings):
    return Recipe.parse(
        {
            "name": "toy",
            "task": task,
            "data": {"root": str(root)},
            "model": {"name": "fake"},
            "train": {"steps": 1},
            "eval": {"batch_size": 3, **settings},
            "hardware": {"workers": 0, "device": "cpu"},
        },
        "test",
    )


class Repeats(Model):
    """Predicts the labels; `shift` moves every mask to the right by so many pixels."""

    fields: dict = {}

    def __init__(self, dataset, shift=0):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.preprocess = Preprocess(None, 64, "opencv")
        self.dataset, self.shift = dataset, shift
        self.max_detections, self.modes = 0, set()

    def predict(self, batch):
        self.modes.add((self.training, torch.is_inference_mode_enabled(), self.max_detections))
        return [self.one(self.dataset.image_ids.index(i)) for i in batch.image_ids]

    def one(self, i):
        target = self.dataset.target(i)
        found, count = target.instances, len(target.instances)
        masks = np.roll(found.masks.numpy(), self.shift, 2)
        found.boxes[:, ::2] += self.shift
        found.masks, found.crowd = encode_masks(masks), None
        found.scores = torch.linspace(0.9, 0.3, count)
        semantic = None if target.semantic is None else np.roll(target.semantic.numpy(), self.shift, 1)
        panoptic = None
        if target.panoptic is not None:
            ids = np.roll(target.panoptic.ids, self.shift, 1)
            panoptic = Panoptic(ids, [Segment(s.id, s.label, 0.7) for s in target.panoptic.segments])
            semantic = None
        if self.dataset.task in ("semantic", "panoptic"):
            return Prediction(target.image_id, target.size, semantic=semantic, panoptic=panoptic)
        return Prediction(target.image_id, target.size, found)


def score(root, task="instance", shift=0, keep=None, **settings):
    dataset = Dataset(root, "val", task=task)
    model = Repeats(dataset, shift).train()
    scores = score_model(model, dataset, recipe(root, task, **settings), device="cpu", progress=False, keep=keep)
    assert model.training, "the mode is put back"
    assert model.modes == {(False, True, settings.get("max_detections", 100))}
    return scores


@pytest.mark.parametrize("task", ["detection", "instance", "semantic", "panoptic"])
def test_labels_as_predictions_score_exactly_one_on_every_task(tmp_path, task):
    scores = score(write_dataset(tmp_path / "toy"), task)
    assert set(scores.metrics.values()) == {1.0}
    assert recipe(tmp_path, task).primary in scores.metrics
    assert scores.images == 4
    assert {v for one in scores.per_class.values() for v in one.values()} == {1.0}
    assert any(k.startswith("segm") for k in scores.metrics) == (task in ("instance", "panoptic"))


@pytest.mark.parametrize("name", ["coco128", "coco_mini"])
def test_labels_of_real_images_score_one(shared_data, tmp_path, name):
    source = shared_data / name
    data = json.loads((source / "annotations" / "instances_train2017.json").read_text())
    categories = sorted(data["categories"], key=lambda c: c["id"])
    info = DatasetInfo(
        name,
        tuple(Category(c["name"], c["id"]) for c in categories),
        {"val": len(data["images"])},
        image_root=str(source / "train2017"),
    )
    (tmp_path / "annotations").mkdir()
    (tmp_path / "info.json").write_text(json.dumps(info.to_json()))
    (tmp_path / "annotations" / "val.json").write_text(json.dumps(data))
    grant(tmp_path, info.image_root, source, trusted=False)
    dataset = Dataset(tmp_path, "val")
    metric = metric_for("instance", dataset.info, 100)
    for i in range(len(dataset)):
        target, annotations = dataset.annotated_target(i)
        found = dataset.annotated_target(i)[0].instances
        # what the evaluation measures boxes by is the annotation's own bbox
        boxes = torch.tensor([a["bbox"] for a in annotations], dtype=torch.float64).reshape(-1, 4)
        found.boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
        found.scores = torch.ones(len(found))
        found = found[~found.crowd]
        metric.update([Prediction(target.image_id, target.size, found)], [target], [annotations])
    assert set(metric.compute().values()) == {1.0}


def test_stored_results_give_pycocotools_the_same_score(tmp_path):
    root = write_dataset(tmp_path / "toy")
    scores = score(root, shift=2, keep=tmp_path / "out" / "val.json")
    assert 0.1 < scores.metrics["segm_AP"] < 0.9
    results = json.loads((tmp_path / "out" / "val.json").read_text())
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(root / "annotations" / "val.json"))  # source ids on both sides
        for kind, drop in (("bbox", "segmentation"), ("segm", "bbox")):
            found = truth.loadRes([{k: v for k, v in r.items() if k != drop} for r in results])
            run = COCOeval(truth, found, kind)
            run.evaluate()
            run.accumulate()
            run.summarize()
            assert scores.metrics[f"{kind}_AP"] == pytest.approx(run.stats[0], abs=1e-6)
            assert scores.metrics[f"{kind}_AP75"] == pytest.approx(run.stats[2], abs=1e-6)
    hits = measure(answers(Dataset(root, "val"), tmp_path / "out" / "val.json"), [7, 3])
    assert (hits.any, hits.right, hits.sure) == (1, 1, pytest.approx(0.9)), "what the diagnosis reads of them"
    left = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert left == ["val.json", "val_bootstrap.npz", "val_diagnostics.json"], "no temporary file is left"


def rename(root, image_id, name):
    """Give an image of `write_dataset` another name."""
    file = root / "annotations" / "val.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    record = next(r for r in data["images"] if r["id"] == image_id)
    (root / "images" / record["file_name"]).rename(root / "images" / name)
    record["file_name"] = name
    file.write_text(json.dumps(data), encoding="utf-8")


@pytest.mark.parametrize("task", ["instance", "semantic", "panoptic"])
def test_stored_predictions_read_back_as_they_were(tmp_path, task):
    root = write_dataset(tmp_path / "toy")
    rename(root, 2, "사진 3.jpg")  # beside "사진 3.png": their maps are files of their own
    score(root, task, shift=3, keep=tmp_path / "out" / "val.json")
    dataset = Dataset(root, "val", task=task)
    stored, model = StoredPredictions(tmp_path / "out" / "val.json", dataset), Repeats(dataset, 3)
    for i in range(len(dataset)):
        read, made = stored.read(i), model.one(i)
        if task == "semantic":
            assert np.array_equal(read.semantic, made.semantic)
        elif task == "panoptic":
            assert np.array_equal(read.panoptic.ids, made.panoptic.ids)
            assert [(s.id, s.label) for s in read.panoptic.segments] == [
                (s.id, s.label) for s in made.panoptic.segments
            ]
        else:
            assert torch.equal(read.instances.labels, made.instances.labels)
            assert torch.equal(read.instances.scores, made.instances.scores)
            assert torch.allclose(read.instances.boxes, made.instances.boxes, atol=1e-3)
            assert all(
                np.array_equal(read.instances.mask(k), made.instances.mask(k)) for k in range(len(made.instances))
            )


def test_stored_predictions_that_are_broken_or_foreign_are_named(tmp_path):
    root = write_dataset(tmp_path / "toy")
    dataset, file = Dataset(root, "val"), tmp_path / "val.json"
    with pytest.raises(DataError, match=r"val\.json"):
        StoredPredictions(file, dataset)
    good = {"image_id": 2, "category_id": 7, "bbox": [0, 0, 4, 4], "score": 0.5}
    for text, message in [
        ('[{"image_id": 1,', "not valid JSON"),
        ("{}", "not a list of COCO results"),
        (json.dumps([{**good, "image_id": 99}]), "image 99 is not in"),
        (json.dumps([{**good, "category_id": 1}]), "category 1 is not in"),
    ]:
        file.write_text(text)
        with pytest.raises(DataError, match=message):
            StoredPredictions(file, dataset)
    torn = {"size": list(SIZE), "counts": "52"}
    small = {"size": [5, 5], "counts": "i0"}
    for wrong in (
        {"bbox": [1, 2]},
        {"score": "high"},
        {"score": float("nan")},
        {"segmentation": torn},
        {"segmentation": small},
    ):
        file.write_text(json.dumps([{**good, **wrong}]))
        with pytest.raises(DataError, match=r"val\.json: image 2: not COCO results"):
            StoredPredictions(file, dataset).read(1)


@pytest.mark.parametrize("task", ["detection", "instance", "semantic", "panoptic"])
def test_resamples_and_diagnostics_are_stored_with_the_predictions(tmp_path, task):
    scores = score(write_dataset(tmp_path / "toy"), task, shift=2, keep=tmp_path / "val.json")
    with np.load(tmp_path / "val_bootstrap.npz") as stored:
        for key, value in scores.metrics.items():
            if not key.startswith("mIoU_things"):
                low, high = np.nanpercentile(stored[key], (0, 100))
                assert stored[key].shape == (1000,)
                assert low - 1e-6 <= value <= high + 1e-6
    behind = json.loads((tmp_path / "val_diagnostics.json").read_text())
    if task in ("detection", "instance"):
        assert np.array(behind["confusion"]).shape == (3, 3)
        assert np.array(behind["confusion"]).sum() > 0
        assert behind["kinds"].keys() == ({"bbox"} if task == "detection" else {"bbox", "segm"})
        assert behind["tide"]["counts"].keys() == {"Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"}
        assert 0 <= behind["calibration"]["ece"] <= 1
        assert len(behind["precision"]["cat"]) == 101


def test_suppression_afterwards_drops_duplicates_and_heads_are_set_and_put_back(tmp_path):
    root = write_dataset(tmp_path / "toy")
    dataset = Dataset(root, "val")
    model = Repeats(dataset)
    once = model.one

    def twice(i):
        made = once(i)
        picked = torch.arange(len(made.instances)).repeat(2)
        made.instances = made.instances[picked]
        return made

    model.one = twice
    run = lambda **settings: score_model(model, dataset, recipe(root), device="cpu", progress=False, **settings)
    assert run().metrics["segm_AP"] < 1.0
    assert run(nms=Suppression(None)).metrics == run().metrics
    assert run(nms=Suppression(0.9)).metrics["segm_AP"] == 1.0
    model.head = nn.Module()
    model.head.nms = 0.5
    seen = []
    model.one = lambda i: seen.append(model.head.nms) or once(i)
    run(nms=Suppression(None))
    run(nms=Suppression(0.7))
    assert set(seen) == {None, 0.7}
    assert model.head.nms == 0.5


def test_a_failed_evaluation_leaves_the_earlier_predictions(tmp_path):
    root = write_dataset(tmp_path / "toy")
    keep = tmp_path / "val.json"
    keep.write_text("earlier")
    dataset = Dataset(root, "val")
    model = Repeats(dataset)
    model.one = lambda i: 1 / 0 if i == 3 else Repeats.one(model, i)
    with pytest.raises(ZeroDivisionError):
        score_model(model, dataset, recipe(root), device="cpu", progress=False, keep=keep)
    assert keep.read_text() == "earlier"
    assert not list(tmp_path.glob(".val*"))


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """A run folder whose model repeats the labels, moved by two pixels."""
    root = write_dataset(tmp_path / "toy")
    dataset = Dataset(root, "val")
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    made = Opened(Repeats(dataset, 2), recipe(root), dataset.info, run.path)
    monkeypatch.setattr(command, "open_model", lambda *_, **__: made)
    return made


def test_evaluating_a_run_writes_its_metrics_and_predictions(opened):
    metrics = evaluate(opened.path, progress=False)
    written = RunFolder(opened.path).read_metrics()
    assert written["metrics"] == metrics
    assert written["primary"] == "segm_AP"
    assert written["images"] == 4
    assert written["per_class"].keys() == {"cat", "dog"}
    assert written["schema_version"] == 1
    assert len(json.loads((opened.path / "predictions" / "val.json").read_text())) == 15


def test_other_weights_or_other_data_leave_the_run_as_it_is(opened, tmp_path):
    other = write_dataset(tmp_path / "other", images=2)
    assert evaluate(opened.path, weights="best", progress=False)
    assert evaluate(opened.path, data=other, progress=False)
    assert not list(opened.path.iterdir())


def test_data_of_other_classes_is_refused_and_both_are_named(opened, tmp_path):
    other = write_dataset(tmp_path / "other", names=("cat", "horse"))
    with pytest.raises(ModelError, match=r"\[cat, dog\].*\[cat, horse\]"):
        evaluate(opened.path, data=other, progress=False)


def test_the_limit_on_detections_is_the_recipes(tmp_path):
    root = write_dataset(tmp_path / "toy")
    assert score(root, max_detections=1).metrics["segm_AP"] < 0.5


def test_expectations_name_what_is_outside():
    expect = {"segm_AP": Expect(value=0.6, tolerance=0.04), "bbox_AP": Expect(value=0.5, tolerance=0.1)}
    assert check_expectations({"segm_AP": 0.57, "bbox_AP": 0.59}, expect) == []
    low, missing = check_expectations({"segm_AP": 0.5}, expect)
    assert low == "segm_AP is 0.500, below the expected 0.560 to 0.640"
    assert missing.startswith("bbox_AP was not measured")
    assert "above" in check_expectations({"segm_AP": 0.9, "bbox_AP": 0.5}, expect)[0]
