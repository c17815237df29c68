"""Rows of the comparison, read from finished runs (no torch) or measured on models built from recipes."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from segcli.compare.row import Row, describe
from segcli.core.errors import ModelError, SegcliError
from segcli.core.exported_files import is_exported, results
from segcli.core.recipe.recipe import Recipe, find_source
from segcli.core.run_files import read_cost, read_environment, read_log, read_metrics


def collect(
    items: Sequence[str | Path], announce: Callable[[str], None], data: Path | None = None
) -> tuple[list[Row], list[tuple[str, SegcliError]]]:
    """One row for every run folder or recipe in `items`, and what could not be read: (item, why). data: the dataset
    that recipes are measured for, in place of their own.

    `announce` is called before something slow begins.
    """
    rows, failed = [], []
    taken: set[Path] = set()
    for item in items:
        try:
            path = find_source(item)
            if path.resolve() in taken:
                continue
            taken.add(path.resolve())
            if is_exported(path):
                rows.append(exported_row(path))
            elif path.is_dir():
                rows.append(run_row(path))
            else:
                recipe = Recipe.load(path, data=data)
                from segcli.compare.untrained import recipe_row  # imports torch: not for finished runs

                rows.append(recipe_row(str(item), recipe, announce))
        except SegcliError as error:
            failed.append((str(item), error))
    _one_kind(rows)
    called = Counter(row.name for row in rows)
    for row in rows:  # sentences and pairs name rows: two of one name would be mixed up
        if called[row.name] > 1:
            row.name = row.path or row.name
    return rows, failed


def run_row(path: Path) -> Row:
    """A finished run's row. Raises ModelError naming the file that is missing or broken."""
    recipe = Recipe.load(path / "recipe.yaml")
    scores, environment = read_metrics(path), read_environment(path)
    row = describe(recipe)
    row.take_cost(read_cost(path))
    read_log(path)  # a broken one is this run's fault, not that of whoever draws its curves later
    dataset = environment["dataset"]
    row.name, row.source, row.path, row.data = path.name, "run", str(path), dataset["name"]
    row.fingerprint = scores.get("fingerprint") or dataset.get("fingerprint")  # its own where the data has changed
    row.split = scores.get("split") or recipe.eval.split
    row.images, row.primary = scores["images"], scores["primary"]
    row.starts = " and ".join(one["source"] for one in environment.get("weights") or ()) or "random weights"
    row.diagnosis = [found["cause"] for found in scores.get("diagnosis") or ()]
    row.enough_steps = next((steps for found in scores.get("diagnosis") or () if (steps := found.get("steps"))), None)
    row.metrics = _measured(scores["metrics"])
    row.nms = {setting: _measured(found) for setting, found in scores.get("nms", {}).items()}
    if scores.get("data_changed"):
        row.notes = [f"{path.name} was scored on data that has changed since"]
    return row


def exported_row(path: Path) -> Row:
    """The row of an exported model's file: its scores and its latency are its own, all else is its run's. Raises
    ModelError where the file was not scored."""
    folder = results(path)
    if not (folder / "metrics.json").is_file():
        raise ModelError(f"{path}: was not scored", hint=f"segcli eval {path}")
    row = run_row(folder)
    row.name = path.name
    if row.latency_ms is not None:
        row.notes.append(f"{path.name}'s latency is of the whole file: resizing the image and drawing masks included")
    return row


def _measured(scores: dict[str, float | None]) -> dict[str, float]:
    return {key: value for key, value in scores.items() if value is not None}


def _one_kind(rows: Sequence[Row]) -> None:
    """Give runs of earlier versions the fingerprint of today where others have it and their data is still the same."""
    kinds = {len(row.fingerprint) == 64 for row in rows if row.fingerprint}
    for row in rows if len(kinds) > 1 else ():
        if row.path and row.fingerprint and len(row.fingerprint) == 64:
            from segcli.data.fingerprint import changes, current  # imports numpy and more: seldom needed

            try:
                root = Path(Recipe.load(Path(row.path) / "recipe.yaml").data.root)
                if (root / "info.json").is_file() and changes(row.fingerprint, root) == []:
                    row.fingerprint = current(root)
            except SegcliError as error:
                row.notes.append(f"{row.name}: whether its data is the same can't be told: {error}")
