"""Rows of the comparison, read from finished runs (no torch) or measured on models built from recipes."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from segcli.core.errors import SegcliError
from segcli.core.recipe.recipe import Recipe, find_source
from segcli.core.run_files import read_cost, read_environment, read_log, read_metrics

Row = dict[str, Any]
# what a training took, all processes together; runs of earlier versions have the first and the last
WORK = ("train_seconds", "train_cpu_seconds", "train_gflops", "train_steps", "images_seen")


def collect(
    items: Sequence[str | Path], announce: Callable[[str], None]
) -> tuple[list[Row], list[tuple[str, SegcliError]]]:
    """One row for every run folder or recipe in `items`, and what could not be read: (item, why).

    A row is as `compare --json` prints it (CONTRACT), with what a table needs besides: "path", "task", "primary",
    "split", "images", what its training took (WORK), "diagnosis", "measured_on", "notes". What is not known is None:
    untrained recipes have no metrics. `announce` is told before something slow begins.
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
                from segcli.compare.untrained import recipe_row  # imports torch: not for finished runs

                rows.append(recipe_row(str(item), recipe, announce))
        except SegcliError as error:
            failed.append((str(item), error))
    _one_kind(rows)
    called = Counter(row["name"] for row in rows)
    for row in rows:  # sentences and pairs name rows: two of one name would be mixed up
        if called[row["name"]] > 1:
            row["name"] = row["path"] or row["name"]
    return rows, failed


def run_row(path: Path) -> Row:
    """A finished run's row. Raises ModelError naming the file that is missing or broken."""
    recipe = Recipe.load(path / "recipe.yaml")
    scores, cost, environment = read_metrics(path), read_cost(path), read_environment(path)
    read_log(path)  # a broken one is this run's fault, not that of whoever draws its curves later
    dataset = environment["dataset"]
    return {
        **describe(recipe),
        "name": path.name,
        "source": "run",
        "path": str(path),
        "data": dataset["name"],
        "fingerprint": scores.get("fingerprint") or dataset.get("fingerprint"),  # its own where the data has changed
        "split": scores.get("split") or recipe.eval.split,
        "images": scores["images"],
        "primary": scores["primary"],
        **cost_cells(cost),
        **{key: cost.get(key) for key in WORK},
        "diagnosis": [found["cause"] for found in scores.get("diagnosis") or ()],
        "metrics": {key: value for key, value in scores["metrics"].items() if value is not None},
        "nms": {
            setting: {key: value for key, value in found.items() if value is not None}
            for setting, found in scores.get("nms", {}).items()
        },
        "notes": [f"{path.name} was scored on data that has changed since"] if scores.get("data_changed") else [],
    }


def describe(recipe: Recipe) -> Row:
    """The cells that a recipe alone decides; those that others fill are None."""
    model = recipe.model
    return {
        "name": recipe.name,
        "source": "recipe",
        "model": model["name"],
        "variant": None if model.get("variant") is None else str(model["variant"]),  # no model was built of it yet
        "heads": sorted(map(str, model["heads"])) if isinstance(model.get("heads"), dict) else None,
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
        **dict.fromkeys(WORK),
        "diagnosis": [],
        "not_compared": [],
        "gflops_input": None,
        "gflops_dataset": None,
        "machine": None,
        "measured_on": None,
        "nms": {},
        "forecast": None,
        "notes": [],
    }


def _one_kind(rows: Sequence[Row]) -> None:
    """Give runs of earlier versions the fingerprint of today where others have it and their data is still the same."""
    kinds = {len(row["fingerprint"] or "") == 64 for row in rows if row["fingerprint"]}
    for row in rows if len(kinds) > 1 else ():
        if row["path"] and row["fingerprint"] and len(row["fingerprint"]) == 64:
            from segcli.data.fingerprint import changes, current  # imports numpy and more: seldom needed

            try:
                root = Path(Recipe.load(Path(row["path"]) / "recipe.yaml").data.root)
                if (root / "info.json").is_file() and changes(row["fingerprint"], root) == []:
                    row["fingerprint"] = current(root)
            except SegcliError as error:
                row["notes"] = [*row["notes"], f"{row['name']}: whether its data is the same can't be told: {error}"]


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
