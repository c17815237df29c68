"""Forecast what a training needs (time, peak memory, disk) and whether this machine has it.

First an estimate without data: the state of optimiser and moving average, the activations saved for the backward pass
(counted on the meta device), and the time of three forward passes a step. If that fits the machine and the data is
there, a few real steps and evaluated images replace the estimate.
"""

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from segcli.core.recipe.recipe import Recipe
from segcli.data.cache import LIMIT
from segcli.data.dataset import Dataset
from segcli.engine import machine
from segcli.engine.capacity import kept_activations
from segcli.engine.evaluation import score_model
from segcli.engine.training import total_steps, trial_steps
from segcli.models.interface import Model

PROCESS = 450e6  # bytes that Python and torch take before any model
WORKER = 60e6  # bytes of a loader process's own, without images
MARGIN = 1.2  # factor on activations: workspaces of convolutions, gradients of activations
WARM, STEPS, SECONDS, IMAGES = 3, 12, 30.0, 8  # warm-up steps, most steps, seconds for them, images evaluated
FORWARDS = 3.0  # forward passes that one training step takes: the backward pass costs about two


@dataclasses.dataclass
class Sizes:
    """Bytes of a training's tensors: weights with buffers, those that are trained, the optimiser's moments, the moving
    average."""

    weights: int
    trainable: int
    moments: int
    average: int

    @classmethod
    def of(cls, recipe: Recipe, model: Model) -> "Sizes":
        weights = sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])
        trainable = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
        moments = (2 if recipe.train.optimizer.name == "adamw" else 1) * trainable
        return cls(weights, trainable, moments, weights if recipe.train.ema else 0)

    @property
    def checkpoint(self) -> int:
        return self.weights + self.moments + self.average


@dataclasses.dataclass
class Needs:
    """memory: bytes at the peak; step_seconds, image_seconds: of a training step, of scoring one image; stored: bytes
    of predictions for each image; losses: of the first step; measured: whether steps were run here; failure: why not,
    where it was tried."""

    memory: float
    step_seconds: float
    image_seconds: float
    stored: float = 0.0
    losses: dict[str, float] = dataclasses.field(default_factory=dict)
    measured: bool = False
    failure: str | None = None


def forecast(
    recipe: Recipe, model: Model, measured: dict[str, Any], data: tuple[Dataset, Dataset] | None
) -> tuple[dict[str, Any], dict[str, float]]:
    """The cost of training `model`; `measured`: its inference cost. -> the forecast, and the first step's losses.

    {"steps", "step_seconds", "train_minutes", "evaluation_minutes", "total_minutes", "peak_memory_mb", "disk_mb" (that
    stays), "disk_peak_mb" (while a checkpoint is replaced), "free_memory_mb", "free_disk_mb", "device", "measured":
    whether steps were run here, "possible": bool or null, "reasons": [sentences]}. Unknown values are null: for example
    the steps of an epoch without `data` (train, val). Trains `model` for some steps, so its weights change.
    """
    device = next(model.parameters()).device
    sizes, free = Sizes.of(recipe, model), machine.free_memory(device)
    needs = _estimated(recipe, model, measured, sizes, data)
    if data is not None and (free is None or needs.memory / 1e6 < free):
        needs = _tried(recipe, model, data, needs)
    steps, train_minutes = _length(recipe, needs.step_seconds, data)
    rounds = max(1, recipe.train.evaluations)
    evaluation = None if data is None else rounds * len(data[1]) * needs.image_seconds / 60
    several = rounds > 1 or (train_minutes is not None and train_minutes > recipe.train.save_minutes)
    checkpoints = (1 + several) * sizes.checkpoint  # previous.pt stays beside last.pt
    kept = checkpoints + sizes.weights + needs.stored * (len(data[1]) if data is not None else 0)
    report = {
        "steps": steps,
        "step_seconds": needs.step_seconds,
        "train_minutes": train_minutes,
        "evaluation_minutes": evaluation,
        "total_minutes": None if train_minutes is None or evaluation is None else train_minutes + evaluation,
        "peak_memory_mb": round(needs.memory / 1e6),
        "disk_mb": round(kept / 1e6),
        "disk_peak_mb": round((kept + sizes.checkpoint) / 1e6),
        "free_memory_mb": None if free is None else round(free),
        "free_disk_mb": round(machine.free_disk(Path("runs"))),
        "device": str(device),
        "measured": needs.measured,
    }
    reasons = [*([needs.failure] if needs.failure else []), *_reasons(report)]
    possible = None if free is None and not reasons else not reasons
    return {**report, "possible": possible, "reasons": reasons}, needs.losses


def _estimated(
    recipe: Recipe, model: Model, measured: dict[str, Any], sizes: Sizes, data: tuple[Dataset, Dataset] | None
) -> Needs:
    """From the sizes of tensors and the latency of one image."""
    height, width = measured["gflops_input"]
    images = recipe.train.batch_size // recipe.train.accumulate
    memory = sizes.checkpoint + sizes.trainable + MARGIN * images * kept_activations(model, (height, width))
    if next(model.parameters()).device.type != "cuda":
        memory += PROCESS + recipe.hardware.workers * WORKER + cached(data[0] if data else None)
    latency = measured["latency_ms"]["median"] / 1e3
    return Needs(memory, FORWARDS * recipe.train.batch_size * latency, latency)


def _tried(recipe: Recipe, model: Model, data: tuple[Dataset, Dataset], estimated: Needs) -> Needs:
    """From a few real steps and images; the estimate, with the failure, where memory runs out."""
    device = next(model.parameters()).device
    machine.reset_peak_resident()
    step_seconds = estimated.step_seconds
    try:
        step_seconds, losses, loaders = _run_steps(recipe, model, data[0], device)
        image_seconds, stored = _run_evaluation(recipe, model, data[1], device)
    except (RuntimeError, MemoryError) as error:  # the estimate was too low
        if not machine.out_of_memory(error):
            raise
        failure = f"memory ran out when it was tried: {str(error).splitlines()[0][:200]}"
        return dataclasses.replace(estimated, step_seconds=step_seconds, failure=failure)
    memory = estimated.memory
    if device.type == "cuda":
        memory = float(torch.cuda.max_memory_reserved(device))
    elif (peak := machine.peak_resident()) is not None:
        memory = peak + loaders + cached(data[0])
    return Needs(memory, step_seconds, image_seconds, stored, losses, measured=True)


def _length(
    recipe: Recipe, step_seconds: float, data: tuple[Dataset, Dataset] | None
) -> tuple[int | None, float | None]:
    """Steps and minutes of the training; None where they depend on data that is not there."""
    minutes = recipe.train.minutes
    if minutes is not None:
        return max(1, round(60 * minutes / step_seconds)), minutes
    steps = recipe.train.steps if data is None else total_steps(recipe, data[0])
    return steps, None if steps is None else steps * step_seconds / 60


def cached(dataset: Dataset | None) -> float:
    """Bytes of decoded images that training caches: all of them, up to the cache's limit."""
    return 0.0 if dataset is None else float(min(LIMIT, sum(3 * h * w for h, w in dataset.sizes)))


def _run_steps(
    recipe: Recipe, model: Model, train_set: Dataset, device: torch.device
) -> tuple[float, dict[str, float], float]:
    """Real steps on `model`. -> median seconds, the first step's losses, the bytes of the loader processes."""
    times: list[float] = []
    losses: dict[str, float] = {}
    loaders, begun = 0.0, time.perf_counter()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for seconds, values in trial_steps(recipe, model, train_set, device):
        times.append(seconds)
        losses = losses or values
        loaders = max(loaders, machine.children_memory())
        if len(times) >= STEPS or (len(times) > WARM and time.perf_counter() - begun > SECONDS):
            break
    return statistics.median(times[WARM:] or times), losses, loaders


def _run_evaluation(recipe: Recipe, model: Model, val_set: Dataset, device: torch.device) -> tuple[float, float]:
    """Score a few images. -> seconds and stored bytes, an image."""
    few = val_set.first(IMAGES)
    few_recipe = recipe.model_copy(update={"hardware": recipe.hardware.model_copy(update={"workers": 0})})
    with tempfile.TemporaryDirectory() as folder:
        scores = score_model(model, few, few_recipe, device=device, progress=False, keep=Path(folder) / "val.json")
        stored = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    return scores.seconds / len(few), stored / len(few)


def _reasons(report: dict[str, Any]) -> list[str]:
    """Reasons why this machine can't run the training; [] if there is none."""
    out = []
    for what, need, free in (
        ("memory", report["peak_memory_mb"], report["free_memory_mb"]),
        ("disk", report["disk_peak_mb"], report["free_disk_mb"]),
    ):
        if free is not None and need >= free:
            out.append(f"it needs {need:,} MB of {what}, and {free:,} MB are free")
    return out
