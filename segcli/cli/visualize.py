"""`segcli visualize data`, `segcli visualize predictions` and `segcli visualize explain`."""

from pathlib import Path
from typing import Annotated

import typer

from segcli.cli import options, output, tables

app = typer.Typer(
    no_args_is_help=True,
    help="Draw a dataset's labels, a run's predictions beside the labels, or what its model does inside.",
    **options.example(
        "visualize data data/shapes",
        "visualize predictions runs/quickstart-mask_rcnn --worst 12",
        "visualize explain runs/quickstart-mask_rcnn --image photo.jpg",
    ),
)
HELP_DATA = options.example(
    "visualize data data/shapes --split val", "visualize data data/shapes --augmented quickstart/mask_rcnn"
)
HELP_EXPLAIN = options.example(
    "visualize explain runs/quickstart-mask_rcnn --image photo.jpg",
    "visualize explain runs/quickstart-mask_rcnn --image photo.jpg --what roi_align --what mask_channels",
    "visualize explain runs/quickstart-detr --split val",
)
HELP_PREDICTIONS = options.example("visualize predictions runs/quickstart-mask_rcnn --worst 12")

Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Where to write. [dim]default: pictures/NAME[/]")]
Split = Annotated[str | None, typer.Option(metavar="NAME", help="Only this split.")]


@app.command("data", **HELP_DATA)
def data(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A prepared dataset folder.", autocompletion=options.complete_data),
    ],
    augmented: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="Beside each image, what this recipe's augmentation makes of it.",
            autocompletion=options.complete_recipes,
        ),
    ] = None,
    split: Split = None,
    out: Out = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Draw images with their labels, as labelled or as training sees them.

    Without --augmented the sheet begins with what the data is like, and what that advises.
    """
    from segcli.core.recipe.recipe import Recipe

    recipe = Recipe.load(augmented) if augmented else None
    names = recipe.resolve(recipe.data.split_file) if recipe and recipe.data.split_file and split else None

    from segcli.commands.visualize_data import show_data
    from segcli.core.folders import real

    target = out or Path("pictures") / real(folder).name
    lines = []
    if recipe is None:
        from segcli.commands.prepare import describe

        lines = output.lines(tables.statistics(describe(folder)))
    for path in show_data(folder, target, split=split, split_file=names, augmented=recipe, facts=lines):
        typer.echo(path)


@app.command("predictions", **HELP_PREDICTIONS)
def predictions(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder.", autocompletion=options.complete_runs)],
    worst: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="The K worst images, not a random choice.")
    ] = None,
    split: Split = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write. [dim]default: RUN/pictures[/]")
    ] = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Draw a run's stored predictions beside the labels."""
    from segcli.commands.visualize_predictions import show_predictions
    from segcli.core.recipe.recipe import find_source

    for path in show_predictions(find_source(run), out, split=split, worst=worst, progress=not quiet):
        typer.echo(path)


@app.command("explain", **HELP_EXPLAIN)
def explain(
    source: options.Source,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The image to explain; with labels if it is of the data.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="In its place a split: where each query's boxes lie over it.")
    ] = None,
    what: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VIEW",
            help="Only this view; repeatable. [dim]default: all that the model has[/]",
            autocompletion=options.complete_views,
        ),
    ] = None,
    over_time: Annotated[
        bool,
        typer.Option(
            "--over-time",
            metavar=options.FLAG,
            help="Of a run: before its first step and at its checkpoints, one below the other.",
        ),
    ] = False,
    weights: options.Weights = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write. [dim]default: RUN/pictures[/]")
    ] = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Draw what a model does inside on one image: pictures, and a page to click at.

    R-CNNs: proposals, RoIAlign, mask channels. DETR and MaskFormer: attention, queries, the matching. Per-pixel models:
    score maps, entropy.
    """
    from segcli.core.recipe.recipe import find_source
    from segcli.explain.explain import explain as draw

    done = draw(
        find_source(source),
        image,
        split=split,
        what=what or (),
        out=out,
        weights=weights,
        over_time=over_time,
        progress=not quiet,
    )
    for path in done:
        typer.echo(path)
