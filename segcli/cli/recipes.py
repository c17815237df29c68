"""`segcli recipes`."""

import dataclasses
from typing import Annotated

import typer

from segcli.cli import options, output, tables

HELP = options.example("recipes", "recipes --task instance --json")


def recipes(
    task: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="Only recipes of this task.", autocompletion=options.complete_tasks),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """List the recipes that come with segcli: task, data, length of training, expected score.

    Any of them trains on any prepared dataset of its task: segcli train RECIPE --data DIR.
    """
    from segcli.commands import recipes as commands

    rows = commands.recipes(task)
    if json:
        output.print_json({"schema_version": 1, "recipes": [dataclasses.asdict(row) for row in rows]})
    elif rows:
        output.show(tables.recipes(rows))
    else:
        typer.echo(f"no recipe that comes with segcli has the task {task}")
