"""`compare --html`: everything that is known of the compared models as one HTML file that needs no network.

Texts, sort keys, intervals and order are made here; the page's script shows, sorts and filters them.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from segcli.compare import tables
from segcli.compare.behind import behind
from segcli.compare.curves import curves
from segcli.compare.disagreement import most_disagreed
from segcli.compare.intervals import Pair
from segcli.compare.ranking import accuracy, group_title, notes
from segcli.compare.row import Row
from segcli.core.errors import UsageError
from segcli.core.formatting import MISSING, heading, is_fraction, number, score
from segcli.core.run_files import read_cost, read_environment, read_metrics
from segcli.core.yaml_file import read_yaml
from segcli.drawing.page import page
from segcli.predictions.coco_results import write_bytes

ENVIRONMENT = ("segcli", "torch", "torchvision", "python", "platform", "device", "threads", "seed", "git")
LEFT_OUT = ("name", "expect")  # recipe keys that say nothing about how a run was made
MAIN = re.compile(r"_AP$|^(mIoU|PQ)$")  # scores before the costs
USUAL = re.compile(r"_(AP|AP50|APs|APm|APl)$|^(mIoU|PQ|SQ|RQ)$")  # scores among the table's first columns
FORECAST = "Recipes that are not trained: what training takes here"
PAIRS = "Every pair: a − b and its 95 % interval"
SMOOTH = 0.15  # share of a new loss in the moving average
SCRIPTS = ("page.js", "report_pictures.js", "report_errors.js", "report.js")
Json = dict[str, object]


class PlainTable(TypedDict):
    """A table that does not sort: its first column names the lines."""

    caption: str
    titles: list[str]
    lines: list[list[str]]


def write_report(
    groups: Sequence[Sequence[Row]],
    path: Path,
    *,
    pairs: Sequence[Pair] = (),
    verdicts: Sequence[str] = (),
    skipped: Sequence[tuple[str, Exception]] = (),
) -> list[str]:
    """Write the report of rows in groups, with the pairs and sentences about them. -> notes on what could not be shown.

    Raises SegcliError where the file can't be written.
    """
    rows = [row for group in groups for row in group]
    runs = [i for i, row in enumerate(rows) if row.source == "run"]
    parts, missing = [], []
    start = 0
    for group in groups:
        pictures, more = most_disagreed(group)
        missing += more
        behind_runs = {}
        for i, row in enumerate(group, start=start):
            if row.source == "run":
                behind_runs[i], more = behind(row)
                missing += more
        known = {i: one for i, one in behind_runs.items() if one is not None}
        parts.append(_group(group, range(start, start + len(group))) | {"pictures": pictures, "behind": known})
        start += len(group)
    remarks = [*notes(groups), *missing, *(f"skipped {item}: {error}" for item, error in skipped)]
    shown = {
        "rows": [{"name": row.name, "model": row.model, "not_compared": row.not_compared} for row in rows],
        "groups": parts,
        "verdict": list(verdicts),
        "notes": list(dict.fromkeys(remarks)),
        "pairs": _pairs(pairs),
        "forecasts": _forecasts(rows),
        "costs": [{"row": i, **_costs(rows[i])} for i in runs],
        "environment": _environment([rows[i] for i in runs]) if runs else None,
    }
    write_bytes(path, page(shown, title="segcli compare", scripts=SCRIPTS, with_plotly=True).encode("utf-8"))
    return missing


def _group(rows: Sequence[Row], numbers: Sequence[int]) -> Json:
    metric, title = accuracy(rows), group_title(rows)
    runs = {i: row for i, row in zip(numbers, rows, strict=True) if row.source == "run"}
    return {
        "title": title,
        "rows": list(numbers),
        "table": _table(rows, metric, title),
        "plot": _plot(rows, metric) if metric and len(rows) > 1 else None,
        "classes": _classes(runs, metric, title),
        "curves": _curves(runs, metric),
        "recipes": {
            "caption": title,
            "titles": ["key", *(row.name for row in runs.values())],
            "lines": recipe_differences(list(runs.values())),
        },
    }


def _metrics(rows: Sequence[Row], first: str | None) -> list[str]:
    """The scores that any row has, the group's own first."""
    return list(dict.fromkeys([*([first] if first else []), *(key for row in rows for key in row.all_scores)]))


def _named(metric: str) -> Json:
    """A score to choose: its title, the title of its axis, and its decimals where two are subtracted."""
    title, fraction = heading(metric, " "), is_fraction(metric)
    axis = f"{title} × 100" if fraction else title
    return {"key": metric, "title": title, "axis": axis, "digits": 1 if fraction else 3, "fraction": fraction}


def _points(metric: str, value: float | None) -> float | None:
    """A score in the unit of its axis; None where it is not known."""
    if value is None or not math.isfinite(value) or value < 0:
        return None
    return round(100 * value, 4) if is_fraction(metric) else value


def _table(rows: Sequence[Row], metric: str | None, title: str) -> Json:
    """Columns that any row has something for; a cell is [text, sort key], a score's with its interval."""
    metrics = _metrics(rows, metric)
    main = [key for key in metrics if key == metric or (metric and MAIN.search(key))]
    usual = [key for key in metrics if key not in main and USUAL.search(key)]
    rest = [key for key in metrics if key not in main and key not in usual]
    scored = lambda keys: [(tables.score_column(key), key) for key in keys]
    plain = lambda columns: [(column, None) for column in columns]
    first = [*scored(main), *plain([*tables.COST.values(), tables.MODEL, tables.BACKBONE])]
    first += scored(usual)
    more = [*scored(rest), *plain([*tables.time_to_score(rows), *tables.MORE])]
    columns = [(tables.NAME, None), *first, *more]
    kept = [(c, key, (c, key) in more) for c, key in columns if any(c.order(row) is not None for row in rows)]
    caption = ": ".join(filter(None, tables.star_caption(rows, metric).split(" ", 1)))
    return {
        "caption": " · ".join(filter(None, (title, caption))),
        "columns": [
            {"title": c.title, "left": c.left, "less": c.less, "main": key is not None and key == metric, "more": extra}
            for c, key, extra in kept
        ],
        "cells": [
            [
                [
                    f"★ {row.name}" if c is tables.NAME and row.pareto else c.text(row),
                    c.order(row),
                    *([tables.interval(row, key)] if key and key in row.ci95 else []),
                ]
                for c, key, _ in kept
            ]
            for row in rows
        ],
    }


def _plot(rows: Sequence[Row], metric: str | None) -> Json:
    """Costs and scores of each row in the units of the axes; a score is [value, low, high]."""
    costs = {key: column for key, column in tables.COST.items() if any(row.cost(key) is not None for row in rows)}
    metrics = _metrics(rows, metric)
    in_unit = lambda value, unit: None if value is None else value / unit
    return {
        "costs": [[key, column.title.replace("\n", ", ")] for key, column in costs.items()],
        "scores": [_named(key) for key in metrics],
        "rows": [
            {
                "costs": {key: in_unit(row.cost(key), column.unit) for key, column in costs.items()},
                "scores": {
                    key: [_points(key, v) for v in (tables.known_score(row, key), *row.ci95.get(key, ()))]
                    for key in metrics
                },
            }
            for row in rows
        ],
    }


def _classes(runs: dict[int, Row], metric: str | None, title: str) -> Json | None:
    """Every class's scores by run: [text, number in the axis' unit]. None where no run has any."""
    found = {i: read_metrics(Path(row.path or "")).get("per_class") or {} for i, row in runs.items()}
    found = {i: classes for i, classes in found.items() if classes}
    names = list(dict.fromkeys(name for classes in found.values() for name in classes))
    keys = list(dict.fromkeys(key for classes in found.values() for scores in classes.values() for key in scores))
    keys.sort(key=lambda key: key != metric)
    cell = lambda key, value: [score(key, value), _points(key, value)]
    return (
        {
            "caption": f"of each class, {title}",
            "names": names,
            "scores": [_named(key) for key in keys],
            "runs": {
                i: {key: [cell(key, classes.get(name, {}).get(key)) for name in names] for key in keys}
                for i, classes in found.items()
            },
        }
        if found
        else None
    )


def _curves(runs: dict[int, Row], metric: str | None) -> Json | None:
    """[step, minutes, smoothed loss] and [step, minutes, {metric: number in the axis' unit}] of each run with a log."""
    logs = {i: log for i, row in runs.items() if any(log := curves(Path(row.path or "")))}
    keys = [key for log in logs.values() for *_, scores in log.scores for key in scores]
    keys = [*([metric] if metric else []), *keys]
    drawn: dict[int, Json] = {}
    for i, log in logs.items():
        mean = 0.0
        losses: list[list[float | None]] = []
        for step, seconds, loss in log.loss:
            mean = mean + SMOOTH * (loss - mean) if losses else loss
            losses.append([step, None if seconds is None else seconds / 60, mean])
        scored = [[step, s / 60, {k: _points(k, v) for k, v in scores.items()}] for step, s, scores in log.scores]
        drawn[i] = {"loss": losses, "scores": scored}
    return {"runs": drawn, "scores": [_named(key) for key in dict.fromkeys(keys)]} if drawn else None


def _pairs(pairs: Sequence[Pair]) -> PlainTable | None:
    if not pairs:
        return None
    text = lambda pair, value: f"{value * (100 if is_fraction(pair.metric) else 1):.1f}"
    lines = [
        [
            *(pair.a, pair.b, heading(pair.metric, " "), text(pair, pair.delta)),
            f"{text(pair, pair.ci95[0])} to {text(pair, pair.ci95[1])}",
            f"not compared: {pair.unequal}" if pair.unequal else "yes" if pair.significant else "can't be told",
        ]
        for pair in pairs
    ]
    return PlainTable(caption=PAIRS, titles=["a", "b", "score", "difference", "95 % interval", "real?"], lines=lines)


def _forecasts(rows: Sequence[Row]) -> PlainTable | None:
    lines = tables.forecast_cells(rows)
    titles = ["name", *(title.replace("\n", ", ") for title in tables.FORECAST), "this machine", ""]
    return PlainTable(caption=FORECAST, titles=titles, lines=lines) if lines else None


def _costs(row: Row) -> Json:
    """The parts of a run's model, and how its latency was measured."""
    cost, where = read_cost(Path(row.path or "")), row.measured_on or {}
    latency: Mapping[str, object] = row.latency_ms or {}
    known = lambda values, key: values.get(key, "?")
    text = (
        f"At {' × '.join(map(str, row.gflops_input or ()))}, 1 multiply-add = 1 FLOP. Not counted, with the share of "
        f"all calls that compute: {tables.not_counted(cost)}. Latency on {known(where, 'device')}, "
        f"{known(where, 'threads')} threads, batch {known(where, 'batch')}, {known(latency, 'repeats')} runs after "
        f"{known(latency, 'warmup')} to warm up"
    )
    if row.machine and (share := row.machine.get("share")) is not None:
        text += f"; {share:.0%} of the {number(row.machine.get('gflops_per_second'))} GFLOP/s of a large matrix product"
    titles = ["part", "params, M", "GFLOPs", "regions × GFLOPs of each"]
    table = PlainTable(caption=f"cost of {row.name} by part", titles=titles, lines=tables.part_cells(cost))
    return {"table": table, "text": f"{text}."}


def _environment(runs: Sequence[Row]) -> PlainTable:
    """Versions, data and licences of every run."""
    found = [read_environment(Path(row.path or "")) for row in runs]
    data = [one["dataset"] for one in found]
    weights = [
        "; ".join(f"{w['source']}: {w.get('licence') or 'licence unknown'}" for w in one.get("weights") or ())
        for one in found
    ]
    lines = [[key, *(one.get(key) for one in found)] for key in ENVIRONMENT]
    lines += [["dataset", *(one["name"] for one in data)], ["its licence", *(one.get("licence") for one in data)]]
    lines += [["its version", *((one.get("fingerprint") or "")[:12] for one in data)]]
    lines += [["weights and their licences", *(one or "random" for one in weights)]]
    texts = [[MISSING if cell is None else str(cell) for cell in line] for line in lines]
    return PlainTable(caption="environment", titles=["", *(row.name for row in runs)], lines=texts)


def recipe_differences(runs: Sequence[Row]) -> list[list[str]]:
    """The recipe keys in which runs differ: [key, one text a run, "" where it has no such key]."""
    flat = [_flatten(read_yaml(Path(row.path or "") / "recipe.yaml", error=UsageError)) for row in runs]
    out = []
    for key in dict.fromkeys(key for one in flat for key in one):
        values = [one.get(key, "") for one in flat]
        if key not in LEFT_OUT and not key.startswith("expect.") and len(set(values)) > 1:
            out.append([key, *values])
    return out


def _flatten(value: object, prefix: str = "") -> dict[str, str]:
    if isinstance(value, dict) and value:
        return {k: v for key, one in value.items() for k, v in _flatten(one, f"{prefix}{key}.").items()}
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return {prefix.removesuffix("."): text}
