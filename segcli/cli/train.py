"""`segcli train`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from segcli.cli import options, output, tables
from segcli.core.errors import UsageError
from segcli.core.formatting import count

HELP = options.example(
    "train quickstart/mask_rcnn",
    "train mask_rcnn --data data/mine",
    "train quickstart/mask_rcnn --set train.minutes=2 --set train.seed=1 --out runs/short",
    "train --resume runs/quickstart-mask_rcnn",
    "train --resume runs/quickstart-mask_rcnn --set train.steps=2000",
)


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE", help="A recipe file, or a shipped recipe's name.", autocompletion=options.complete_recipes
        ),
    ] = None,
    data: options.Data = None,
    set_: options.Set = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run folder. [dim]default: runs/NAME, then runs/NAME-2, …[/]")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Go on with an interrupted run; with --set train.steps=N, with a finished one.",
            autocompletion=options.complete_runs,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            metavar=options.FLAG,
            help="Train nothing: run a batch and print cost, memory and expected time.",
        ),
    ] = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train a recipe's model on its data, score it, and keep everything in a run folder.

    Prepares the dataset first where the recipe names a known one. Ctrl-C saves; --resume goes on.
    """
    from segcli.core.recipe.recipe import Recipe, find_source, parse_overrides

    steps = None

    if resume is not None:
        sets = parse_overrides(set_ or [])
        if data or out or force or dry_run or sets.keys() - {"train.steps"}:
            raise UsageError(
                "--resume goes on with a run as it was: no --data, --out, --force, --dry-run, no --set but train.steps",
                hint="--set train.steps=N gives a finished run N steps in all",
            )
        loaded = Recipe.load(find_source(resume), sets)
        steps = loaded.train.steps if sets else None
        if recipe is not None and Recipe.load(recipe).name != loaded.name:
            raise UsageError(f"{resume} is a run of recipe {loaded.name}, not of {recipe}", hint="leave RECIPE away")
    elif recipe is None:
        raise UsageError("train needs a RECIPE, or --resume RUN", hint="segcli train quickstart/mask_rcnn")
    else:
        loaded = Recipe.load(recipe, parse_overrides(set_ or []), data=data)

    from segcli.commands import train as commands

    if dry_run:
        output.show(*tables.forecast(commands.dry_run(loaded)))
        return
    run = commands.train(loaded, out=out, resume=resume, steps=steps, force=force, quiet=quiet)
    if os.environ.get("RANK", "0") != "0":  # torchrun starts this command once a process
        return
    from segcli.core.run_files import read_metrics

    scores = read_metrics(run)
    called, images = run.absolute().name, count(scores["images"], f"{loaded.eval.split} image")
    output.show(*tables.scores(scores, title=f"{called}, {images}"))
    name = output.quoted(run)
    output.next_commands(
        f"segcli predict {name} FOLDER", f"segcli visualize predictions {name} --worst 12", f"segcli compare {name}"
    )
