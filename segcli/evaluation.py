"""`segcli eval`: score a model on a split at original resolution, image by image, and store what it predicted."""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from segcli.data.dataset import Dataset
from segcli.data.loader import eval_loader
from segcli.data.results import ResultsWriter
from segcli.diagnosis import diagnose
from segcli.errors import ModelError, UsageError
from segcli.info import DatasetInfo
from segcli.lookup import call, find
from segcli.metrics.instance import InstanceScores
from segcli.recipe import Expect, Recipe
from segcli.run import RunFolder, open_model, prepare_layout
from segcli.types import Prediction

METRICS: dict[str, tuple[str, dict[str, Any]]] = {  # task -> plugin of segcli/metrics and its settings
    "detection": ("instance", {"kinds": ("bbox",)}),
    "instance": ("instance", {"kinds": ("bbox", "segm")}),
    "semantic": ("semantic", {}),
    "panoptic": ("panoptic", {}),
    "keypoints": ("instance", {"kinds": ("bbox",)}),  # and the keypoint head's own
}


@dataclasses.dataclass
class Scores:
    """metrics: CONTRACT's keys, 0..1; a key is missing where the labels say nothing about it (no small object, say).

    per_class: class name -> its own numbers. seconds: the whole evaluation, reading and scoring included.
    """

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    images: int
    seconds: float

    def to_json(self, recipe: Recipe, *, split: str, weights: str) -> dict[str, Any]:
        """What metrics.json holds."""
        return {
            "task": recipe.task,
            "primary": recipe.primary,
            "metrics": self.metrics,
            "per_class": self.per_class,
            "images": self.images,
            "seconds": round(self.seconds, 2),
            "split": split,
            "weights": weights,
        }


def evaluate(
    run: str | Path,
    *,
    weights: str | None = None,
    data: str | Path | None = None,
    split: str | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Score a run folder, or a recipe with weights. -> {"segm_AP": 0.43, ...}, as in metrics.json.

    weights: `last` (default), `best` or a file. data: another dataset's folder, with the same classes. split: the
    recipe's by default. A run's own metrics.json and predictions/ are rewritten (see `score_run`).
    Raises ModelError where weights or classes don't fit, DataError where the dataset can't be read.
    """
    return score_run(run, weights=weights, data=data, split=split, progress=progress).metrics


def score_run(
    run: str | Path,
    *,
    weights: str | None = None,
    data: str | Path | None = None,
    split: str | None = None,
    progress: bool = True,
) -> Scores:
    """`evaluate` with everything it measured.

    What a run folder says of itself is its own weights on its own data: predictions/SPLIT.json is rewritten then, and
    metrics.json where the split is the recipe's, too. Other weights or other data write nothing.
    """
    opened = open_model(run, weights=weights)
    recipe = opened.recipe
    model: Any = prepare_layout(opened.model)
    chosen = split or recipe.eval.split
    names = recipe.data.split_file if data is None else None
    dataset = Dataset(
        data or recipe.data.root,
        chosen,
        split_file=recipe.resolve(names) if names else None,
        task=recipe.task,
        fields=model.fields,
    )
    check_classes(opened.info, dataset.info, str(run), str(dataset.root))
    folder = RunFolder(opened.path) if opened.path and data is None and weights in (None, "last") else None
    keep = folder.path / "predictions" / f"{chosen}.json" if folder else None
    device = next(model.parameters()).device
    scores = score_model(model, dataset, recipe, device=device, progress=progress, keep=keep)
    if folder and keep:
        print_causes(folder, recipe, dataset, scores.metrics, keep)
    if folder and chosen == recipe.eval.split:
        folder.write_metrics(scores.to_json(recipe, split=chosen, weights="last"))
    return scores


def score_model(
    model: Any,
    dataset: Dataset,
    recipe: Recipe,
    *,
    device: torch.device | str,
    progress: bool = True,
    keep: Path | None = None,
) -> Scores:
    """Predict and score every image of `dataset` with `recipe.eval`'s limits. The model's mode is put back afterwards.

    keep: where to store the predictions, say predictions/val.json (see data/results.py for its neighbours).
    Raises UsageError for a task without a metric.
    """
    metrics = [build_metric(recipe, dataset.info), *head_metrics(model, recipe, dataset.info)]
    position = {image_id: i for i, image_id in enumerate(dataset.image_ids)}
    begun, images = time.perf_counter(), 0
    bar = tqdm(total=len(dataset), desc="scoring", unit="image", disable=not progress, file=sys.stderr, leave=False)
    writer = ResultsWriter(keep, dataset.info) if keep else None
    with torch.inference_mode(), evaluating(model, recipe), bar, writer or contextlib.nullcontext():
        batches = eval_loader(
            dataset, model.preprocess, batch_size=recipe.eval.batch_size, workers=recipe.hardware.workers
        )
        for batch in batches:
            pixels = batch.images.contiguous(memory_format=torch.channels_last)
            for prediction in model.predict(dataclasses.replace(batch, images=pixels).to(device)):
                i = position[prediction.image_id]
                for metric in metrics:
                    score_one(metric, prediction, dataset, i)
                if writer:
                    writer.add(prediction, dataset.file_names[i])
                images += 1
                bar.update()
        values, per_class = join(metrics)
    return Scores(values, per_class, images, time.perf_counter() - begun)


def score_one(metric: Any, prediction: Prediction, dataset: Dataset, i: int) -> None:
    """Hold a prediction against the labels of image i."""
    target, annotations = dataset.annotated_target(i)
    if isinstance(metric, InstanceScores):
        metric.update([prediction], [target], [annotations])
    else:
        metric.update([prediction], [target])


def print_causes(
    run: RunFolder, recipe: Recipe, dataset: Dataset, metrics: Mapping[str, float], predictions: Path
) -> None:
    """Where a detector scores nothing, or much less than on the way: say why on stderr (see `diagnosis`)."""
    if recipe.task not in ("detection", "instance") or not predictions.is_file():
        return
    results = json.loads(predictions.read_text(encoding="utf-8"))
    truth = [{**a, "category_id": dataset.info.source_ids[a["category_id"] - 1]} for a in dataset.coco()["annotations"]]
    value = metrics.get(recipe.primary, 0.0)
    for cause in diagnose(recipe, value, run.read_log(), truth, results, dataset.info.source_ids):
        print(f"diagnosis: {cause}", file=sys.stderr)


def build_metric(recipe: Recipe, info: DatasetInfo) -> Any:
    """The metric of the recipe's task (`update`, `merge`, `compute`, `per_class`)."""
    return metric_for(recipe.task, info, recipe.eval.max_detections)


def metric_for(task: str, info: DatasetInfo, max_detections: int) -> Any:
    """The metric of a task. Raises UsageError for one without."""
    if task not in METRICS:
        raise UsageError(f"task {task!r} has no score yet", hint="tasks that have: " + ", ".join(METRICS))
    name, settings = METRICS[task]
    if name == "instance":
        settings = {**settings, "max_detections": max_detections}
    return call(find("metric", name).build, settings, f"metric {name}", info=info)


def head_metrics(model: Any, recipe: Recipe, info: DatasetInfo) -> list[Any]:
    """The metrics that the model's heads name for their own fields."""
    given = {"info": info, "max_detections": recipe.eval.max_detections}
    names = getattr(model, "metrics", ())
    return [call(find("metric", name, "a head's metric").build, {}, f"metric {name}", **given) for name in names]


def join(metrics: Sequence[Any]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """All numbers of several metrics, and those of each class. Raises UsageError where two give one name."""
    values: dict[str, float] = {}
    classes: dict[str, dict[str, float]] = {}
    for metric in metrics:
        own = metric.compute()
        if twice := sorted(values.keys() & own.keys()):
            raise UsageError(f"{type(metric).__module__}: another metric has the key {twice[0]!r} already")
        values |= own
        for name, numbers in metric.per_class().items() if hasattr(metric, "per_class") else ():
            classes[name] = {**classes.get(name, {}), **numbers}
    return values, classes


@contextlib.contextmanager
def evaluating(model: nn.Module, recipe: Recipe) -> Iterator[None]:
    """The model in evaluation mode, with the recipe's limit on detections; its mode is put back."""
    was_training = model.training
    model.eval()
    model.max_detections = recipe.eval.max_detections  # type: ignore[assignment]
    try:
        yield
    finally:
        model.train(was_training)


def check_classes(model: DatasetInfo, data: DatasetInfo, model_name: str, data_name: str) -> None:
    """Raise ModelError unless both declare the same classes in the same order."""
    own, other = ([(c.name, c.thing) for c in info.categories] for info in (model, data))
    if own != other:
        raise ModelError(
            f"{model_name} has the classes {_listed(model.names)}, and {data_name} has {_listed(data.names)}",
            hint="score a model on data with the classes that it was trained for, in that order",
        )


def check_expectations(metrics: Mapping[str, float], expect: Mapping[str, Expect]) -> list[str]:
    """One sentence for each score outside its `expect:` range; [] where all are inside."""
    out = []
    for key, wanted in expect.items():
        low, high = wanted.value - wanted.tolerance, wanted.value + wanted.tolerance
        value = metrics.get(key)
        if value is None:
            out.append(f"{key} was not measured, expected {low:.3f} to {high:.3f}")
        elif not low <= value <= high:
            side = "below" if value < low else "above"
            out.append(f"{key} is {value:.3f}, {side} the expected {low:.3f} to {high:.3f}")
    return out


def _listed(names: list[str]) -> str:
    return f"[{', '.join(names[:8])}{', …' if len(names) > 8 else ''}] ({len(names)})"
