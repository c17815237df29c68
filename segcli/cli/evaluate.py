"""`segcli eval`."""

from pathlib import Path
from typing import Annotated

import typer

from segcli.cli import options, output, tables
from segcli.core.errors import SegcliError, UsageError
from segcli.core.formatting import count
from segcli.core.tasks import TASKS

HELP = options.example("eval runs/quickstart-mask_rcnn", "eval runs/quickstart-mask_rcnn --weights best --json")


def evaluate(
    source: options.ModelSource,
    weights: options.Weights = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Another dataset folder, with the same classes.",
            autocompletion=options.complete_data,
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="The split. [dim]default: the recipe's[/]")] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            metavar=options.FLAG,
            help="Exit 1 where a score leaves the range that the recipe expects on its own data; not with --data.",
        ),
    ] = False,
    nms: Annotated[
        str | None,
        typer.Option(
            metavar="IOU|off",
            help="Suppress duplicates at this IoU, or not at all. [dim]default: as the model does it[/]",
        ),
    ] = None,
    diagnose: Annotated[
        bool,
        typer.Option(
            "--diagnose",
            metavar=options.FLAG,
            help="Also say what costs most of the score, and what to change.",
        ),
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Score a trained model on a split, at the images' original resolution."""
    from segcli.core.exported_files import is_exported
    from segcli.core.recipe.recipe import Recipe, find_source

    path = find_source(source)
    if is_exported(path):
        from segcli.engine.exported import recipe_of

        recipe = recipe_of(path)
    else:
        recipe = Recipe.load(path)
    if check and not recipe.expect:
        raise UsageError(f"{source}: --check needs a recipe that expects a score", hint="add expect: to it")
    if check and data is not None:
        raise UsageError("--check is for the recipe's own data, which its expected scores are of: leave --data out")

    if nms is not None and not TASKS[recipe.task].objects:
        raise UsageError(f"--nms {nms}: task {recipe.task} has maps, and no detections to suppress")
    overlap = None if nms in (None, "off") else _overlap(nms)

    from segcli.commands.evaluate import score_run
    from segcli.engine.evaluation import Suppression, check_expectations

    suppression = None if nms is None else Suppression(overlap)
    scores = score_run(
        path, weights=weights, data=data, split=split, progress=not quiet, nms=suppression, diagnose=diagnose
    )
    chosen = split or recipe.eval.split
    document = {"schema_version": 1, **scores.to_json(recipe, split=chosen, weights=weights or "last")}
    outside = check_expectations(scores.metrics, recipe.expect)
    if json:
        output.print_json({**document, "outside_expectations": outside} if check else document)
    else:
        output.show(*tables.scores(document, title=f"{path}, {count(scores.images, f'{chosen} image')}"))
        if diagnose:
            output.show(*tables.behind(scores.findings or []))
    if check and outside:
        raise SegcliError(f"{source}: " + "; ".join(outside))


def _overlap(text: str) -> float:
    """The IoU of --nms."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise UsageError(f"--nms {text}: neither an IoU between 0 and 1 nor off", hint="--nms 0.5, or --nms off")
    return value
