"""Why a detector scores nothing, or less than it did: a named cause with its evidence, and what to change.

"AP stays 0" has a handful of causes, and each leaves its trace in the stored predictions (their scores, IoUs and
classes) or in the log (losses, gradients). Nothing here runs a model."""

import dataclasses
import itertools
import shlex
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segcli.core.coco_json import Annotation, Result
from segcli.core.plugins import defaults, find
from segcli.core.recipe.recipe import SCENES, Recipe
from segcli.core.tasks import TASKS
from segcli.data.dataset import Dataset
from segcli.engine.run_folder import RunFolder
from segcli.models.interface import Model
from segcli.predictions.coco_results import read_entries

LOW = 0.05  # a primary score below it is diagnosed
FALLEN = 0.6  # so is one below this share of the best score on the way
UNSURE = 0.1  # below this median (over images) of the best score, the model is taken to predict nothing
FROM_SCENES = 3  # times fewer images are enough for a model that begins with `init: scenes` (docs/little_data.md)
FOUND = 0.3  # boxes are fine where at least this share of objects has a detection of IoU ≥ 0.5

Image = tuple[Sequence[Annotation], Sequence[Result]]  # one image's COCO annotations and results


@dataclasses.dataclass(frozen=True)
class Cause:
    """name: of the cause; evidence: what was measured; advice: what to change. steps: how many are enough."""

    name: str
    evidence: str
    advice: str
    steps: int | None = None

    def stored(self) -> dict[str, str | int]:
        """As metrics.json has it."""
        steps = {} if self.steps is None else {"steps": self.steps}
        return {"cause": self.name, "evidence": self.evidence, "advice": self.advice, **steps}

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}. {self.advice}"


@dataclasses.dataclass(frozen=True)
class Hits:
    """Shares of labelled objects with a detection of IoU ≥ 0.5: of any class, of the right one, of the next or the
    previous class by number. sure: the median over images of the best score. flat: share of detections without area."""

    any: float
    right: float
    shifted: dict[int, float]
    sure: float
    flat: float


def print_causes(
    run: RunFolder, recipe: Recipe, model: Model, dataset: Dataset, metrics: Mapping[str, float], predictions: Path
) -> list[dict[str, str | int]] | None:
    """Where a detector's score is near 0, or far below its best during training, or its training was too short, print
    why on stderr (see `diagnose`).

    -> [{"cause", "evidence", "advice", "steps"}] as metrics.json stores it; [] if there is nothing to say; None if a
    diagnosis is impossible: for label maps, or for a split without objects.
    """
    scored_as_objects = TASKS[recipe.task].objects and not TASKS[recipe.task].fields
    if not scored_as_objects or recipe.primary not in metrics or not predictions.is_file():
        return None  # no score: the split has no object, which says nothing about the model
    images, sources = answers(dataset, predictions), dataset.info.source_ids
    causes = diagnose(recipe, metrics[recipe.primary], run.read_log(), images, sources, model)
    for cause in causes:
        print(f"diagnosis: {cause}{_go_on(run.path, cause)}", file=sys.stderr)
    return [cause.stored() for cause in causes]


def _go_on(run: Path, cause: Cause) -> str:
    """The command that gives a run the steps that it lacks."""
    if cause.steps is None or not (run / "checkpoints").is_dir():
        return ""
    return f"; this run goes on with: segcli train --resume {shlex.quote(str(run))} --set train.steps={cause.steps}"


def answers(dataset: Dataset, predictions: Path) -> Iterator[Image]:
    """Each image's annotations and stored detections, both in COCO's format, read lazily."""
    stored = itertools.groupby(read_entries(predictions), lambda entry: entry["image_id"])
    image_id, found = next(stored, (None, iter(())))
    for i, own in enumerate(dataset.image_ids):  # in the stored order; images without detections have no entry
        results = list(found) if own == image_id else []
        if own == image_id:
            image_id, found = next(stored, (None, iter(())))
        objects = dataset.annotated_target(i)[0].instances
        crowd = torch.zeros(len(objects)) if objects.crowd is None else objects.crowd
        rows = zip(objects.labels.tolist(), objects.boxes.tolist(), crowd.tolist(), strict=True)
        yield (
            [
                {
                    "category_id": dataset.info.source_ids[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "iscrowd": int(is_crowd),
                }
                for label, (x1, y1, x2, y2), is_crowd in rows
            ],
            results,
        )


def class_layers(model: Model) -> list[str]:
    """Name prefixes of the class-dependent parameters that this model has."""
    names = [name for name, _ in model.named_parameters()]
    return [part for part in model.class_layers if any(name.startswith(part) for name in names)]


def diagnose(
    recipe: Recipe,
    value: float,
    log: Sequence[Mapping[str, Any]],
    images: Iterable[Image],
    category_ids: Sequence[int],
    model: Model,
) -> list[Cause]:
    """Causes supported by the evidence, the most certain first. Of a primary score `value` that gives no reason, only
    whether the training was too short; [] if it wasn't.

    log: the entries of log.jsonl; images: of the scored split, read only if the score is low; category_ids: in the
    order of labels; model: the recipe's.
    """
    best = max((e["metrics"].get(recipe.primary, 0.0) for e in log if "metrics" in e), default=0.0)
    short = _too_short(recipe, log, model)
    if value >= LOW and value >= FALLEN * best:
        return short
    hits = measure(images, category_ids)
    found = [*_from_classes(recipe, hits, model), *_from_log(recipe, log, hits, model), *short]
    return found or [
        Cause(
            "unknown",
            f"{recipe.primary} is {value:.3f} (best {best:.3f}), {hits.any:.0%} of the objects have a box on them",
            "Look at the pictures: segcli visualize predictions RUN --worst 8",
        )
    ]


def measure(images: Iterable[Image], category_ids: Sequence[int]) -> Hits:
    """Match detections with the annotated objects (crowds left out) by box IoU, one image at a time."""
    place = {category: i for i, category in enumerate(category_ids)}
    counts: dict[Any, int] = defaultdict(int)
    total, bests, flat, found = 0, [], 0, 0
    for annotations, results in images:
        flat, found = flat + sum(min(r["bbox"][2:]) <= 1 for r in results), found + len(results)
        if annotations:
            bests.append(max((r["score"] for r in results), default=0.0))
        boxes = np.array([r["bbox"] for r in results], float).reshape(-1, 4)
        for annotation in annotations:
            if annotation.get("iscrowd"):
                continue
            total += 1
            overlap = _iou(boxes, np.array(annotation["bbox"], float))
            label = place[annotation["category_id"]]
            steps = {place[r["category_id"]] - label for r, o in zip(results, overlap, strict=True) if o >= 0.5}
            counts["any"] += bool(steps)
            for step in steps & {-1, 0, 1}:
                counts[step] += 1
    share = lambda key: counts[key] / max(total, 1)
    shifted = {step: share(step) for step in (-1, 1)}
    return Hits(share("any"), share(0), shifted, statistics.median(bests) if bests else 0.0, flat / max(found, 1))


def _from_classes(recipe: Recipe, hits: Hits, model: Model) -> list[Cause]:
    step, shifted = max(hits.shifted.items(), key=lambda item: item[1])
    if hits.any >= FOUND and shifted >= FOUND and hits.right < shifted / 3:
        return [
            Cause(
                "ids shifted",
                f"{shifted:.0%} of the objects are found as the class {'after' if step > 0 else 'before'} their own, "
                f"{hits.right:.0%} as their own",
                "Labels or weights begin to count classes elsewhere: compare info.json with where they come from",
            )
        ]
    if hits.any >= FOUND and hits.right < hits.any / 4:
        if recipe.init not in (None, SCENES):
            scales = ", ".join(f"{name.rstrip('.')}: 10" for name in class_layers(model))
            return [
                Cause(
                    "class head not reset",
                    f"{hits.any:.0%} of the objects have a box on them, {hits.right:.0%} with the right class, and the "
                    f"weights come from {recipe.init}",
                    f"Give the class layers a higher rate (train.optimizer.lr_scales: {{{scales}}}) and more "
                    f"steps ({longer(recipe)})",
                )
            ]
        return [
            Cause(
                "classes not learned",
                f"{hits.any:.0%} of the objects have a box on them, {hits.right:.0%} with the right class",
                f"Train longer ({longer(recipe)}); check with segcli visualize data that the labels are right",
            )
        ]
    if hits.sure < UNSURE:
        return [
            Cause(
                "no-object collapse",
                f"in half of the images no detection is surer than {hits.sure:.3f}",
                f"The model says 'nothing' everywhere. {_against_silence(recipe, model)}",
            )
        ]
    return []


def _against_silence(recipe: Recipe, model: Model) -> str:
    """Advice for a model without detections: settings of this model that the recipe has not set yet."""
    given, choices = recipe.model, [f"Train longer ({longer(recipe)})"]
    own = _settings(recipe)
    if model.lite:
        choices.append(f"set model.name: {model.lite} and its options (docs/little_data.md)")
    boxes, loss = given.get("boxes") or {}, given.get("loss") or {}
    if unset := [f"model.boxes.{k}" for k in ("selection", "denoising") if f"boxes.{k}" in own and not boxes.get(k)]:
        choices.append(f"set {' and '.join(unset)} (docs/little_data.md)")
    if "loss.no_object" in own:
        choices.append(f"lower model.loss.no_object ({loss.get('no_object', own['loss.no_object']):g})")
    if recipe.init is None and "backbone" in own and not (given.get("backbone") or {}).get("weights"):
        choices.append("begin from pretrained weights (model.backbone.weights: imagenet)")
    return ", or ".join(choices)


def _settings(recipe: Recipe) -> dict[str, object]:
    """The keys of the recipe's `model` section and their defaults."""
    return defaults(find("model", recipe.model["name"], "model.name").build)


def longer(recipe: Recipe, steps: int | None = None) -> str:
    """Advice to train longer, with the recipe's own key; `steps`: the number of steps to set instead of the present."""
    length = next(key for key in ("minutes", "epochs", "steps") if getattr(recipe.train, key) is not None)
    if steps is None:
        return f"train.{length}"
    return f"train.steps: {steps}" + ("" if length == "steps" else f", train.{length}: null")


def _from_log(recipe: Recipe, log: Sequence[Mapping[str, Any]], hits: Hits, model: Model) -> list[Cause]:
    steps = [e for e in log if "loss" in e]
    if len(steps) < 8:
        return []
    quarter = len(steps) // 4
    mean = lambda entries, key: statistics.fmean(e.get(key, 0.0) for e in entries)
    first, last = mean(steps[: max(quarter // 2, 1)], "loss"), mean(steps[-quarter:], "loss")
    norms = [mean(steps[i * quarter : (i + 1) * quarter], "gradient_norm") for i in range(4)]
    rate = recipe.train.optimizer.lr
    if hits.flat > 0.5 or norms[3] > 20 * max(min(norms), 1e-9):
        return [
            Cause(
                "exploding gradients" if model.queries is None else "exploding matching cost",
                f"gradient norms grew from {min(norms):.3g} to {norms[3]:.3g}, {hits.flat:.0%} of the boxes are flat",
                f"Lower train.optimizer.lr ({rate:g}) to {rate / 4:g}, set train.clip, and check the labels' boxes "
                "(segcli prepare --check)",
            )
        ]
    if last > 1.05 * first:
        return [
            Cause(
                "learning rate too high",
                f"the loss rose from {first:.3g} to {last:.3g}",
                f"Lower train.optimizer.lr ({rate:g}) to {rate / 4:g} and give it a warm-up "
                "(train.schedule.warmup_steps)",
            )
        ]
    if last > 0.93 * first:
        return [
            Cause(
                "learning rate too low",
                f"the loss only went from {first:.3g} to {last:.3g}",
                f"Raise train.optimizer.lr ({rate:g}) to {rate * 4:g}, and train.optimizer.backbone_lr with it",
            )
        ]
    return []


def _too_short(recipe: Recipe, log: Sequence[Mapping[str, Any]], model: Model) -> list[Cause]:
    batch = recipe.train.batch_size
    done = max((e["step"] for e in log), default=0)
    images = (model.images_needed or 0) // (1 if recipe.init is None else FROM_SCENES)
    needed = -(-images // batch)
    if recipe.init not in (None, SCENES) or done >= needed:
        return []
    more = f" or model.name: {model.lite}, which needs a fraction (docs/little_data.md)" if model.lite else ""
    return [
        Cause(
            "too few steps",
            f"{done} steps of {batch} images are done, and {recipe.model['name']} needs about {needed}",
            f"Set {longer(recipe, needed)}{more}",
            needed,
        )
    ]


def _iou(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """IoU [n] of xywh boxes [n,4] with one."""
    low = np.maximum(boxes[:, :2], box[:2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], box[:2] + box[2:])
    both = np.clip(high - low, 0, None).prod(1)
    return both / np.maximum(boxes[:, 2:].prod(1) + box[2:].prod() - both, 1e-9)
