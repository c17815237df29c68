"""`compare --html`: everything that is known of the compared models as one HTML file that needs no network."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segcli.compare.curves import curves
from segcli.compare.disagreement import most_disagreed
from segcli.compare.ranking import accuracy, group_title
from segcli.compare.row import Row
from segcli.core.errors import UsageError
from segcli.core.files import read_yaml
from segcli.core.run_files import read_cost, read_environment, read_metrics
from segcli.drawing.page import page
from segcli.predictions.coco_results import write_bytes

ENVIRONMENT = ("segcli", "torch", "torchvision", "python", "platform", "device", "threads", "seed", "git")
LEFT_OUT = ("name", "expect")  # recipe keys that say nothing about how a run was made


def write_report(document: dict[str, Any], groups: Sequence[Sequence[Row]], path: Path) -> list[str]:
    """Write the report of `document` (what `compare --json` prints), whose rows stand in `groups`. -> notes on what
    could not be shown. Raises SegcliError where the file can't be written."""
    shown, notes = [], []
    number = 0
    for group in groups:
        pictures, missing = most_disagreed(group)
        notes += missing
        runs = [row for row in group if row.source == "run"]
        shown.append(
            {
                "title": group_title(group),
                "metric": accuracy(group),
                "rows": list(range(number, number + len(group))),
                "pictures": pictures,
                "recipes": recipe_differences(runs),
            }
        )
        number += len(group)
    rows = [row for group in groups for row in group]
    details = [_details(row) if row.source == "run" else {} for row in rows]
    text = page({"document": document, "groups": shown, "details": details, "notes": notes})
    write_bytes(path, text.encode("utf-8"))
    return notes


def recipe_differences(runs: Sequence[Row]) -> list[dict[str, Any]]:
    """The recipe keys in which runs differ: [{"key", "values": one text a run, "" where it has no such key}]."""
    flat = [_flatten(read_yaml(Path(row.path or "") / "recipe.yaml", error=UsageError)) for row in runs]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    out = []
    for key in keys:
        values = [one.get(key, "") for one in flat]
        if key not in LEFT_OUT and not key.startswith("expect.") and len(set(values)) > 1:
            out.append({"key": key, "values": values})
    return out


def _flatten(value: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(value, dict) and value:
        return {k: v for key, one in value.items() for k, v in _flatten(one, f"{prefix}{key}.").items()}
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return {prefix.removesuffix("."): text}


def _details(row: Row) -> dict[str, Any]:
    """What a row's run folder holds besides: {"log", "per_class", "cost", "environment", "dataset", "weights"}."""
    run = Path(row.path or "")
    scores, cost, environment = read_metrics(run), read_cost(run), read_environment(run)
    dataset = environment.get("dataset") or {}
    return {
        "log": curves(run)._asdict(),
        "per_class": scores.get("per_class") or {},
        "cost": {key: cost.get(key) for key in ("parts", "flops_operators", "flops_uncounted", "gflops_input")},
        "environment": {key: environment.get(key) for key in ENVIRONMENT},
        "dataset": {key: dataset.get(key) for key in ("name", "licence", "citation", "source", "fingerprint")},
        "weights": environment.get("weights") or [],
    }
