"""Score a model on a split at original resolution, image by image, and store what it predicted."""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import UsageError
from segcli.core.files import write_atomic
from segcli.core.recipe.recipe import Expect, Recipe
from segcli.core.tasks import TASKS
from segcli.data.dataset import Dataset
from segcli.data.loader import eval_loader
from segcli.engine.capacity import refuse_batch
from segcli.engine.compilation import uncompiled
from segcli.metrics import Scorer, blamed, build_metric, metric_for
from segcli.metrics.interface import Diagnosed, Metric, PerClass, Resampled
from segcli.models.interface import Model, Suppressing
from segcli.ops import bootstrap, task_conversion
from segcli.predictions.coco_results import ResultsWriter, map_names
from segcli.types import Batch, Prediction, Target


@dataclasses.dataclass(frozen=True)
class Suppression:
    """Class-wise non-maximum suppression in place of the model's own. overlap: IoU above which the detection with the
    lower score is dropped; None: nothing is suppressed."""

    overlap: float | None

    def finish(self, prediction: Prediction) -> Prediction:
        """Suppress the detections of a model that has no heads which suppress (see `suppressing`)."""
        if self.overlap is None or prediction.instances is None:
            return prediction
        kept = task_conversion.suppress(prediction.instances, self.overlap)
        return dataclasses.replace(prediction, instances=kept)


@dataclasses.dataclass
class Scores:
    """metrics: as in metrics.json, 0..1; a score is missing if the labels have no such object (no small one, say).

    per_class: class name -> its own numbers. seconds: the whole evaluation, reading and scoring included.
    changed_data: the present fingerprint of the run's dataset if it has changed since the training.
    diagnosis: causes of a low score (see `diagnosis.print_causes`); None if none was made.
    behind: the first metric's `diagnostics()`, where it was asked for or the predictions are kept.
    findings: what matters most behind the score (see `findings`), where it was asked for.
    """

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    images: int
    seconds: float
    changed_data: str | None = None
    diagnosis: list[dict[str, str | int]] | None = None
    behind: dict[str, object] = dataclasses.field(default_factory=dict)
    findings: list[dict[str, object]] | None = None

    def to_json(self, recipe: Recipe, *, split: str, weights: str) -> dict[str, object]:
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
            **({} if self.findings is None else {"findings": self.findings}),
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
    nms: Suppression | None = None,
    diagnose: bool = False,
) -> Scores:
    """Predict and score every image of `dataset` with `recipe.eval`'s limits. The model is left as it was.

    keep: where to store the predictions, e.g. predictions/val.json (see predictions/coco_results.py for the files
    beside it), with the resampled scores for `compare` (val_bootstrap.npz) and the diagnostics (val_diagnostics.json).
    nms: in place of the model's own suppression; None keeps that. diagnose: measure what lies behind the scores, also
    where nothing is kept. Raises UsageError where two metrics have a score of one name.
    """
    scorers = build_scorers(recipe, dataset, model, resample=keep is not None or diagnose)
    dataset = dataset.viewed_as("panoptic") if _meets_other_families(recipe, dataset.info) else dataset
    refuse_batch(recipe, model, dataset.sizes, min(recipe.eval.batch_size, len(dataset)), training=False)
    position = {image_id: i for i, image_id in enumerate(dataset.image_ids)}
    begun, images = time.perf_counter(), 0
    heads: list[Suppressing] = [module for module in model.modules() if isinstance(module, Suppressing)]
    bar = tqdm(total=len(dataset), desc="scoring", unit="image", disable=not progress, file=sys.stderr, leave=False)
    writer, names = ResultsWriter(keep, dataset.info) if keep else None, map_names(dataset.file_names)
    with torch.inference_mode(), evaluating(model, recipe), suppressing(heads, nms), bar:
        with writer or contextlib.nullcontext():
            batches = eval_loader(
                dataset, model.preprocess, batch_size=recipe.eval.batch_size, workers=recipe.hardware.workers
            )
            for batch in batches:
                pixels = batch.images.contiguous(memory_format=torch.channels_last)
                for prediction in model.predict(dataclasses.replace(batch, images=pixels).to(device)):
                    i = position[prediction.image_id]
                    final = prediction if nms is None or heads else nms.finish(prediction)
                    target, annotations = dataset.annotated_target(i)
                    for scorer in scorers:
                        scorer.update(final, target, annotations)
                    if writer:
                        writer.add(final, names[i])
                    images += 1
                    bar.update()
        scores, per_class = combine(scorers)
    behind = diagnostics(scorers) if keep or diagnose else {}
    if keep:
        store_intervals(keep, scorers, dataset.image_ids, behind)
    return Scores(scores, per_class, images, time.perf_counter() - begun, behind=behind)


def build_scorers(recipe: Recipe, dataset: Dataset, model: Model, *, resample: bool = False) -> list[Scorer]:
    """The metrics of the recipe's task (with mask AP also boundary AP); if every pixel is labelled, those of other
    tasks: a panoptic map is also scored as a label map and as detections, detections with masks also as a panoptic map
    and a label map of things; then those of the model's own fields."""
    info, task, limit = dataset.info, TASKS[recipe.task], recipe.eval.max_detections
    given = {"info": info, "max_detections": limit, "resample": resample}
    as_semantic = partial(task_conversion.as_semantic, ignore=dataset.ignore)
    out = [Scorer([metric_for(recipe.task, info, limit, resample=resample)])]
    if task.objects and task.masks:
        out.append(Scorer([build_metric("boundary", **given)]))
    if task.panoptic:
        out.append(Scorer([build_metric("semantic", **given)], as_semantic))
        if info.num_things and dataset.has_masks:
            as_instances = lambda prediction: task_conversion.as_instances(prediction, info.num_things)
            out.append(Scorer([build_metric("instance", kinds=("segm",), **given)], as_instances))
    if task.objects and task.masks and _meets_other_families(recipe, info):
        both = [build_metric(name, **given) for name in ("panoptic", "semantic")]
        as_maps = lambda prediction: as_semantic(task_conversion.as_panoptic(prediction))
        out.append(Scorer(both, as_maps, ("PQ_things", "mIoU_things")))
    return out + [Scorer([build_metric(name, **given)]) for name in model.metrics]


def _meets_other_families(recipe: Recipe, info: DatasetInfo) -> bool:
    """Whether predictions are also scored as other tasks, against the panoptic labels."""
    labelled = (info.semantic or info.panoptic) and info.num_things < len(info.categories)
    task = TASKS[recipe.task]
    return task.panoptic or (task.objects and task.masks and labelled)


def combine(scorers: list[Scorer]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """(all scores, the primary task's first; the scores of each class)."""
    scores: dict[str, float] = {}
    per_class: dict[str, dict[str, float]] = {}
    for scorer, metric in _each(scorers):
        with blamed(metric):
            own = metric.compute()
        for key, value in own.items():
            if not scorer.counts(key):
                continue
            if key in scores:
                raise UsageError(f"{type(metric).__module__}: another metric has the key {key!r} already")
            scores[key] = value
        if scorer.keys is None and isinstance(metric, PerClass):
            for name, values in metric.per_class().items():
                per_class.setdefault(name, {}).update(values)
    return scores, per_class


def _each(scorers: list[Scorer]) -> list[tuple[Scorer, Metric]]:
    return [(scorer, metric) for scorer in scorers for metric in scorer.metrics]


def diagnostics(scorers: list[Scorer]) -> dict[str, object]:
    """What lies behind the scores of the first metric that tells it; {} where none does."""
    for scorer, metric in _each(scorers):
        if isinstance(metric, Diagnosed) and scorer.keys is None and (behind := metric.diagnostics()):
            return behind
    return {}


def store_intervals(keep: Path, scorers: list[Scorer], image_ids: list[int], behind: Mapping[str, object]) -> None:
    """Store the scores of 1,000 resamples of the images, and what lies behind the scores, beside
    predictions/val.json."""
    times, replicates = bootstrap.draw(len(image_ids)), dict[str, np.ndarray]()
    for scorer, metric in _each(scorers):
        if isinstance(metric, Resampled):
            replicates |= {key: values for key, values in metric.replicates(times).items() if scorer.counts(key)}
    arrays = {key: values.astype(np.float32) for key, values in replicates.items()}

    savez: Callable[..., None] = np.savez  # numpy's own types take any ** for allow_pickle, which numpy 1 lacks

    def save(path: Path) -> None:
        with open(path, "wb") as file:
            savez(file, digest=np.array(bootstrap.digest(image_ids)), **arrays)

    write_atomic(keep.with_name(f"{keep.stem}_bootstrap.npz"), save)
    text = json.dumps({"schema_version": 1, **behind})
    write_atomic(keep.with_name(f"{keep.stem}_diagnostics.json"), lambda p: p.write_text(text, encoding="utf-8"))


@contextlib.contextmanager
def suppressing(heads: list[Suppressing], nms: Suppression | None) -> Iterator[None]:
    """Within the context, a model's heads suppress as `nms` says; None changes nothing."""
    before = [head.nms for head in heads]
    try:
        if nms is not None:
            for head in heads:
                head.nms = nms.overlap
        yield
    finally:
        for head, value in zip(heads, before, strict=True):
            head.nms = value


@contextlib.contextmanager
def evaluating(model: Model, recipe: Recipe) -> Iterator[None]:
    """The model in evaluation mode, uncompiled, with the recipe's limit on detections; all are restored after."""
    was_training, limit = model.training, model.max_detections
    model.eval()
    model.max_detections = recipe.eval.max_detections
    try:
        with uncompiled():
            yield
    finally:
        model.train(was_training)
        model.max_detections = limit


def batch_of(model: Model, pixels: np.ndarray, target: Target | None = None) -> Batch:
    """One image, uint8 RGB, as the model takes it, with its labels where they are given."""
    preprocess = model.preprocess
    tensor = preprocess.image(pixels)
    images, padding = preprocess.pad([tensor])
    size, content = (pixels.shape[0], pixels.shape[1]), (tensor.shape[1], tensor.shape[2])
    targets = None if target is None else [preprocess.target(target)]
    images = images.contiguous(memory_format=torch.channels_last)
    image_id = 0 if target is None else target.image_id
    return Batch(images, padding, [content], [size], [image_id], targets, [0]).to(model.device)


def check_expectations(metrics: Mapping[str, float], expect: Mapping[str, Expect]) -> list[str]:
    """One sentence for each score outside its `expect:` range; [] if there is none."""
    out = []
    for key, expected in expect.items():
        low, high = expected.value - expected.tolerance, expected.value + expected.tolerance
        value = metrics.get(key)
        if value is None:
            out.append(f"{key} was not measured, expected {low:.3f} to {high:.3f}")
        elif not low <= value <= high:
            side = "below" if value < low else "above"
            out.append(f"{key} is {value:.3f}, {side} the expected {low:.3f} to {high:.3f}")
    return out
