"""`segcli train`: from a recipe to a scored run folder, in one visible loop."""

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from segcli import cost
from segcli.checkpoint import save_weights
from segcli.data.dataset import Dataset
from segcli.data.loader import steps_per_epoch, train_loader
from segcli.data.transforms import build_augment
from segcli.errors import DataError, UsageError
from segcli.evaluation import Scores, check_expectations, print_causes, score_model
from segcli.info import DatasetInfo
from segcli.optim import MovingAverage, build_optimizer, clip_gradients, rate_factor
from segcli.preparing import prepare_for
from segcli.recipe import Recipe
from segcli.run import RunFolder, choose_device, describe_environment, start
from segcli.session import Interrupt, Session
from segcli.types import Batch

CALIBRATION = (4, 16)  # steps run before timing, and up to this one


def train(
    recipe: Recipe | None,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Path:
    """Train, score and record one run. -> its folder.

    Prepares the dataset where the recipe names a known one that is not there. `resume` continues that run folder with
    its own recipe (`recipe` may be None then), bitwise on a CPU. Raises UsageError, DataError or ModelError before any
    work; KeyboardInterrupt after saving, when interrupted; SegcliError on a non-finite loss.
    """
    if resume is not None:
        recipe = RunFolder(resume).recipe()
    if recipe is None:
        raise UsageError("nothing to train: give a recipe, or a run to resume")
    if recipe.hardware.devices * recipe.hardware.nodes > 1:
        raise UsageError("hardware.devices and hardware.nodes above 1 are not supported by this version")
    prepare_for(recipe)
    if recipe.hardware.threads is not None:
        torch.set_num_threads(recipe.hardware.threads)
    device = choose_device(recipe.hardware.device)
    model, used = start(recipe, DatasetInfo.load(recipe.data.root), load=resume is None)
    train_set, val_set = open_datasets(recipe, model.fields)
    if resume is None:
        if recipe.train.minutes is not None:
            recipe = calibrate(recipe, train_set, device, quiet)
        run = RunFolder.create(recipe.name, Path(out) if out else None, force)
        run.write_recipe(recipe)
        run.write_environment(describe_environment(recipe, train_set.info, used))
    else:
        run = RunFolder(resume)
    session = Session(run, recipe, model.to(device), total_steps(recipe, train_set), device)
    if resume is not None:
        session.restore()
        trained = session.progress.step >= session.total
        if trained and (run.path / "cost.json").is_file():  # what `finish` writes last
            print(f"{run.path} is finished already", file=sys.stderr)
            return run.path
        run.rewind(session.progress.step, scored=not trained)  # the last scores come after the last checkpoint
    loop(session, train_set, val_set, quiet)
    return run.path


def loop(session: Session, train_set: Dataset, val_set: Dataset, quiet: bool) -> None:
    """Train from where the session stands to its end; score, log and save on the way; then record the final numbers."""
    run, model, progress, total = session.run, session.model, session.progress, session.total
    settings = session.recipe.train
    score_at = {round(total * (i + 1) / settings.evaluations) for i in range(settings.evaluations)}
    batches = make_loader(session.recipe, model, train_set, progress.step)
    bar = tqdm(total=total, initial=progress.step, unit="step", disable=quiet, file=sys.stderr, dynamic_ncols=True)
    autocast = torch.autocast(session.device.type, torch.bfloat16, enabled=bfloat16(session.recipe, session.device))
    last_save, scores = time.monotonic(), None
    model.train()
    with Interrupt() as interrupt, bar:
        while progress.step < total:
            begun = time.perf_counter()
            batch = next_batch(batches, session)
            factor = rate_factor(settings.schedule, progress.step, total)
            for group in session.optimizer.param_groups:
                group["lr"] = group["base"] * factor
            numbers: dict[str, float] = {}
            pieces = split(batch, settings.accumulate)
            shared = shared_normalisers(model, pieces)
            for piece in pieces:
                with autocast:
                    losses = model(layout(piece.to(session.device)), *shared)
                for name, value in losses.items():
                    numbers[name] = numbers.get(name, 0.0) + value.item() / len(pieces)
                session.refuse_not_finite(numbers, piece)
                (torch.stack(list(losses.values())).sum() / len(pieces)).backward()
            norm = clip_gradients(session.trainable, settings.clip).item()
            session.refuse_not_finite({"gradient norm": norm}, batch)
            session.optimizer.step()
            session.optimizer.zero_grad(set_to_none=True)
            progress.step += 1
            progress.images += len(batch.images)
            if session.average is not None:
                session.average.update(model, progress.step)
            progress.seconds += time.perf_counter() - begun
            bar.update()
            if progress.step % settings.log_every == 0 or progress.step == total:
                entry = log_entry(session, numbers, norm, steps_per_epoch(train_set, settings.batch_size))
                run.log(entry)
                bar.set_postfix(loss=f"{entry['loss']:.3f}", lr=f"{entry['lr']:.1e}", refresh=False)
            if progress.step in score_at and progress.step < total:
                score_now(session, val_set, quiet)
            due = time.monotonic() - last_save > 60 * settings.save_minutes
            if progress.step in score_at or progress.step == total or interrupt.asked or due:
                session.save()
                last_save = time.monotonic()
            if interrupt.asked and progress.step < total:
                print(f"\nsaved at step {progress.step}; go on with: segcli train --resume {run.path}", file=sys.stderr)
                raise KeyboardInterrupt
    scores = score_now(session, val_set, quiet)
    finish(session, scores, val_set)


def next_batch(batches: Iterator[Batch], session: Session) -> Batch:
    """The next batch; where an image can't be read, what was learned so far is saved before the error goes on."""
    try:
        return next(batches)
    except DataError:
        if session.progress.step:
            session.save()
        raise


def score_now(session: Session, val_set: Dataset, quiet: bool) -> Scores:
    """Score the averaged (else the current) weights on the val split; keep them as best where they are.

    The last scoring of a run also stores the predictions.
    """
    model, progress, run, recipe = session.model, session.progress, session.run, session.recipe
    own = {k: v.clone() for k, v in model.state_dict().items()}
    if session.average is not None:
        model.load_state_dict(session.average.state)
    keep = run.path / "predictions" / f"{recipe.eval.split}.json" if progress.step == session.total else None
    scores = score_model(model, val_set, recipe, device=session.device, progress=not quiet, keep=keep)
    value = scores.metrics.get(recipe.primary, 0.0)
    if value > progress.best:
        progress.best = value
        metadata = {"step": str(progress.step), recipe.primary: f"{value:.4f}", "recipe": recipe.name}
        save_weights(run.best, model.state_dict(), metadata)
    model.load_state_dict(own)
    model.train()
    run.log({"step": progress.step, "metrics": scores.metrics, "seconds": round(progress.seconds, 2)})
    if not quiet:
        tqdm.write(f"step {progress.step}: {recipe.primary} {100 * value:.1f}", file=sys.stderr)
    return scores


def finish(session: Session, scores: Scores, val_set: Dataset) -> None:
    """Write metrics.json and cost.json for the last weights (averaged where the recipe averages)."""
    run, recipe, progress = session.run, session.recipe, session.progress
    if session.average is not None:
        session.model.load_state_dict(session.average.state)
    run.write_metrics(scores.to_json(recipe, split=recipe.eval.split, weights="last"))
    measured = cost.measure(session.model.eval(), cost_size(session.model, val_set), device=session.device)
    run.write_cost({**measured, "train_seconds": round(progress.seconds, 1), "images_seen": progress.images})
    predictions = run.path / "predictions" / f"{recipe.eval.split}.json"
    print_causes(run, recipe, val_set, scores.metrics, predictions)
    for line in check_expectations(scores.metrics, recipe.expect):
        print(f"note: {line}", file=sys.stderr)


def cost_size(model: Any, dataset: Dataset) -> tuple[int, int]:
    """The canvas (h, w) of the dataset's median image, at which costs are stated."""
    middle = sorted(dataset.sizes, key=lambda size: size[0] * size[1])[len(dataset) // 2]
    return model.preprocess.canvas([model.preprocess.output_size(*middle)])


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


def total_steps(recipe: Recipe, train_set: Dataset) -> int:
    """Optimiser steps of the whole training; `minutes` must have been calibrated to steps."""
    settings = recipe.train
    if settings.steps is not None:
        return settings.steps
    assert settings.epochs is not None, "minutes are calibrated to steps before"
    return max(1, round(settings.epochs * steps_per_epoch(train_set, settings.batch_size)))


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


def shared_normalisers(model: Any, pieces: list[Batch]) -> list[dict[str, float]]:
    """What the parts of an accumulated batch divide their losses by: the mean of their own counts, so that the parts'
    mean loss is the whole batch's. [] where there is one part, or where the model's losses are means of fixed counts.
    """
    if len(pieces) == 1 or not hasattr(model, "normalisers"):
        return []
    counts = [model.normalisers(piece) for piece in pieces]
    return [{name: sum(c[name] for c in counts) / len(counts) for name in counts[0]}]


def layout(batch: Batch) -> Batch:
    return dataclasses.replace(batch, images=batch.images.contiguous(memory_format=torch.channels_last))


def bfloat16(recipe: Recipe, device: torch.device) -> bool:
    """Whether to compute in bfloat16: `auto` does on GPUs that have it (fp16 would need loss scaling)."""
    name = recipe.hardware.precision
    return name == "bf16" or (name == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported())


def log_entry(session: Session, numbers: dict[str, float], norm: float, epoch_steps: int) -> dict[str, Any]:
    return {
        "step": session.progress.step,
        "epoch": round(session.progress.step / epoch_steps, 3),
        "lr": max(group["lr"] for group in session.optimizer.param_groups),
        "loss": sum(numbers.values()),
        **numbers,
        "gradient_norm": norm,
        "seconds": round(session.progress.seconds, 2),
    }


def dry_run(recipe: Recipe) -> dict[str, Any]:
    """Resolve the recipe, build the model, run three batches. -> parameters, FLOPs, memory and expected time."""
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
    steps = None if recipe.train.minutes else total_steps(recipe, train_set)
    measured = cost.measure(model.eval(), cost_size(model, train_set), device=device, repeats=3)
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
