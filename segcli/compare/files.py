"""The comparison as files: the JSON document, CSV, and one plot a group."""

import csv
import dataclasses
import io
import os
import re
from collections.abc import Mapping, Sequence
from itertools import chain, count
from pathlib import Path

from segcli.compare.intervals import Pair
from segcli.compare.ranking import accuracy, group_title, notes
from segcli.compare.row import Row
from segcli.core.errors import UsageError
from segcli.core.files import open_regular, write_text
from segcli.core.folders import real

COLUMNS = [
    *("name", "source", "model", "variant", "backbone", "data", "split", "params", "params_published"),
    *("gflops", "gflops_paper_rule", "gflops_published"),
    *("gflops_mean", "gflops_sd", "latency_ms", "latency_ms_p95", "machine_share", "peak_memory_mb", "train_seconds"),
    *("train_cpu_seconds", "train_gflops", "train_steps", "images_seen", "diagnosis", "not_compared"),
    *("seconds_to_score", "score_reached", "pareto"),
]


def document(
    groups: Sequence[Sequence[Row]],
    failed: Sequence[tuple[str, Exception]],
    pairs: Sequence[Pair] = (),
    verdicts: Sequence[str] = (),
) -> dict[str, object]:
    """What `compare --json` prints: rows in the order of the table, pairs of runs, sentences, and what was skipped."""
    return {
        "schema_version": 1,
        "rows": [dataclasses.asdict(row) for group in groups for row in group],
        "pairs": [dataclasses.asdict(pair) for pair in pairs],
        "verdict": list(verdicts),
        "notes": notes(groups),
        "skipped": [{"item": item, "error": str(error)} for item, error in failed],
    }


def write_csv(groups: Sequence[Sequence[Row]], path: Path) -> None:
    """One line a row: costs, then every metric that any row has (fractions 0..1); an empty cell is an unknown.

    Text that a spreadsheet would run as a formula begins with an apostrophe (see `as_text`).
    """
    rows = [row for group in groups for row in group]
    metrics = list(dict.fromkeys(key for row in rows for key in row.all_scores))
    bounds = [key for key in metrics if any(key in row.ci95 for row in rows)]
    ends = [f"{key}_{end}" for key in bounds for end in ("low", "high")]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([as_text(key) for key in [*COLUMNS, *metrics, *ends]])
    for row in rows:
        cells = _cells(row)
        table.writerow(["" if cells.get(key) is None else as_text(cells[key]) for key in [*COLUMNS, *metrics, *ends]])
    write_text(path, text.getvalue())


def _cells(row: Row) -> dict[str, object]:
    """Column -> value; keys that are no column are left out by `write_csv`."""
    latency: Mapping[str, object] = row.latency_ms or {}
    reached = row.time_to_score
    cells: dict[str, object] = {
        **vars(row),
        "gflops_mean": row.gflops_dataset and row.gflops_dataset["mean"],
        "gflops_sd": row.gflops_dataset and row.gflops_dataset.get("sd"),
        "latency_ms": latency.get("median"),
        "latency_ms_p95": latency.get("p95"),
        "machine_share": row.machine and row.machine.get("share"),
        "seconds_to_score": reached and reached["seconds"],
        "score_reached": reached and reached["score"],
        "diagnosis": ", ".join(row.diagnosis) or None,
        "not_compared": ", ".join(row.not_compared) or None,
        **row.all_scores,
    }
    for key, (low, high) in row.ci95.items():
        cells |= {f"{key}_low": low, f"{key}_high": high}
    return cells


def as_text(value: object) -> object:
    """A cell that no spreadsheet takes for a formula: an apostrophe before text that begins like one and is no number.

    Names of runs and datasets come from elsewhere, and Excel and LibreOffice run what begins with one of FORMULA.
    """
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    try:
        float(value)
        return value
    except ValueError:
        return f"'{value}"


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")

KINDS = {  # option -> what a file has near its beginning that `compare` has written
    "csv": b"name,source,model,",
    "html": b'<meta name="generator" content="segcli',
    "plot": b"matplotlib",
}


def check(force: bool = False, **paths: Path | None) -> None:
    """Raise UsageError for a file that can't be written, before hours of training: the option's name is the key. One
    that is there is replaced where it is of the kind, or with `force`."""
    for option, path in paths.items():
        if path is None:
            continue
        if option == "plot":
            from segcli.drawing.plots import require_format  # imports matplotlib

            require_format(path)
        real(path.parent)
        there = next(folder for folder in path.absolute().parents if folder.exists())
        if path.is_dir() or not there.is_dir() or not os.access(there, os.W_OK):
            raise UsageError(f"--{option} {path}: can't be written there", hint="name a file in a folder of yours")
        if not force:
            refuse_other(option, path)
            if option == "plot":
                for more in ("training", "work"):  # the plots beside it
                    refuse_other(option, path.with_stem(f"{path.stem}-{more}"))


def refuse_other(option: str, path: Path) -> None:
    """Raise UsageError where `path` is there and no file of the kind that `option` writes."""
    if not os.path.lexists(path):
        return
    try:
        with open_regular(path) as file:
            begin = file.read(2**16).lower()
    except OSError:
        begin = b""  # whatever it is, it is none of ours
    if KINDS[option] not in begin:
        raise UsageError(
            f"--{option} {path}: is there already, and not a file that compare wrote with --{option}",
            hint="name another file, or replace it with --force",
        )


def plot(groups: Sequence[Sequence[Row]], path: Path, force: bool = False) -> list[str]:
    """GFLOPs against the group's metric, one picture for each group with scores: FILE, then FILE-DATA; training time
    against it as FILE-training, training's multiply-adds as FILE-work. -> what was written, and what could not be
    shown, a sentence each."""
    from segcli.drawing.plots import Point, pareto_plot  # imports matplotlib

    sentences: list[str] = []
    taken: set[Path] = set()

    def draw(rows: Sequence[Row], cost: str, metric: str, place: Path) -> None:
        names = (place.with_stem(f"{place.stem}-{i}") for i in count(2))  # of tables with one title
        place = next(p for p in chain([place], names) if p not in taken)
        taken.add(place)
        if not force:
            refuse_other("plot", place)
        points = [Point(r.name, r.model, _cost(r, cost), r.all_scores.get(metric), r.not_compared) for r in rows]
        left_out = pareto_plot(points, cost, metric, place)
        sentences.append(f"plot: {place}" + (f" (without {', '.join(left_out)})" if left_out else ""))

    for group in groups:
        metric = accuracy(group)
        known = [row for row in group if metric in row.all_scores]
        if metric is None or not any(row.gflops or row.gflops_published for row in known):
            continue
        title = re.sub(r"[^\w.-]+", "-", group_title(group))
        place = path.with_stem(f"{path.stem}-{title}") if taken else path
        draw(group, "gflops", metric, place)
        if any(row.train_seconds for row in known):
            draw(group, "train_seconds", metric, place.with_stem(f"{place.stem}-training"))
        if any(row.train_gflops for row in known):
            draw(group, "train_gflops", metric, place.with_stem(f"{place.stem}-work"))
    return sentences or [f"plot: no row has both GFLOPs and a score, so {path} is not drawn"]


def _cost(row: Row, key: str) -> float | None:
    """A cost to draw: what the paper reports where no GFLOPs were counted."""
    return row.cost(key) or row.gflops_published if key == "gflops" else row.cost(key)
