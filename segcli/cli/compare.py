"""`segcli compare`."""

import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segcli.cli import options, output, tables
from segcli.core.errors import ModelError, SegcliError, UsageError

if TYPE_CHECKING:
    from segcli.compare.row import Row

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
    if train and not items and data is None:
        raise UsageError("--train needs recipes, or --data", hint="segcli compare quickstart/mask_rcnn --train")
    if data is not None and not items:
        if not train:
            raise UsageError("--data needs recipes, or --train", hint=f"segcli compare --train --data {data}")
        items = _families(data)
    chosen = items or ([] if published else sorted(str(p.parent) for p in Path("runs").glob("*/recipe.yaml")))
    if not chosen and not published:
        raise ModelError("there is no run below runs/", hint="segcli train quickstart/mask_rcnn, or name a recipe")
    from segcli.compare import files, intervals, ranking
    from segcli.compare.choice import choices
    from segcli.compare.curves import add_time_to_score
    from segcli.compare.published import published_rows
    from segcli.compare.rows import collect
    from segcli.compare.verdict import verdict

    announce = (lambda text: None) if quiet else _tell
    files.check(force, csv=csv, plot=plot, html=html)
    untrained: list[tuple[str, SegcliError]] = []
    if train:
        from segcli.compare.study import train_missing

        chosen, untrained = train_missing(chosen, announce, data=data, minutes=minutes, quiet=quiet)
    rows, failed = collect(chosen, announce, data)
    failed = [*untrained, *failed]
    rows += published_rows() if published else []
    if not rows:
        raise (
            failed[0][1]
            if len(failed) == 1
            else ModelError("; ".join(str(error) for _, error in failed), hint=failed[0][1].hint)
        )
    groups = ranking.rank(rows, sort)
    add_time_to_score(groups)
    resamples = intervals.attach(rows)
    metrics = [ranking.metrics_of(group) for group in groups]
    pairs = [intervals.pairs(group, resamples, keys) for group, keys in zip(groups, metrics, strict=True)]
    verdicts = [verdict(*one) for one in zip(groups, pairs, metrics, strict=True)]
    chosen_models = [*chain(*(choices(*one) for one in zip(groups, pairs, metrics, strict=True)))]
    for _, error in failed:
        print(f"skipped: {error}", file=sys.stderr)
    document = files.document(groups, failed, [*chain(*pairs)], [*chain(*verdicts), *chosen_models])
    if json:
        output.print_json(document)
    else:
        _show(groups, verdicts, rows)
        for sentence in chosen_models:
            typer.echo(sentence)
    if csv is not None:
        files.write_csv(groups, csv)
    for note in files.plot(groups, plot, force) if plot is not None else ():
        announce(note)
    if html is not None:
        from segcli.compare.report import write_report

        missing = write_report(groups, html, pairs=[*chain(*pairs)], verdicts=[*chain(*verdicts)], skipped=failed)
        for note in [*missing, f"report: {html}"]:
            announce(note)


def _show(groups: Sequence[Sequence["Row"]], verdicts: Sequence[Sequence[str]], rows: Sequence["Row"]) -> None:
    """The tables, each with its sentences; forecasts; notes."""
    from segcli.compare import ranking

    for number, (group, sentences) in enumerate(zip(groups, verdicts, strict=True)):
        if number:
            typer.echo()
        output.show(tables.comparison(group, ranking.accuracy(group), ranking.group_title(group)))
        for sentence in sentences:
            typer.echo(sentence)
    forecasts = tables.forecasts(rows)
    if forecasts is not None:
        output.show(forecasts)
    for note in ranking.notes(groups):
        typer.echo(f"note: {note}")


def _families(data: Path) -> list[str]:
    """The recipes for one's own data that suit a prepared dataset's labels."""
    from segcli.commands.prepare import describe
    from segcli.core.recipe.own_data import needs_folder

    families: list[str] = describe(needs_folder(data))["families"]
    return families


def _tell(text: str) -> None:
    print(text, file=sys.stderr)
