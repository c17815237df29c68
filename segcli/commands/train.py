"""`segcli train`: from a recipe to a scored run folder, or to what that would take; the data is prepared first."""

import json
import sys
from pathlib import Path
from typing import Any

from segcli.commands.prepare import prepare_for
from segcli.core import distributed
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import ModelError, UsageError
from segcli.core.recipe.recipe import Recipe
from segcli.engine.capacity import first_batch, refuse_batch, use_threads
from segcli.engine.evaluation import build_scorers
from segcli.engine.fine_tuning import describe, freeze, new_layers, with_family_defaults
from segcli.engine.forecast import forecast
from segcli.engine.opening import choose_device, start
from segcli.engine.run_folder import RunFolder
from segcli.engine.training import measure_cost, open_datasets, train_joined


def train(
    recipe: Recipe | str | Path | None,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    steps: int | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Path:
    """Train, score and record one run. -> its folder.

    recipe: one that was loaded, a file, or a shipped recipe's name. data: a prepared dataset in place of that recipe's.
    Prepares the dataset where the recipe names a known one that is not there. `resume` continues that run folder with
    its own recipe (`recipe` may be None then), bitwise on a CPU, from the start where nothing was saved yet; with
    `steps` a finished one goes on to so many in all (engine/run_folder.py). Raises UsageError, DataError or ModelError
    before any work; KeyboardInterrupt after saving, on Ctrl-C; SegcliError on a non-finite loss. With several
    `hardware.devices` it starts a process for each; under torchrun it is one of them.
    """
    if isinstance(recipe, (str, Path)):
        recipe = Recipe.load(recipe, data=data)
    elif data is not None:
        raise UsageError("data goes with a recipe's name or file", hint="Recipe.load(…, data=…) for one that is loaded")
    if steps is not None and resume is None:
        raise UsageError("steps goes with resume, for a finished run", hint="set train.steps in the recipe")
    if resume is not None:
        run = RunFolder(resume)
        recipe = run.recipe()
        if run.never_saved() and steps is None:
            if distributed.rank() == 0:
                print(f"note: {run.path} was stopped before its first checkpoint: it begins again", file=sys.stderr)
            recipe, out, resume, force = as_asked(run, recipe), resume, None, True
    if recipe is None:
        raise UsageError("nothing to train: give a recipe, or a run to resume")
    hardware = recipe.hardware
    if hardware.processes == 1 or distributed.launched():
        return train_one(recipe, out, resume, steps, force, quiet)
    kind, arguments = str(choose_device(hardware.device)), (recipe, out, resume, steps, force, quiet)
    return distributed.launch(train_one, arguments, devices=hardware.devices, nodes=hardware.nodes, device=kind)


def as_asked(run: RunFolder, recipe: Recipe) -> Recipe:
    """The recipe of a run that begins again: with the minutes that its first steps had been converted from."""
    try:
        minutes = run.environment().get("minutes")
    except ModelError:  # it was stopped before it was written
        return recipe
    if minutes is None:
        return recipe
    lengths: dict[str, object] = {"epochs": None, "steps": None, "minutes": minutes, "retimed": []}
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=lengths)})


def train_one(
    recipe: Recipe, out: str | Path | None, resume: str | Path | None, steps: int | None, force: bool, quiet: bool
) -> Path:
    """One process's training; rank 0 writes what there is to write."""
    use_threads(recipe.hardware.threads)
    with distributed.joined(recipe.hardware.processes, choose_device(recipe.hardware.device)) as device:
        with distributed.main_first():
            prepare_for(recipe)
            if recipe.train.probe is not None:
                prepare_for(Recipe.load(recipe.train.probe.recipe))
        return train_joined(recipe, device, out, resume, steps, force, quiet or distributed.rank() > 0)


def dry_run(recipe: Recipe) -> dict[str, Any]:
    """Resolve the recipe, prepare its data, build the model, and say what training would take; nothing is trained.

    -> {"recipe", "train_images", "weights", "losses", "steps", "step_seconds", "minutes", "forecast" (see `forecast`),
    "cost" (as cost.json)}. Where the machine has too little memory, nothing is run and "losses" are empty.
    """
    prepare_for(recipe)
    device = choose_device(recipe.hardware.device)
    use_threads(recipe.hardware.threads)
    model, used = start(recipe, DatasetInfo.load(recipe.data.root))
    recipe = with_family_defaults(recipe, model)
    freeze(model, recipe.train.optimizer)
    new = new_layers(model, recipe.train.schedule.new_layers_first)
    print(f"note: {describe(model, recipe.train.optimizer, new)}", file=sys.stderr)
    train_set, val_set = open_datasets(recipe, model.fields)
    build_scorers(recipe, val_set, model)
    refuse_batch(recipe, model.to(device), train_set.sizes, recipe.train.batch_size, training=True)
    with first_batch("it can't be run"):
        measured = measure_cost(model, train_set, device, repeats=5)
    needs, losses = forecast(recipe, model, measured, (train_set, val_set))
    return {
        "schema_version": 1,
        "recipe": json.loads(recipe.model_dump_json()),
        "train_images": len(train_set),
        "weights": used,
        "losses": losses,
        "step_seconds": needs["step_seconds"],
        "steps": needs["steps"],
        "minutes": needs["train_minutes"],
        "forecast": needs,
        "cost": measured,
    }
