"""Score a model on a split at original resolution, image by image, and store what it predicted."""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import UsageError
from segcli.core.files import write_atomic
from segcli.core.plugins import call, find
from segcli.core.recipe.recipe import Expect, Recipe
from segcli.core.tasks import TASKS
from segcli.data.dataset import Dataset
from segcli.data.loader import eval_loader
from segcli.engine.capacity import refuse_batch
from segcli.metrics import Scorer, metric_for, update
from segcli.metrics.instance import InstanceScores
from segcli.models.interface import Model
from segcli.ops import bootstrap, task_conversion
from segcli.predictions.coco_results import ResultsWriter, map_names
from segcli.types import Prediction


@dataclasses.dataclass
class Scores:
    """metrics: CONTRACT's keys, 0..1; a key is missing if the labels have no such object (no small one, for example).

    per_class: class name -> its own numbers. seconds: the whole evaluation, reading and scoring included.
    changed_data: the present fingerprint of the run's dataset if it has changed since the training.
    diagnosis: causes of a low score (see `diagnosis.print_causes`); None if none was made.
    """

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    images: int
    seconds: float
    changed_data: str | None = None
    diagnosis: list[dict[str, str]] | None = None

    def to_json(self, recipe: Recipe, *, split: str, weights: str) -> dict[str, Any]:
        """The contents of metrics.json."""
        return {
            "task": recipe.task,
            "primary": recipe.primary,
            "metrics": self.metrics,
            "per_class": self.per_class,
            "images": self.images,
            "seconds": round(self.seconds, 2),
            "split": split,
            "weights": weights,
            **({} if self.diagnosis is None else {"diagnosis": self.diagnosis}),
            **({"data_changed": True, "fingerprint": self.changed_data} if self.changed_data else {}),
        }


def score_model(
    model: Model,
    dataset: Dataset,
    recipe: Recipe,
    *,
    device: torch.device | str,
    progress: bool = True,
    keep: Path | None = None,
    nms: float | bool | None = False,
) -> Scores:
    """Predict and score every image of `dataset` with `recipe.eval`'s limits. The model's mode is restored afterwards.

    keep: where to store the predictions, e.g. predictions/val.json (see predictions/coco_results.py for the files
    beside it), with the resampled scores for `compare` (val_bootstrap.npz) and the diagnostics (val_diagnostics.json).
    nms: IoU threshold of class-wise suppression, or None for no suppression; False keeps the model's own.
    Raises UsageError for a task without a metric.
    """
    metrics = build_metrics(recipe, dataset, resample=keep is not None)
    dataset = dataset.viewed_as("panoptic") if _meets_other_families(recipe, dataset.info) else dataset
    metrics += [Scorer(metric, lambda p: p) for metric in head_metrics(model, recipe, dataset.info, keep is not None)]
    refuse_batch(recipe, model, dataset.sizes, min(recipe.eval.batch_size, len(dataset)), training=False)
    position = {image_id: i for i, image_id in enumerate(dataset.image_ids)}
    begun, images = time.perf_counter(), 0
    bar = tqdm(total=len(dataset), desc="scoring", unit="image", disable=not progress, file=sys.stderr, leave=False)
    writer, names = ResultsWriter(keep, dataset.info) if keep else None, map_names(dataset.file_names)
    with torch.inference_mode(), evaluating(model, recipe), suppressing(model, nms) as suppress, bar:
        with writer or contextlib.nullcontext():
            batches = eval_loader(
                dataset, model.preprocess, batch_size=recipe.eval.batch_size, workers=recipe.hardware.workers
            )
            for batch in batches:
                pixels = batch.images.contiguous(memory_format=torch.channels_last)
                for prediction in model.predict(dataclasses.replace(batch, images=pixels).to(device)):
                    i = position[prediction.image_id]
                    prediction = suppress(prediction)
                    update(metrics, prediction, *dataset.annotated_target(i))
                    if writer:
                        writer.add(prediction, names[i])
                    images += 1
                    bar.update()
        scores, per_class = combine(metrics)
    if keep:
        store_intervals(keep, metrics, dataset.image_ids)
    return Scores(scores, per_class, images, time.perf_counter() - begun)


def build_metrics(recipe: Recipe, dataset: Dataset, *, resample: bool = False) -> list[Scorer]:
    """The metrics of the recipe's task (with mask AP also boundary AP), then, if every pixel is labelled, those of
    other tasks: a panoptic map is also scored as a label map and as detections, detections with masks also as a
    panoptic map and a label map of things."""
    info, same = dataset.info, lambda p: p
    as_semantic = partial(task_conversion.as_semantic, ignore=dataset.ignore)
    out = [Scorer(build_metric(recipe, info, resample=resample), same)]
    task = TASKS[recipe.task]
    if task.objects and task.masks:
        out.append(Scorer(find("metric", "boundary").build(info=info, max_detections=recipe.eval.max_detections), same))
    if task.panoptic:
        out.append(Scorer(find("metric", "semantic").build(info=info), as_semantic))
        if info.num_things and dataset.has_masks:
            segm = InstanceScores(info, ("segm",), recipe.eval.max_detections, resample)
            out.append(Scorer(segm, lambda p: task_conversion.as_instances(p, info.num_things)))
    if task.objects and task.masks and _meets_other_families(recipe, info):
        # in this order: the second reads the first one's map
        out.append(Scorer(find("metric", "panoptic").build(info=info), task_conversion.as_panoptic, ("PQ_things",)))
        out.append(Scorer(find("metric", "semantic").build(info=info), as_semantic, ("mIoU_things",)))
    return out


def _meets_other_families(recipe: Recipe, info: DatasetInfo) -> bool:
    """Whether predictions are also scored as other tasks, against the panoptic labels."""
    labelled = (info.semantic or info.panoptic) and info.num_things < len(info.categories)
    task = TASKS[recipe.task]
    return task.panoptic or (task.objects and task.masks and labelled)


def combine(metrics: list[Scorer]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """(all scores, the primary task's first; the scores of each class)."""
    scores: dict[str, float] = {}
    per_class: dict[str, dict[str, float]] = {}
    for scorer in metrics:
        for key, value in scorer.metric.compute().items():
            if scorer.keys is not None and key not in scorer.keys:
                continue
            if key in scores:
                raise UsageError(f"{type(scorer.metric).__module__}: another metric has the key {key!r} already")
            scores[key] = value
        if scorer.keys is None:
            for name, values in scorer.metric.per_class().items() if hasattr(scorer.metric, "per_class") else ():
                per_class.setdefault(name, {}).update(values)
    return scores, per_class


def store_intervals(keep: Path, metrics: list[Scorer], image_ids: list[int]) -> None:
    """Store the scores of 1,000 resamples of the images, and the diagnostics, beside predictions/val.json.

    Metrics without `replicates` or `diagnostics` are skipped.
    """
    times, replicates = bootstrap.draw(len(image_ids)), {}
    diagnostics: dict[str, Any] = {}
    for scorer in metrics:
        if hasattr(scorer.metric, "replicates"):
            made = scorer.metric.replicates(times)
            replicates.update({k: v for k, v in made.items() if scorer.keys is None or k in scorer.keys})
        if hasattr(scorer.metric, "diagnostics") and scorer.keys is None and not diagnostics:
            diagnostics = scorer.metric.diagnostics()
    arrays = {key: values.astype(np.float32) for key, values in replicates.items()}

    def save(path: Path) -> None:
        with open(path, "wb") as file:
            np.savez(file, digest=np.array(bootstrap.digest(image_ids)), **arrays)

    write_atomic(keep.with_name(f"{keep.stem}_bootstrap.npz"), save)
    text = json.dumps({"schema_version": 1, **diagnostics})
    write_atomic(keep.with_name(f"{keep.stem}_diagnostics.json"), lambda p: p.write_text(text, encoding="utf-8"))


def build_metric(recipe: Recipe, info: DatasetInfo, *, resample: bool = False) -> Any:
    """The metric of the recipe's task (`update`, `merge`, `compute`, `per_class`)."""
    return metric_for(recipe.task, info, recipe.eval.max_detections, resample=resample)


def head_metrics(model: Model, recipe: Recipe, info: DatasetInfo, resample: bool = False) -> list[Any]:
    """The metrics that the model's heads declare for their own fields."""
    given = {"info": info, "max_detections": recipe.eval.max_detections, "resample": resample}
    find_metric = lambda name: find("metric", name, "a head's metric").build
    return [call(find_metric(name), {}, f"metric {name}", **given) for name in model.metrics]


@contextlib.contextmanager
def suppressing(model: Model, nms: float | bool | None) -> Iterator[Callable[[Prediction], Prediction]]:
    """Set every head's suppression threshold (`nms`: an IoU or None) and restore it after. -> a function to apply to
    each prediction: it suppresses detections of models without suppression of their own, if `nms` is an IoU."""
    if nms is False:
        yield lambda p: p
        return
    heads: list[Any] = [m for m in model.modules() if hasattr(m, "nms")]
    before = [head.nms for head in heads]
    for head in heads:
        head.nms = nms

    def suppress(prediction: Prediction) -> Prediction:
        if heads or nms is None or prediction.instances is None:
            return prediction
        return dataclasses.replace(prediction, instances=task_conversion.suppress(prediction.instances, float(nms)))

    try:
        yield suppress
    finally:
        for head, value in zip(heads, before, strict=True):
            head.nms = value


@contextlib.contextmanager
def evaluating(model: Model, recipe: Recipe) -> Iterator[None]:
    """The model in evaluation mode, with the recipe's limit on detections; its mode is restored after."""
    was_training = model.training
    model.eval()
    model.max_detections = recipe.eval.max_detections
    try:
        yield
    finally:
        model.train(was_training)


def check_expectations(metrics: Mapping[str, float], expect: Mapping[str, Expect]) -> list[str]:
    """One sentence for each score outside its `expect:` range; [] if there is none."""
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
