"""`segcli compare`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from segcli.cli import options, output, tables
from segcli.errors import ModelError

HELP = options.example(
    "compare runs/quickstart-mask_rcnn quickstart/faster_rcnn",
    "compare --sort gflops --csv table.csv --plot gflops_ap.svg",
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
    sort: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Sort by gflops, params, latency_ms, …, name, or a metric such as bbox_AP."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write every column as CSV.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw GFLOPs against accuracy (.svg, .png or .pdf).")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Print what models cost against what they score: parameters, GFLOPs, latency, memory, training time, AP.

    A star marks the rows that no other row beats: none has fewer GFLOPs and a higher score.
    """
    from segcli.comparison import files, ranking
    from segcli.comparison.rows import collect

    chosen = items or sorted(str(p.parent) for p in Path("runs").glob("*/recipe.yaml"))
    if not chosen:
        raise ModelError("there is no run below runs/", hint="segcli train quickstart/mask_rcnn, or name a recipe")
    rows, failed = collect(chosen, announce=(lambda text: None) if quiet else _tell)
    if not rows:
        raise (
            failed[0][1]
            if len(failed) == 1
            else ModelError("; ".join(str(error) for _, error in failed), hint=failed[0][1].hint)
        )
    groups = ranking.rank(rows, sort)
    for _, error in failed:
        print(f"skipped: {error}", file=sys.stderr)
    if csv is not None:
        files.write_csv(groups, csv)
    if plot is not None:
        for path in files.plot(groups, plot):
            if not quiet:
                print(f"plot: {path}", file=sys.stderr)
    if json:
        output.print_json(files.document(groups, failed))
        return
    for group in groups:
        output.show(tables.comparison(group, ranking.accuracy(group), ranking.group_title(group)))
    for note in ranking.notes(groups):
        typer.echo(f"note: {note}")


def _tell(text: str) -> None:
    print(text, file=sys.stderr)
