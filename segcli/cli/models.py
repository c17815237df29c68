"""`segcli models`."""

import dataclasses
from typing import Annotated

import typer

from segcli.cli import options, output, tables

HELP = options.example("models", "models --task instance --json")


def models(
    task: Annotated[str | None, typer.Option(metavar="TASK", help="Only models of this task.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """List the models with published weights: parameters, GFLOPs, score, licence, download, whether it is here.

    Each name is a recipe: segcli predict NAME FOLDER uses it, segcli train NAME --data DIR fine-tunes it, by default on
    several GPUs: --set hardware.devices=1 for one device.
    """
    from segcli.commands import models as commands

    rows = commands.models(task)
    if json:
        output.print_json({"schema_version": 1, "models": [dataclasses.asdict(row) for row in rows]})
    elif rows:
        output.show(tables.models(rows))
    else:
        typer.echo(f"no model with published weights does task {task}")
