"""`segcli compare`."""

import math
import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segcli.cli import options, output, tables
from segcli.core.errors import UsageError

if TYPE_CHECKING:
    from segcli.compare.comparison import Comparison

HELP = options.example(
    "compare runs/quickstart-mask_rcnn quickstart/faster_rcnn",
    "compare --sort gflops --csv table.csv --plot gflops_ap.svg",
    "compare --published",
    "compare quickstart/mask_rcnn quickstart/faster_rcnn --train --html report.html",
    "compare --train --data data/mine --minutes 5 mask_rcnn maskformer",
)


def compare(
    items: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN|RECIPE",
            help="Run folders, and recipes that need not be trained. [dim]default: every run below runs/[/]",
            autocompletion=options.complete_sources,
        ),
    ] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            metavar=options.FLAG,
            help="Add what papers report, our own counts beside theirs; alone without RUN or RECIPE.",
        ),
    ] = False,
    sort: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Sort by gflops, params, latency_ms, …, name, or a metric such as bbox_AP."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write every column as CSV.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw GFLOPs against accuracy (.svg, .png or .pdf).")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write a report: one file that opens offline, with plots, classes, images, curves.",
        ),
    ] = None,
    train: Annotated[
        bool,
        typer.Option(
            "--train",
            metavar=options.FLAG,
            help="First train the recipes that have no finished run, one after the other; go on past failures.",
        ),
    ] = False,
    data: options.Data = None,
    minutes: Annotated[
        float | None, typer.Option(metavar="N", help="With --train: minutes of training for each recipe.")
    ] = None,
    set_: options.Set = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Print what models cost against what they score: parameters, GFLOPs, latency, memory, training time, AP.

    A star marks the rows that no other row beats: none has fewer GFLOPs and a higher score. A recipe that is not
    trained is measured with random weights, with what its training would take.
    Below each table: which differences the images support (paired bootstrap, 95 % intervals); and which to choose.
    --train --data DIR without RECIPE trains one recipe of each family that learns from such labels.
    """
    if minutes is not None and not train:
        raise UsageError("--minutes is for --train: nothing else is trained")
    if minutes is not None and not 0 < minutes < math.inf:
        raise UsageError(f"--minutes {minutes:g}: needs a number above 0")
    if set_ and not train:
        raise UsageError("--set is for --train: nothing else is trained")
    if train and not items and data is None:
        raise UsageError("--train needs recipes, or --data", hint="segcli compare quickstart/mask_rcnn --train")
    if data is not None and not items:
        if not train:
            raise UsageError("--data needs recipes, or --train", hint=f"segcli compare --train --data {data}")
        items = _families(data)
    from segcli.core.recipe.recipe_file import every_run, parse_overrides

    items = items or ([] if published else every_run())  # before anything heavy is imported
    from segcli.compare import files
    from segcli.compare.comparison import compare_runs

    announce = (lambda text: None) if quiet else _tell
    files.check(force, csv=csv, plot=plot, html=html)
    found = compare_runs(
        items,
        train=train,
        data=data,
        minutes=minutes,
        overrides=parse_overrides(set_ or []),
        published=published,
        sort=sort,
        announce=announce,
        quiet=quiet,
    )
    for _, error in found.failed:
        print(f"skipped: {error}", file=sys.stderr)
    if json:
        output.print_json(found.to_json())
    else:
        _show(found)
    if csv is not None:
        files.write_csv(found.groups, csv)
    for note in files.plot(found.groups, plot, force) if plot is not None else ():
        announce(note)
    if html is not None:
        from segcli.compare.report import write_report

        pairs, verdicts = [*chain(*found.pairs)], [*reversed(found.choices), *chain(*found.verdicts)]
        missing = write_report(found.groups, html, pairs=pairs, verdicts=verdicts, skipped=found.failed)
        for note in missing:
            _tell(note)
        announce(f"report: {html}")


def _show(found: "Comparison") -> None:
    """The tables, each with its sentences; forecasts; notes; which to choose."""
    from segcli.compare import ranking

    for number, (group, sentences) in enumerate(zip(found.groups, found.verdicts, strict=True)):
        if number:
            typer.echo()
        output.show(tables.comparison(group, ranking.accuracy(group), ranking.group_title(group)))
        for sentence in sentences:
            typer.echo(sentence)
    forecasts = tables.forecasts(found.rows)
    if forecasts is not None:
        output.show(forecasts)
    for note in ranking.notes(found.groups):
        typer.echo(f"note: {note}")
    for sentence in found.choices:
        typer.echo(sentence)


def _families(data: Path) -> list[str]:
    """The recipes for one's own data that suit a prepared dataset's labels."""
    from segcli.commands.prepare import describe
    from segcli.core.recipe.own_data import needs_folder

    families: list[str] = describe(needs_folder(data))["families"]
    return families


def _tell(text: str) -> None:
    print(text, file=sys.stderr)
