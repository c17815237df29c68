"""`segcli train`: from a recipe to a scored run folder, in one visible loop."""

import dataclasses
import json
import math
import os
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from segcli import cost
from segcli.checkpoint import load_state, save_state, save_weights
from segcli.data.dataset import Dataset
from segcli.data.loader import train_loader
from segcli.data.transforms import build_augment
from segcli.errors import ModelError, SegcliError, UsageError
from segcli.evaluation import check_expectations, score_model
from segcli.info import DatasetInfo
from segcli.optim import MovingAverage, build_optimizer, clip_gradients, rate_factor
from segcli.preparing import prepare_for
from segcli.recipe import Recipe
from segcli.run import RunFolder, choose_device, describe_environment, start
from segcli.types import Batch

CALIBRATION = (4, 16)  # steps run before timing, and up to this one


@dataclasses.dataclass
class Progress:
    """What a resumed run needs beside tensors."""

    step: int = 0
    best: float = -1.0
    seconds: float = 0.0  # of training alone
    images: int = 0


def train(
    recipe: Recipe,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Path:
    """Train, score and record one run. -> its folder.

    Prepares the dataset where the recipe names a known one that is not there. `resume` continues that run folder with
    its own recipe, bitwise on a CPU. Raises UsageError, DataError or ModelError before any work; KeyboardInterrupt after
    saving, when interrupted; SegcliError on a non-finite loss.
    """
    if resume is not None:
        run = RunFolder(resume)
        recipe = run.recipe()
    if recipe.hardware.devices * recipe.hardware.nodes > 1:
        raise UsageError("hardware.devices and hardware.nodes above 1 are not supported by this version")
    prepare_for(recipe)
    if recipe.hardware.threads is not None:
        torch.set_num_threads(recipe.hardware.threads)
    device = choose_device(recipe.hardware.device)
    model, used = start(recipe, DatasetInfo.load(recipe.data.root))
    train_set, val_set = open_datasets(recipe, model.fields)
    if resume is None:
        if recipe.train.minutes is not None:
            recipe = calibrate(recipe, train_set, device, quiet)
        run = RunFolder.create(recipe.name, Path(out) if out else None, force)
        run.write_recipe(recipe)
        run.write_environment(describe_environment(recipe, train_set.info, used))
    model = model.to(device)
    total = total_steps(recipe, len(train_set))
    optimizer = build_optimizer(model, recipe.train.optimizer)
    average = MovingAverage(model, recipe.train.ema) if recipe.train.ema else None
    progress = Progress()
    if resume is not None:
        progress = restore(run, model, optimizer, average)
        if progress.step >= total and (run.path / "metrics.json").is_file():
            return run.path
    loop(run, recipe, model, optimizer, average, progress, train_set, val_set, total, device, quiet)
    return run.path


def loop(
    run: RunFolder,
    recipe: Recipe,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: MovingAverage | None,
    progress: Progress,
    train_set: Dataset,
    val_set: Dataset,
    total: int,
    device: torch.device,
    quiet: bool,
) -> None:
    """Train from `progress.step` to `total`, evaluating, logging and saving on the way; then score and cost the end."""
    settings = recipe.train
    trainable = [p for p in model.parameters() if p.requires_grad]
    score_at = {round(total * (i + 1) / settings.evaluations) for i in range(settings.evaluations)} | {total}
    batches = make_loader(recipe, model, train_set, progress.step)
    bar = tqdm(total=total, initial=progress.step, unit="step", disable=quiet, file=sys.stderr, dynamic_ncols=True)
    last_save, scores, parts = time.monotonic(), None, 1
    autocast = torch.autocast(device.type, *precision(recipe, device))
    model.train()
    with Interrupt() as interrupt, bar:
        while progress.step < total:
            begun = time.perf_counter()
            batch = next(batches)
            factor = rate_factor(settings.schedule, progress.step, total)
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * factor
            losses: dict[str, float] = {}
            parts = min(settings.accumulate, len(batch.images))
            for piece in split(batch, parts):
                with autocast:
                    values = model(layout(piece.to(device)))
                    loss = torch.stack(list(values.values())).sum() / parts
                for name, value in values.items():
                    losses[name] = losses.get(name, 0.0) + value.item() / parts
                if not math.isfinite(sum(losses.values())):
                    stop_not_finite(run, model, optimizer, average, progress, losses, piece)
                loss.backward()
            norm = clip_gradients(trainable, settings.clip).item()
            if not math.isfinite(norm):
                stop_not_finite(run, model, optimizer, average, progress, {**losses, "gradient norm": norm}, batch)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            progress.step += 1
            if average is not None:
                average.update(model, progress.step)
            progress.images += len(batch.images)
            progress.seconds += time.perf_counter() - begun
            bar.update()
            if progress.step % settings.log_every == 0 or progress.step == total:
                entry = log_entry(progress, optimizer, losses, norm, train_set, settings.batch_size)
                run.log(entry)
                bar.set_postfix(loss=f"{entry['loss']:.3f}", lr=f"{entry['lr']:.1e}", refresh=False)
            if progress.step in score_at:
                scores = evaluate_now(run, recipe, model, average, progress, val_set, device, quiet or bar.disable)
                model.train()
            if (
                progress.step in score_at
                or interrupt.asked
                or time.monotonic() - last_save > 60 * settings.save_minutes
            ):
                save(run, model, optimizer, average, progress)
                last_save = time.monotonic()
            if interrupt.asked and progress.step < total:
                print(f"\nsaved at step {progress.step}; go on with: segcli train --resume {run.path}", file=sys.stderr)
                raise KeyboardInterrupt
    finish(run, recipe, model, average, progress, val_set, scores, device, quiet)


def evaluate_now(
    run: RunFolder,
    recipe: Recipe,
    model: nn.Module,
    average: MovingAverage | None,
    progress: Progress,
    val_set: Dataset,
    device: torch.device,
    quiet: bool,
) -> Any:
    """Score the averaged (else the current) weights on the val split; keep them as best where they are."""
    own = {k: v.clone() for k, v in model.state_dict().items()} if average is not None else None
    if average is not None:
        model.load_state_dict(average.state)
    final = progress.step >= total_steps(recipe, 0) if recipe.train.steps else False
    keep = run.path / "predictions" / f"{recipe.eval.split}.json" if final else None
    scores = score_model(model, val_set, recipe, device=device, progress=not quiet, keep=keep)
    value = scores.metrics.get(recipe.primary, 0.0)
    if value > progress.best:
        progress.best = value
        metadata = {"step": str(progress.step), recipe.primary: f"{value:.4f}", "recipe": recipe.name}
        save_weights(run.best, model.state_dict(), metadata)
    if own is not None:
        model.load_state_dict(own)
    run.log({"step": progress.step, "metrics": scores.metrics, "seconds": round(progress.seconds, 2)})
    if not quiet:
        tqdm.write(f"step {progress.step}: {recipe.primary} {100 * value:.1f}", file=sys.stderr)
    return scores


def finish(
    run: RunFolder,
    recipe: Recipe,
    model: nn.Module,
    average: MovingAverage | None,
    progress: Progress,
    val_set: Dataset,
    scores: Any,
    device: torch.device,
    quiet: bool,
) -> None:
    """Write metrics.json and cost.json for the last weights (averaged where the recipe averages)."""
    if average is not None:
        model.load_state_dict(average.state)
    if scores is None:  # resumed after the last evaluation was cut off
        keep = run.path / "predictions" / f"{recipe.eval.split}.json"
        scores = score_model(model, val_set, recipe, device=device, progress=not quiet, keep=keep)
    run.write_metrics(
        {
            "task": recipe.task,
            "primary": recipe.primary,
            "metrics": scores.metrics,
            "per_class": scores.per_class,
            "images": scores.images,
            "seconds": round(scores.seconds, 2),
            "split": recipe.eval.split,
            "weights": "last",
        }
    )
    size = model.preprocess.canvas([model.preprocess.output_size(*s) for s in val_set.sizes[:1]])
    measured = cost.measure(model.eval(), size, device=device)
    run.write_cost({**measured, "train_seconds": round(progress.seconds, 1), "images_seen": progress.images})
    for line in check_expectations(scores.metrics, recipe.expect):
        print(f"note: {line}", file=sys.stderr)


def open_datasets(recipe: Recipe, fields: dict[str, Any]) -> tuple[Dataset, Dataset]:
    """The train split and the split that the recipe evaluates on."""
    names = str(recipe.resolve(recipe.data.split_file)) if recipe.data.split_file else None
    train_set = Dataset(recipe.data.root, "train", split_file=names, task=recipe.task, fields=fields)
    val_set = Dataset(recipe.data.root, recipe.eval.split, split_file=names, task=recipe.task, fields=fields)
    return train_set, val_set


def make_loader(recipe: Recipe, model: Any, train_set: Dataset, first_step: int) -> Iterator[Batch]:
    """Endless batches from `first_step` on."""
    preprocess = model.preprocess
    canvas = preprocess.canvas([]) if preprocess.square else None
    if canvas is None and preprocess.shortest is None:
        canvas = (preprocess.longest, preprocess.longest)
    augment = build_augment(recipe.data.augment, canvas=canvas, info=train_set.info)
    return train_loader(
        train_set,
        preprocess,
        augment,
        batch_size=recipe.train.batch_size,
        seed=recipe.train.seed,
        start_step=first_step,
        workers=recipe.hardware.workers,
    )


def total_steps(recipe: Recipe, images: int) -> int:
    settings = recipe.train
    if settings.steps is not None:
        return settings.steps
    assert settings.epochs is not None, "minutes are calibrated to steps before"
    return max(1, round(settings.epochs * steps_per_epoch_of(images, settings.batch_size)))


def steps_per_epoch_of(images: int, batch_size: int) -> int:
    return max(1, images // batch_size)


def calibrate(recipe: Recipe, train_set: Dataset, device: torch.device, quiet: bool) -> Recipe:
    """The recipe with `minutes` replaced by the steps that fit them here: the median of a few real steps decides.

    Runs on a model of its own, so that the training itself starts untouched.
    """
    assert recipe.train.minutes is not None
    model, _ = start(recipe, train_set.info)
    model = model.to(device).train()
    optimizer = build_optimizer(model, recipe.train.optimizer)
    average = MovingAverage(model, recipe.train.ema) if recipe.train.ema else None
    trainable = [p for p in model.parameters() if p.requires_grad]
    first, last = CALIBRATION
    batches = make_loader(recipe, model, train_set, 0)
    times = []
    for step in tqdm(range(last), desc="timing steps", disable=quiet, file=sys.stderr, leave=False):
        begun = time.perf_counter()
        values = model(layout(next(batches).to(device)))
        torch.stack(list(values.values())).sum().backward()
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * 1e-3
        clip_gradients(trainable, recipe.train.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if average is not None:
            average.update(model, step + 1)
        if step >= first:
            times.append(time.perf_counter() - begun)
    del batches
    step_seconds = statistics.median(times)
    steps = max(1, round(60 * recipe.train.minutes / step_seconds))
    if not quiet:
        print(f"{recipe.train.minutes:g} minutes are {steps} steps of {step_seconds:.2f} s here", file=sys.stderr)
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"minutes": None, "steps": steps})})


def split(batch: Batch, parts: int) -> list[Batch]:
    """Equal slices of a batch along the images, for gradient accumulation."""
    if parts == 1:
        return [batch]
    size = -(-len(batch.images) // parts)
    out = []
    for at in range(0, len(batch.images), size):
        cut = slice(at, at + size)
        pick = lambda v, c=cut: None if v is None else v[c]
        out.append(
            Batch(
                *(pick(getattr(batch, f.name)) for f in dataclasses.fields(Batch)),  # type: ignore[arg-type]
            )
        )
    return out


def layout(batch: Batch) -> Batch:
    return dataclasses.replace(batch, images=batch.images.contiguous(memory_format=torch.channels_last))


def precision(recipe: Recipe, device: torch.device) -> tuple[torch.dtype | None, bool]:
    """Autocast's dtype and whether it is on: `auto` is bfloat16 on GPUs that have it, float32 elsewhere."""
    name = recipe.hardware.precision
    if name == "auto":
        name = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if name == "fp16":
        raise UsageError("hardware.precision: fp16 is not supported", hint="bf16 needs no loss scaling")
    return (torch.bfloat16, True) if name == "bf16" else (torch.bfloat16, False)


def log_entry(
    progress: Progress,
    optimizer: torch.optim.Optimizer,
    losses: dict[str, float],
    norm: float,
    train_set: Dataset,
    batch_size: int,
) -> dict[str, Any]:
    epoch = progress.step / steps_per_epoch_of(len(train_set), batch_size)
    rate = max(group["lr"] for group in optimizer.param_groups)
    return {
        "step": progress.step,
        "epoch": round(epoch, 3),
        "lr": rate,
        "loss": sum(losses.values()),
        **losses,
        "gradient_norm": norm,
        "seconds": round(progress.seconds, 2),
    }


def save(
    run: RunFolder,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: MovingAverage | None,
    progress: Progress,
) -> None:
    state = {
        "model": model.state_dict(),
        "ema": average.state if average else None,
        "optimizer": optimizer.state_dict(),
        "progress": dataclasses.asdict(progress),
        "rng": torch.get_rng_state(),
    }
    save_state(run.last, state)


def restore(
    run: RunFolder, model: nn.Module, optimizer: torch.optim.Optimizer, average: MovingAverage | None
) -> Progress:
    """Put a saved state back, and drop what was logged after it."""
    state = load_state(run.last)
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if average is not None:
            average.state = state["ema"]
        progress = Progress(**state["progress"])
        torch.set_rng_state(state["rng"])
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise ModelError(f"{run.last}: does not fit the run's recipe: {str(error).splitlines()[0]}") from error
    run.truncate_log(progress.step)
    return progress


def stop_not_finite(
    run: RunFolder,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: MovingAverage | None,
    progress: Progress,
    losses: dict[str, float],
    batch: Batch,
) -> None:
    """Save the state before the bad step and say which step, images and term it was."""
    save(run, model, optimizer, average, progress)
    bad = [k for k, v in losses.items() if not math.isfinite(v)]
    ids = ", ".join(str(i) for i in batch.image_ids)
    raise SegcliError(
        f"step {progress.step + 1}: {', '.join(bad)} is not finite on image ids {ids}; state before it saved in {run.last}",
        hint="look at these images with segcli prepare --check, or lower train.optimizer.lr or set train.clip",
    )


class Interrupt:
    """Turns the first Ctrl-C or SIGTERM into a request that the loop honours after its step; the second kills."""

    def __init__(self) -> None:
        self.asked = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._old[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread (a notebook server): the caller's own handling stays
                return self
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            os._exit(130)
        self.asked = True
        print("\nstopping after this step …", file=sys.stderr)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


def dry_run(recipe: Recipe) -> dict[str, Any]:
    """Resolve the recipe, build the model, run one batch. -> parameters, FLOPs, memory and expected time, as numbers."""
    prepare_for(recipe)
    device = choose_device(recipe.hardware.device)
    model, used = start(recipe, DatasetInfo.load(recipe.data.root))
    train_set, _ = open_datasets(recipe, model.fields)
    model = model.to(device).train()
    batches = make_loader(recipe, model, train_set, 0)
    times, losses = [], {}
    for _ in range(3):
        batch = next(batches)
        begun = time.perf_counter()
        values: dict[str, Tensor] = model(layout(batch.to(device)))
        torch.stack(list(values.values())).sum().backward()
        times.append(time.perf_counter() - begun)
        losses = {k: v.item() for k, v in values.items()}
    seconds = min(times)
    steps = None if recipe.train.minutes else total_steps(recipe, len(train_set))
    size = model.preprocess.canvas([model.preprocess.output_size(*s) for s in train_set.sizes[:1]])
    measured = cost.measure(model.eval(), size, device=device, repeats=3)
    return {
        "schema_version": 1,
        "recipe": json.loads(recipe.model_dump_json()),
        "train_images": len(train_set),
        "weights": used,
        "losses": losses,
        "step_seconds": seconds,
        "steps": steps if steps is not None else round(60 * (recipe.train.minutes or 0) / seconds),
        "minutes": recipe.train.minutes if steps is None else steps * seconds / 60,
        "cost": measured,
    }
