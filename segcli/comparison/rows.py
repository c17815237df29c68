"""Rows of the comparison, read from finished runs (no torch) or measured on models built from recipes."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from segcli.errors import ModelError, SegcliError
from segcli.recipe import Recipe, find_source

Row = dict[str, Any]


def collect(
    items: Sequence[str | Path], announce: Callable[[str], None]
) -> tuple[list[Row], list[tuple[str, SegcliError]]]:
    """One row for every run folder or recipe in `items`, and what could not be read: (item, why).

    A row is as `compare --json` prints it (CONTRACT), with what a table needs besides: "path", "task", "primary",
    "split", "images", "train_seconds", "measured_on", "notes". What is not known is None: untrained recipes have no
    metrics. `announce` is told before something slow begins.
    """
    rows, failed = [], []
    seen: set[Path] = set()
    for item in items:
        try:
            path = find_source(item)
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            if path.is_dir():
                rows.append(run_row(path))
            else:
                recipe = Recipe.load(path)
                from segcli.comparison.untrained import recipe_row  # imports torch: not for finished runs

                rows.append(recipe_row(str(item), recipe, announce))
        except SegcliError as error:
            failed.append((str(item), error))
    called = Counter(row["name"] for row in rows)
    for row in rows:  # sentences and pairs name rows: two of one name would be mixed up
        if called[row["name"]] > 1:
            row["name"] = row["path"] or row["name"]
    return rows, failed


def run_row(path: Path) -> Row:
    """A finished run's row. Raises ModelError naming the file that is missing or broken."""
    recipe = Recipe.load(path / "recipe.yaml")
    scores, cost, environment = (_read(path, f"{name}.json") for name in ("metrics", "cost", "environment"))
    try:
        dataset = environment["dataset"]
        return {
            **describe(recipe),
            "name": path.name,
            "source": "run",
            "path": str(path),
            "data": dataset["name"],
            "fingerprint": dataset["fingerprint"],
            "split": scores.get("split", recipe.eval.split),
            "images": scores["images"],
            "primary": scores["primary"],
            **cost_cells(cost),
            "train_seconds": cost["train_seconds"],
            "metrics": _scores(path, scores["metrics"]),
            "nms": scores.get("nms", {}),
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: metrics.json, cost.json or environment.json lacks {error}") from error


def describe(recipe: Recipe) -> Row:
    """The cells that a recipe alone decides; those that others fill are None."""
    model = recipe.model
    return {
        "name": recipe.name,
        "source": "recipe",
        "model": model["name"],
        "variant": model.get("variant"),
        "heads": sorted(model["heads"]) if isinstance(model.get("heads"), dict) else None,
        "backbone": backbone_name(model.get("backbone")),
        "data": recipe.data.name or Path(recipe.data.root).name,
        "params": None,
        "params_published": None,
        "gflops": None,
        "gflops_paper_rule": None,
        "gflops_published": None,
        "latency_ms": None,
        "peak_memory_mb": None,
        "metrics": {},
        "metrics_published": {},
        "ci95": {},
        "pareto": False,
        "path": None,
        "task": recipe.task,
        "primary": recipe.primary,
        "fingerprint": None,
        "split": recipe.eval.split,
        "split_names": split_digest(recipe),
        "images": None,
        "train_seconds": None,
        "gflops_input": None,
        "gflops_dataset": None,
        "machine": None,
        "measured_on": None,
        "nms": {},
        "forecast": None,
        "notes": [],
    }


def cost_cells(cost: dict[str, Any]) -> Row:
    """What a row takes from cost.json. Raises KeyError where a key is missing."""
    wanted = ("params", "gflops", "gflops_paper_rule", "latency_ms", "peak_memory_mb", "gflops_input")
    added = ("gflops_dataset", "machine", "measured_on")  # runs of earlier versions lack some
    return {**{key: cost[key] for key in wanted}, **{key: cost.get(key) for key in added}}


def backbone_name(backbone: Any) -> str | None:
    """{name: resnet, depth: 50} -> "resnet50", {name: swin, variant: tiny} -> "swin-tiny"; timm models: their own."""
    if not isinstance(backbone, dict) or "name" not in backbone:
        return backbone if isinstance(backbone, str) else None
    if "model" in backbone:
        return str(backbone["model"])
    return f"{backbone['name']}{backbone.get('depth', '')}" + (
        f"-{backbone['variant']}" if "variant" in backbone else ""
    )


def split_digest(recipe: Recipe) -> str | None:
    """What tells one division into splits from another on the same data: a hash of the split file, or its name."""
    if recipe.data.split_file is None:
        return None
    file = recipe.resolve(recipe.data.split_file)
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file.is_file() else recipe.data.split_file


def _scores(path: Path, metrics: dict[str, Any]) -> dict[str, float]:
    """Those that were measured. Raises ModelError for one that is no number."""
    for key, value in metrics.items():
        if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value)):
            raise ModelError(f"{path}/metrics.json: {key} is {value!r}, no score", hint=f"segcli eval {path}")
    return {k: v for k, v in metrics.items() if v is not None}


def _read(run: Path, name: str) -> dict[str, Any]:
    path = run / name
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: missing, the run is not finished", hint=f"segcli train --resume {run}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: can't be read: {error}") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path}: not a JSON object")
    return data
