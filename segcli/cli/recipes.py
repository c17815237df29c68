"""`segcli recipes`."""

import dataclasses
from typing import Annotated

import typer

from segcli.cli import options, output, tables

HELP = options.example("recipes", "recipes --task instance --json")


def recipes(
    task: Annotated[str | None, typer.Option(metavar="TASK", help="Only recipes of this task.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """List the recipes that come with segcli: task, data, length of training, measured score.

    Any of them trains on any prepared dataset of its task: segcli train RECIPE --data DIR.
    """
    from segcli.commands import recipes as commands

    rows = commands.recipes(task)
    if json:
        output.print_json({"schema_version": 1, "recipes": [dataclasses.asdict(row) for row in rows]})
    else:
        output.show(tables.recipes(rows))
