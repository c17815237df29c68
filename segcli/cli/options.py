"""Arguments and options that several commands share, so that they read alike everywhere."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

FLAG = " "  # the metavar of an option without a value: newer typers would print <bool>


def _quiet(context: typer.Context, value: bool) -> bool:
    """True for `segcli -q COMMAND` and `segcli COMMAND -q` alike."""
    quiet = value or bool(context.find_root().params.get("quiet"))
    if quiet:
        os.environ["TQDM_DISABLE"] = "1"  # progress bars without a `disable` of their own, loader processes included
    return quiet


def complete_recipes(incomplete: str) -> list[str]:
    """Shipped recipe names, those of custom/ also bare, for the shell's completion."""
    from segcli.core.recipe.recipe import shipped

    names = shipped()
    bare = [name.removeprefix("custom/") for name in names if name.startswith("custom/")]
    return [name for name in [*names, *bare] if name.startswith(incomplete)]


def complete_runs(incomplete: str) -> list[str]:
    """Run folders below `runs`, for the shell's completion."""
    from segcli.core.recipe.recipe_file import runs_here

    return [name for name in runs_here() if name.startswith(incomplete)]


def complete_sources(incomplete: str) -> list[str]:
    """Run folders below `runs`, then shipped recipe names, for the shell's completion."""
    return complete_runs(incomplete) + complete_recipes(incomplete)


def complete_data(incomplete: str) -> list[str]:
    """Prepared datasets below data/, for the shell's completion."""
    found = sorted(p.parent.as_posix() for p in Path("data").glob("*/info.json"))
    return [name for name in found if name.startswith(incomplete)]


def complete_prepare(incomplete: str) -> list[str]:
    """Known datasets, then those prepared below data/, for the shell's completion."""
    from segcli.sources.plan import known

    return [name for name in known() if name.startswith(incomplete)] + complete_data(incomplete)


def complete_formats(incomplete: str) -> list[str]:
    """Formats that datasets are read from, for the shell's completion."""
    from segcli.core.plugins import names

    return [name for name in names("format") if name.startswith(incomplete)]


def complete_tasks(incomplete: str) -> list[str]:
    """Tasks, for the shell's completion."""
    from segcli.core.tasks import TASKS

    return [name for name in TASKS if name.startswith(incomplete)]


def complete_keys(context: typer.Context, incomplete: str) -> list[str]:
    """KEY= of every recipe, and of the one that was named before, for the shell's completion of --set."""
    from segcli.core.errors import SegcliError
    from segcli.core.recipe.keys import keys
    from segcli.core.recipe.recipe_file import find_recipe, read_recipe

    named = context.params.get("recipe")
    try:
        own = {} if named is None else read_recipe(find_recipe(named))
    except SegcliError:
        own = {}  # to be said when the command is run
    return [f"{key}=" for key in keys(own) if key.startswith(incomplete)]


def complete_views(incomplete: str) -> list[str]:
    """Views of `visualize explain`, for the shell's completion."""
    from segcli.core.plugins import names

    return [name for name in names("view") if name.startswith(incomplete)]


Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", metavar=FLAG, callback=_quiet, help="No progress; only results, notes on them, and errors."
    ),
]
Debug = Annotated[bool, typer.Option("--debug", metavar=FLAG, help="Show the traceback of an error.")]
Json = Annotated[
    bool, typer.Option("--json", metavar=FLAG, help="Print one JSON document on stdout instead of tables.")
]
Force = Annotated[bool, typer.Option("--force", metavar=FLAG, help="Overwrite what is there.")]
Data = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="A prepared dataset, in place of the recipe's own.", autocompletion=complete_data),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a recipe key, such as train.epochs=3; repeatable.",
        autocompletion=complete_keys,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(metavar="NAME|FILE", help="Other weights: a file, or of a run `last` (the default) or `best`."),
]
Source = Annotated[
    str, typer.Argument(metavar="RUN|RECIPE", help="A run folder, or a recipe.", autocompletion=complete_sources)
]
ModelSource = Annotated[
    str,
    typer.Argument(
        metavar="RUN|RECIPE|MODEL.onnx",
        help="A run folder, a recipe, or an exported model's file (.onnx, .xml).",
        autocompletion=complete_sources,
    ),
]


def example(*commands: str) -> dict[str, Any]:
    """The end of a command's help: commands that work as they stand."""
    lines = [f"[bold]segcli {command}[/bold]" for command in commands]
    return {"epilog": "\n\n".join(["Examples:" if len(lines) > 1 else "Example:", *lines])}
