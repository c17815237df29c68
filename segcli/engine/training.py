"""Training: from a recipe and its prepared data to a scored run folder, in one visible loop."""

import contextlib
import dataclasses
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from segcli.core import distributed
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, NotFiniteError, SegcliError, UsageError
from segcli.core.recipe.recipe import Recipe
from segcli.data.augment.compose import build_augment
from segcli.data.cache import ImageCache
from segcli.data.dataset import Dataset
from segcli.data.fingerprint import current
from segcli.data.loader import steps_per_epoch, train_loader
from segcli.doctor.report_cache import admit
from segcli.engine import cost, fine_tuning, input_rule
from segcli.engine.accumulation import add_gradients, bfloat16, say_what_differs, step_losses
from segcli.engine.capacity import refuse_batch
from segcli.engine.checkpoint import recover, save_weights
from segcli.engine.compilation import compiler_errors, uncompiled
from segcli.engine.diagnosis import print_causes
from segcli.engine.evaluation import Scores, batch_of, build_scorers, check_expectations, evaluating, score_model
from segcli.engine.object_size import extents
from segcli.engine.opening import describe_environment, start
from segcli.engine.optimizer import MovingAverage, build_optimizer, clip_gradients, set_rates
from segcli.engine.pace import Pace, keep_pace, note_warm_up
from segcli.engine.probe import probe
from segcli.engine.run_folder import RunFolder, add_steps
from segcli.engine.same_data import refuse_other_data
from segcli.engine.session import Interrupt, Session
from segcli.engine.training_state import steps_done
from segcli.engine.work import CpuClock, step_gflops
from segcli.models import settled
from segcli.models.interface import Model
from segcli.sources.drawn import DrawnDataset
from segcli.types import Batch, Field, Labelled


def train_joined(
    recipe: Recipe,
    device: torch.device,
    out: str | Path | None,
    resume: str | Path | None,
    steps: int | None,
    force: bool,
    quiet: bool,
) -> Path:
    """Build model, optimiser and data, start or resume the run folder, and train; see `commands.train.train`."""
    info = DatasetInfo.load(recipe.data.root)
    recipe = recipe.model_copy(update={"model": settled(recipe.model)})
    if resume is not None and not distributed.rank():
        refuse_other_data(RunFolder(resume), Path(recipe.data.root), info)
    model, used = start(recipe, info, load=resume is None)
    if resume is None:
        recipe = fine_tuning.with_family_defaults(recipe, model)
    elif (RunFolder(resume).path / "environment.json").is_file():
        fine_tuning.follow(model, RunFolder(resume).environment())
    fine_tuning.freeze(model, recipe.train.optimizer)  # raises for bad settings before a run folder exists
    new = fine_tuning.new_layers(model, recipe.train.schedule.new_layers_first) if resume is None else []
    train_set, val_set = open_datasets(recipe, model.fields)
    build_scorers(recipe, val_set, model)  # a score that nobody can compute is said before the training
    refuse_batch(recipe, model.to(device), train_set.sizes, recipe.train.batch_size, training=True)
    admit(recipe, model.queries, quiet)
    state = None
    with contextlib.ExitStack() as claim:
        if not distributed.rank():
            run = RunFolder(resume) if resume else RunFolder.create(recipe.name, Path(out) if out else None, force)
            claim.enter_context(run.claimed())
            if resume is None:
                run.clear()
                # the environment first: a folder with a recipe is a run, and must record its data
                info = dataclasses.replace(info, fingerprint=current(Path(recipe.data.root), info))
                median, largest = extents(train_set, model.preprocess)
                seen = {"object_pixels": median, "largest_in_input": largest}
                more = {"minutes": recipe.train.minutes, **seen, "new_layers": new}
                run.write_environment({**describe_environment(recipe, info, used), **more})
                run.write_recipe(recipe)
            else:
                state = recover(run.last, run.previous)
                if steps is not None:
                    add_steps(run, steps, steps_done(state, str(run.last)))
                if not (run.path / "environment.json").is_file():  # scoring the run reads it
                    info = dataclasses.replace(info, fingerprint=current(Path(recipe.data.root), info))
                    run.write_environment({**describe_environment(recipe, info, []), "new_layers": []})
            out = run.path
        run = RunFolder(distributed.from_main(out))  # type: ignore[arg-type]
        recipe = recipe if steps is None else run.recipe()
        environment = run.environment()
        input_rule.follow(model, environment)
        new = environment.get("new_layers") or []
        if not distributed.rank() and not quiet:
            print(f"note: {fine_tuning.describe(model, recipe.train.optimizer, new)}", file=sys.stderr)
        pace = pace_of(recipe, run, train_set, resumed=resume is not None)
        session = Session(run, recipe, model.to(device), pace.total or sys.maxsize, device, new)
        if resume is not None:
            session.restore(state)
            state = None  # or its weights would fill memory until the training ends
            trained = session.progress.step >= session.total
            if trained and run.finished():
                print(f"note: {run.path} is finished already", file=sys.stderr)
                return run.path
            if not distributed.rank():
                if not quiet:
                    print(f"note: {run.path} goes on at step {session.progress.step}", file=sys.stderr)
                run.rewind(session.progress.step, scored=not trained)  # the final scores follow the last checkpoint
        distributed.same_weights(session.model)
        loop(session, pace, train_set, val_set, quiet)
    return run.path


def loop(session: Session, pace: Pace, train_set: Dataset, val_set: Dataset, quiet: bool) -> None:
    """Train from the session's present step to the end, with scoring, logging, saving; then record the final scores."""
    run, model, progress = session.run, session.model, session.progress
    settings, main = session.recipe.train, not distributed.rank()
    batches = make_loader(session.recipe, model, train_set, progress.step)
    bar = tqdm(total=pace.total, initial=progress.step, unit="step", disable=quiet, file=sys.stderr, dynamic_ncols=True)
    autocast = torch.autocast(session.device.type, torch.bfloat16, enabled=bfloat16(session.recipe, session.device))
    last_save, batch, cpu = time.monotonic(), None, CpuClock()
    model.train()
    if main:
        say_what_differs(model, settings.accumulate)
        if not quiet:
            note_warm_up(session.recipe, pace.total)
        if progress.step == 0:
            try_predicting(session, train_set)
    with Interrupt() as interrupt, bar:
        while not pace.done(progress.step):
            begun = time.perf_counter()
            cpu.lap()  # leave out the CPU time of evaluating and saving
            batch = next_batch(batches, session)
            distributed.reseed(settings.seed, progress.step)
            share = pace.progress(progress.step)
            set_rates(session.optimizer, settings.schedule, progress.step, session.total, share)
            numbers: dict[str, float] = {}
            first, device = progress.step == 0, session.device
            try:
                for piece, losses in step_losses(model, batch, settings.accumulate, device, autocast, first=first):
                    for name, value in losses.items():
                        numbers[name] = numbers.get(name, 0.0) + value.item()
                    session.refuse_not_finite(numbers, piece)
                    with compiler_errors():
                        torch.stack(list(losses.values())).sum().backward()
            except NotFiniteError as found:  # the matching of queries raises it before there are losses
                session.refuse_not_finite({found.term: math.nan}, batch)
                raise
            distributed.average_gradients(session.trainable)
            norm = clip_gradients(session.trainable, settings.clip).item()
            session.refuse_not_finite({"gradient norm": norm}, batch)
            session.optimizer.step()
            session.optimizer.zero_grad(set_to_none=True)
            if session.average is not None:
                session.average.update(model, progress.step + 1)
            progress.add(batch, cpu.lap())
            keep_pace(session, pace, time.perf_counter() - begun, bar, quiet)
            bar.update()
            end = pace.done(progress.step)
            if progress.step % settings.log_every == 0 or end:
                entry = log_entry(session, distributed.average(numbers), norm, epoch_steps(session.recipe, train_set))
                if main:
                    run.log(entry)
                bar.set_postfix(loss=f"{entry['loss']:.3f}", lr=f"{entry['lr']:.1e}", refresh=False)
            scored = pace.evaluates(progress.step, settings.evaluations)
            if scored and not end:
                if main:
                    score_now(session, val_set, quiet, stopped=lambda: interrupt.asked)
                progress.best = distributed.from_main(progress.best)  # any rank may save, if it fails
            due = time.monotonic() - last_save > 60 * settings.save_minutes
            asked = distributed.any_rank(interrupt.asked)
            if main and (scored or end or asked or due):
                session.save()
                last_save = time.monotonic()
            if asked and not end:
                print(f"\nsaved at step {progress.step}; go on with: segcli train --resume {run.path}", file=sys.stderr)
                raise KeyboardInterrupt
    gflops = count_work(session, next_batch(batches, session) if batch is None else batch)
    if main:
        scores = score_now(session, val_set, quiet)
        finish(session, scores, val_set, gflops)


def try_predicting(session: Session, train_set: Dataset) -> None:
    """Predict on one image before the first step, so that a model that can't ends here and not when it is trained."""
    with torch.inference_mode(), evaluating(session.model, session.recipe):
        session.model.predict(batch_of(session.model, train_set.image(0)))


def next_batch(batches: Iterator[Batch], session: Session) -> Batch:
    """The next batch; if an image can't be read, the training state is saved before the error is raised."""
    try:
        with session.recipe.blamed("data.augment"):
            return next(batches)
    except DataError:
        if session.progress.step:
            session.save()
        raise


def count_work(session: Session, batch: Batch) -> float | None:
    """GFLOPs of the whole training, from a trial step on `batch` that changes nothing: its multiply-adds per pixel
    times the pixels trained on. None if those were not counted, or the step can't be run."""
    step = lambda: add_gradients(session.recipe, session.model, batch, session.device)
    try:
        with uncompiled():
            own = {"gflops": step_gflops(session.model, step), "pixels": float(batch.images[:, 0].numel())}
    except NotFiniteError:
        if distributed.world() > 1:  # the others wait for this process
            raise
        print("note: the last step left weights that aren't finite, so its work can't be counted", file=sys.stderr)
        return None
    mean, pixels = distributed.average(own), session.progress.pixels
    return None if pixels is None else mean["gflops"] / mean["pixels"] * pixels


def score_now(session: Session, val_set: Dataset, quiet: bool, stopped: Callable[[], bool] = lambda: False) -> Scores:
    """Score the averaged (else the current) weights on the val split; save them as best if they are the best so far.

    The last scoring of a run also stores the predictions. stopped: whether a probe is to end before its time.
    """
    model, progress, run, recipe = session.model, session.progress, session.run, session.recipe
    own = {k: v.clone() for k, v in model.state_dict().items()}
    if session.average is not None:
        model.load_state_dict(session.average.state)
    keep = run.path / "predictions" / f"{recipe.eval.split}.json" if progress.step == session.total else None
    probed = None
    try:
        scores = score_model(model, val_set, recipe, device=session.device, progress=not quiet, keep=keep)
        if recipe.train.probe is not None:
            probed = probe(session, stopped, quiet)
    except SegcliError:  # such as of another package's metric
        model.load_state_dict(own)
        session.save()
        raise
    value = scores.metrics.get(recipe.primary, 0.0)
    if value > progress.best:
        progress.best = value
        metadata = {"step": str(progress.step), recipe.primary: f"{value:.4f}", "recipe": recipe.name}
        save_weights(run.best, model.state_dict(), metadata)
    model.load_state_dict(own)
    model.train()
    more = {} if probed is None else {"probe": probed}
    run.log({"step": progress.step, "metrics": scores.metrics, **more, "seconds": round(progress.seconds, 2)})
    if not quiet:
        tqdm.write(f"step {progress.step}: {recipe.primary} {100 * value:.1f}", file=sys.stderr)
    return scores


def finish(session: Session, scores: Scores, val_set: Dataset, gflops: float | None) -> None:
    """Write metrics.json and cost.json for the last weights (averaged if so set). gflops: of the training."""
    run, recipe, progress = session.run, session.recipe, session.progress
    if session.average is not None:
        session.model.load_state_dict(session.average.state)
    predictions = run.path / "predictions" / f"{recipe.eval.split}.json"
    scores.diagnosis = print_causes(run, recipe, session.model, val_set, scores.metrics, predictions)
    run.write_metrics(scores.to_json(recipe, split=recipe.eval.split, weights="last"))
    measured = measure_cost(session.model, val_set, session.device)
    spent = {
        "train_seconds": round(progress.seconds, 1),
        "train_cpu_seconds": None if progress.cpu_seconds is None else round(progress.cpu_seconds, 1),
        "train_gflops": None if gflops is None else round(gflops, 4),
        "train_steps": progress.step,
        "images_seen": progress.images,
    }
    run.write_cost({**measured, **spent})
    for line in check_expectations(scores.metrics, recipe.expect):
        print(f"note: {line}", file=sys.stderr)


def measure_cost(model: Model, dataset: Dataset, device: torch.device, repeats: int | None = None) -> dict[str, Any]:
    """`cost.measure` at the canvas of the dataset's median image, and GFLOPs over all its images."""
    size = cost.median_canvas(model.preprocess, dataset.sizes)
    over = cost.canvases(model.preprocess, dataset.sizes)
    with uncompiled():
        return cost.measure(model.eval(), size, sizes=over, device=device, repeats=repeats)


def open_datasets(recipe: Recipe, fields: dict[str, type[Field]]) -> tuple[Dataset, Dataset]:
    """The train split and the split that the recipe evaluates on."""
    names = str(recipe.resolve(recipe.data.split_file)) if recipe.data.split_file else None
    train_set = _train_set(recipe, names, fields)
    for name, field in fields.items():
        if issubclass(field, Labelled) and not any(field.labelled(own) for own in train_set.each_annotations()):
            raise DataError(f"{recipe.data.root}: no object of its train split has {name}: there is nothing to learn")
    val_set = Dataset(recipe.data.root, recipe.eval.split, split_file=names, task=recipe.task, fields=fields)
    return train_set, val_set


def _train_set(recipe: Recipe, names: str | None, fields: dict[str, type[Field]]) -> Dataset:
    """Read from the recipe's folder, or drawn."""
    data = recipe.data
    if data.drawn is None:
        return Dataset(data.root, "train", split_file=names, task=recipe.task, fields=fields)
    if data.name is None or names is not None:
        raise UsageError("data.drawn: only embedded data can be drawn, by its data.name, and has no split_file")
    return DrawnDataset(data.root, data.name, data.drawn, settings=data.prepare, task=recipe.task, fields=fields)


def make_loader(recipe: Recipe, model: Model, train_set: Dataset, first_step: int) -> Iterator[Batch]:
    """Endless batches from `first_step` on."""
    preprocess = model.preprocess
    canvas, longest = preprocess.fixed_canvas(), preprocess.longest
    with recipe.blamed("data.augment"):
        augment = build_augment(
            recipe.data.augment, canvas=canvas, info=train_set.info, longest=longest, fields=train_set.fields
        )
    kept = recipe.data.cache
    return train_loader(
        train_set,
        preprocess,
        augment,
        batch_size=recipe.train.batch_size,
        seed=recipe.train.seed,
        start_step=first_step,
        workers=recipe.hardware.workers,
        rank=distributed.rank(),
        ranks=distributed.world(),
        disk=ImageCache(train_set, kept.gigabytes, kept.longest, kept.folder) if kept else None,
    )


def total_steps(recipe: Recipe, train_set: Dataset) -> int:
    """Optimiser steps of the whole training, which is given in steps or epochs."""
    settings = recipe.train
    if settings.steps is not None:
        return settings.steps
    assert settings.epochs is not None, "minutes become steps on the way"
    return max(1, round(settings.epochs * epoch_steps(recipe, train_set)))


def epoch_steps(recipe: Recipe, train_set: Dataset) -> int:
    """Optimiser steps of one epoch, all processes together."""
    return steps_per_epoch(train_set, recipe.train.batch_size * recipe.hardware.processes)


def pace_of(recipe: Recipe, run: RunFolder, train_set: Dataset, *, resumed: bool) -> Pace:
    """The length of a training in steps or minutes; a resumed one continues with its decisions."""
    settings = recipe.train
    minutes = settings.minutes
    if resumed and settings.retimed and not settings.restarted:
        minutes = run.environment().get("minutes")
    total = None if settings.minutes is not None else total_steps(recipe, train_set)
    return Pace(total, settings.retimed, None if minutes is None else 60 * minutes)


def trial_steps(
    recipe: Recipe, model: Model, train_set: Dataset, device: torch.device
) -> Iterator[tuple[float, dict[str, float]]]:
    """Endless training steps at a thousandth of the learning rate, for timing: seconds and losses of each.

    They change `model`'s weights.
    """
    model.train()
    optimizer = build_optimizer(model, recipe.train.optimizer)
    average = MovingAverage(model, recipe.train.ema) if recipe.train.ema else None
    trainable = [p for p in model.parameters() if p.requires_grad]
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=bfloat16(recipe, device))
    batches = make_loader(recipe, model, train_set, 0)
    for step in itertools.count(1):
        begun = time.perf_counter()
        numbers: dict[str, float] = {}
        for _, losses in step_losses(model, next(batches), recipe.train.accumulate, device, autocast, first=step == 1):
            for name, value in losses.items():
                numbers[name] = numbers.get(name, 0.0) + value.item()
            with compiler_errors():
                torch.stack(list(losses.values())).sum().backward()
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * 1e-3
        distributed.average_gradients(trainable)
        clip_gradients(trainable, recipe.train.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if average is not None:
            average.update(model, step)
        yield time.perf_counter() - begun, numbers


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
