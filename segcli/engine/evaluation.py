"""`segcli eval`: score a model on a split at original resolution, image by image, and store what it predicted."""

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
from torch import nn
from tqdm import tqdm

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import UsageError
from segcli.core.files import write_atomic
from segcli.core.plugins import call, find
from segcli.core.recipe.recipe import Expect, Recipe
from segcli.data.dataset import Dataset
from segcli.data.fingerprint import current
from segcli.data.loader import eval_loader
from segcli.engine.capacity import refuse_batch
from segcli.engine.diagnosis import print_causes
from segcli.engine.run_folder import RunFolder, open_model, prepare_layout
from segcli.engine.same_data import check_classes, say_changes
from segcli.metrics.instance import InstanceScores
from segcli.ops import bootstrap, task_conversion
from segcli.predictions.coco_results import ResultsWriter, map_names
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
    changed_data: the fingerprint of a run's own dataset where that is no longer what the run was trained on.
    diagnosis: of a run, why it scores so low (see `diagnosis.print_causes`), None where that was not asked.
    """

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    images: int
    seconds: float
    changed_data: str | None = None
    diagnosis: list[dict[str, str]] | None = None

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
            **({} if self.diagnosis is None else {"diagnosis": self.diagnosis}),
            **({"data_changed": True, "fingerprint": self.changed_data} if self.changed_data else {}),
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
    nms: float | bool | None = False,
) -> Scores:
    """`evaluate` with everything it measured.

    What a run folder says of itself is its own weights on its own data: predictions/SPLIT.json is rewritten then, and
    metrics.json where the split is the recipe's, too. Other weights or other data write nothing. With `nms` (see
    `score_model`) a run's metrics.json alone is added to: its "nms" holds the scores with each setting.
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
    if opened.path:  # values of more than 8 bits are read as in training, whatever was decided for other data
        dataset.info = dataclasses.replace(dataset.info, value_range=opened.info.value_range)
    own = opened.path is not None and data is None
    changed = own and say_changes(opened.info, dataset.root, dataset.info, Path(run))
    folder = RunFolder(opened.path) if opened.path and data is None and weights in (None, "last") else None
    keep = folder.path / "predictions" / f"{chosen}.json" if folder and nms is False else None
    beside = folder if folder and chosen == recipe.eval.split and nms is not False else None
    if beside:
        beside.read_metrics()  # a run that is not finished has none: said before any work
    if folder and keep:
        folder.read_log()  # that tells why it scores as it does, afterwards
    device = next(model.parameters()).device
    scores = score_model(model, dataset, recipe, device=device, progress=progress, keep=keep, nms=nms)
    if changed:
        scores.changed_data = current(dataset.root, dataset.info)
    if folder and keep:
        scores.diagnosis = print_causes(folder, recipe, model, dataset, scores.metrics, keep)
    if beside:
        stored = beside.read_metrics()
        stored["nms"] = {**stored.get("nms", {}), "off" if nms is None else f"{nms:g}": scores.metrics}
        beside.write_metrics(stored)
    elif folder and chosen == recipe.eval.split:
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
    nms: float | bool | None = False,
) -> Scores:
    """Predict and score every image of `dataset` with `recipe.eval`'s limits. The model's mode is put back afterwards.

    keep: where to store the predictions, say predictions/val.json (see predictions/coco_results.py for its neighbours),
    with what `compare` needs for intervals (val_bootstrap.npz) and what lies behind the scores (val_diagnostics.json).
    nms: suppress detections at this IoU (class by class), or not at all (None); False leaves the model's own way.
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


@dataclasses.dataclass
class Scorer:
    """One metric, how a prediction is read for it, and which of its scores count (all, or those of things alone)."""

    metric: Any
    view: Callable[[Prediction], Prediction]
    keys: tuple[str, ...] | None = None


def build_metrics(recipe: Recipe, dataset: Dataset, *, resample: bool = False) -> list[Scorer]:
    """The metric of the recipe's task, boundary AP beside mask AP, then those of other families' tasks where every
    pixel is labelled: a panoptic map also as label map and as detections, detections with masks also as panoptic and
    label map of things."""
    info, same = dataset.info, lambda p: p
    as_semantic = partial(task_conversion.as_semantic, ignore=dataset.ignore)
    out = [Scorer(build_metric(recipe, info, resample=resample), same)]
    if recipe.task == "instance":
        out.append(Scorer(find("metric", "boundary").build(info=info, max_detections=recipe.eval.max_detections), same))
    if recipe.task == "panoptic":
        out.append(Scorer(find("metric", "semantic").build(info=info), as_semantic))
        if info.num_things and dataset.has_masks:
            segm = InstanceScores(info, ("segm",), recipe.eval.max_detections, resample)
            out.append(Scorer(segm, lambda p: task_conversion.as_instances(p, info.num_things)))
    if recipe.task == "instance" and _meets_other_families(recipe, info):
        # one after the other: the second reads the first one's map
        out.append(Scorer(find("metric", "panoptic").build(info=info), task_conversion.as_panoptic, ("PQ_things",)))
        out.append(Scorer(find("metric", "semantic").build(info=info), as_semantic, ("mIoU_things",)))
    return out


def _meets_other_families(recipe: Recipe, info: DatasetInfo) -> bool:
    """Whether what is predicted is also scored as another task, by the panoptic labels."""
    labelled = (info.semantic or info.panoptic) and info.num_things < len(info.categories)
    return recipe.task == "panoptic" or (recipe.task == "instance" and labelled)


def update(metrics: list[Scorer], prediction: Prediction, target: Any, annotations: list[dict[str, Any]]) -> None:
    """Count one image in every metric."""
    for scorer in metrics:
        prediction = scorer.view(prediction)
        if isinstance(scorer.metric, InstanceScores):
            scorer.metric.update([prediction], [target], [annotations])
        else:
            scorer.metric.update([prediction], [target])


def score_one(metric: Any, prediction: Prediction, dataset: Dataset, i: int) -> None:
    """Hold a prediction against the labels of image i in one metric."""
    update([Scorer(metric, lambda p: p)], prediction, *dataset.annotated_target(i))


def combine(metrics: list[Scorer]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """All scores, the task's own first, and those of each class."""
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
    """Beside predictions/val.json: the scores of 1,000 resamples of the images, and the diagnostics.

    Metrics without `replicates` or `diagnostics` have none.
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


def metric_for(task: str, info: DatasetInfo, max_detections: int, *, resample: bool = False) -> Any:
    """The metric of a task. Raises UsageError for one without."""
    if task not in METRICS:
        raise UsageError(f"task {task!r} has no score yet", hint="tasks that have: " + ", ".join(METRICS))
    name, settings = METRICS[task]
    if name == "instance":
        settings = {**settings, "max_detections": max_detections, "resample": resample}
    return call(find("metric", name).build, settings, f"metric {name}", info=info)


def head_metrics(model: Any, recipe: Recipe, info: DatasetInfo, resample: bool = False) -> list[Any]:
    """The metrics that the model's heads name for their own fields."""
    given = {"info": info, "max_detections": recipe.eval.max_detections, "resample": resample}
    names = getattr(model, "metrics", ())
    return [call(find("metric", name, "a head's metric").build, {}, f"metric {name}", **given) for name in names]


@contextlib.contextmanager
def suppressing(model: nn.Module, nms: float | bool | None) -> Iterator[Callable[[Prediction], Prediction]]:
    """Set every head's own suppression (`nms`: an IoU or None), put it back after. -> what to do to each prediction:
    models that have no suppression get it afterwards, where `nms` is an IoU."""
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
def evaluating(model: nn.Module, recipe: Recipe) -> Iterator[None]:
    """The model in evaluation mode, with the recipe's limit on detections; its mode is put back."""
    was_training = model.training
    model.eval()
    model.max_detections = recipe.eval.max_detections  # type: ignore[assignment]
    try:
        yield
    finally:
        model.train(was_training)


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
