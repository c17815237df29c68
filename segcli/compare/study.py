"""`segcli compare RECIPE… --train`: train what has not been trained, one after the other, and go on past failures."""

import json
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segcli.compare.row import split_digest
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import ModelError, SegcliError
from segcli.core.parent import begin_training, training_error
from segcli.core.recipe.recipe import Recipe, find_source
from segcli.core.run_files import read_environment

RUNS = Path("runs")
LENGTHS = ("minutes", "steps", "epochs", "retimed")  # a run has the steps that its minutes became


def train_missing(
    items: Sequence[str | Path],
    announce: Callable[[str], None],
    *,
    data: Path | None = None,
    minutes: float | None = None,
    overrides: Mapping[str, object] | None = None,
    quiet: bool = False,
) -> tuple[list[str], list[tuple[str, SegcliError]]]:
    """The run folders of `items` (recipes and run folders), trained where they are not finished. -> (folders, failed).

    data: the dataset that recipes are trained on, in place of their own. minutes: of training, in place of their own
    length; overrides: of their keys. A recipe's run is one below runs/ with the same settings and the same data; an
    interrupted one is resumed. Each training is a `segcli train` of its own, whose output goes to stderr. What fails is
    named with its last error, and the next one begins. Raises KeyboardInterrupt after the running one has saved; the
    same command then goes on.
    """
    folders: list[str] = []
    failed: list[tuple[str, SegcliError]] = []
    sets = {**({} if minutes is None else {"train.minutes": minutes}), **(overrides or {})}
    flags = [
        *(["--data", str(data)] if data else []),
        *(f"--set={key}={json.dumps(value)}" for key, value in sets.items()),
    ]
    for number, item in enumerate(items, start=1):
        try:
            path = find_source(item)
            if path.is_dir():
                recipe = Recipe.load(path / "recipe.yaml")
            else:
                recipe = Recipe.load(path, sets, data=data)
            run = path if path.is_dir() else find_run(recipe)
            place = f"{item} ({number} of {len(items)})"
            if run is None:
                announce(f"training {place}")
                _train([str(item), *flags], quiet)
                run = find_run(recipe)
            elif not finished(run):
                saved = any((run / "checkpoints" / name).is_file() for name in ("last.pt", "previous.pt"))
                announce(f"{'resuming' if saved else 'starting again'} {run} for {place}")
                again = [str(item), *flags, "--out", str(run), "--force"] if not path.is_dir() and not saved else None
                _train(again or ["--resume", str(run)], quiet)
            else:
                announce(f"{place} is trained: {run}")
            if run is None or not finished(run):
                raise SegcliError(f"{item}: its training left no finished run below {RUNS}/")
            folders.append(str(run))
        except SegcliError as error:
            announce(f"failed: {error}")
            failed.append((str(item), error))
    return list(dict.fromkeys(folders)), failed


def find_run(recipe: Recipe) -> Path | None:
    """The run below runs/ that was trained by this recipe on the data that is there now: a finished one before an
    interrupted one, the newest first. None where there is none."""
    found, paths = [], [*RUNS.glob("*/recipe.yaml")]
    if paths:
        recipe = _as_trained(recipe)
    for path in paths:
        try:
            own = Recipe.load(path)
        except SegcliError:  # what is no readable recipe is no run of this one
            continue
        same = _settings(own, recipe) == _settings(recipe, recipe) and _same_weights(own, recipe)
        if same and _same_minutes(path.parent, own, recipe) and _same_data(path.parent, recipe):
            found.append((finished(path.parent), path.stat().st_mtime_ns, path.parent))
    return max(found)[2] if found else None


def _as_trained(recipe: Recipe) -> Recipe:
    """The recipe as a run of it has it: with the configuration of the checkpoint that its model begins with, and the
    rates of its family."""
    import torch  # not where there is no run to compare with

    from segcli.engine.fine_tuning import with_family_defaults
    from segcli.engine.opening import build
    from segcli.models import settled

    recipe = recipe.model_copy(update={"model": settled(recipe.model)})
    if not (Path(recipe.data.root) / "info.json").is_file():
        return recipe
    with torch.device("meta"):
        return with_family_defaults(recipe, build(recipe, DatasetInfo.load(recipe.data.root)))


def finished(run: Path) -> bool:
    """Whether a run was trained to its end and scored."""
    return all((run / name).is_file() for name in ("metrics.json", "cost.json"))


def _settings(recipe: Recipe, asked: Recipe) -> dict[str, Any]:
    """What decides the result: not where the raw data lay, what is logged and saved, and how many processes load."""
    out = recipe.model_dump(
        mode="json",
        exclude={
            "expect": True,
            "init": True,
            "data": {"source", "cache"},
            "train": {"log_every", "probe", "save_minutes", *(LENGTHS if asked.train.minutes is not None else ())},
            "hardware": {"workers", "threads", "compile"},
        },
    )
    out["data"]["split_file"] = split_digest(recipe)
    return out


def _same_weights(own: Recipe, recipe: Recipe) -> bool:
    """Whether both start from one file or run; where it is gone, or is an official name, from one of that name."""
    one, other = (r.init and r.resolve(r.init) for r in (own, recipe))
    if one and other and one.exists() and other.exists():
        return one.samefile(other)
    return (one and one.name) == (other and other.name)


def _same_minutes(run: Path, own: Recipe, recipe: Recipe) -> bool:
    """Whether a run was given the minutes that the recipe asks for; a recipe in steps has them among its settings."""
    minutes = recipe.train.minutes
    return minutes is None or (_environment(run).get("minutes") == minutes and not own.train.restarted)


def _same_data(run: Path, recipe: Recipe) -> bool:
    """False where the run was trained on another version of the dataset than lies at data.root now."""
    root = Path(recipe.data.root)
    before = (_environment(run).get("dataset") or {}).get("fingerprint")
    if not isinstance(before, str) or not (root / "info.json").is_file():
        return before is not None
    from segcli.data.fingerprint import changes  # imports numpy and more: not where nothing is compared

    info = DatasetInfo.load(root)
    what = changes(before, root, info)
    return not what if what is not None else before == info.fingerprint


def _environment(run: Path) -> Mapping[str, Any]:
    """What environment.json says; nothing where it can't be read."""
    try:
        return read_environment(run)
    except ModelError:
        return {}


def _train(arguments: list[str], quiet: bool) -> None:
    """Run `segcli train ARGUMENTS` in a process of its own. Raises SegcliError with its last error line."""
    process = begin_training([*arguments, *(["--quiet"] if quiet else [])], subprocess.PIPE)
    assert process.stdout is not None
    last: deque[str] = deque(maxlen=20)
    try:
        for line in process.stdout:
            last.append(line.rstrip())
            if not quiet:
                print(line, end="", file=sys.stderr, flush=True)
        code = process.wait()
    except BaseException:
        process.send_signal(signal.SIGTERM)  # it saves, and then ends
        for line in process.stdout:
            print(line, end="", file=sys.stderr, flush=True)
        process.wait()
        raise
    if code:
        raise training_error(arguments, code, last)
