"""Whether a run's dataset is still what the run was trained on."""

import shlex
import sys
from pathlib import Path

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import ModelError
from segcli.data.fingerprint import changes, described
from segcli.engine.run_folder import RunFolder


def refuse_other_data(run: RunFolder, root: Path, info: DatasetInfo) -> None:
    """Raise ModelError if the data at `root` is not the data that `run` was started with: a resumed run would have been
    trained on two datasets without a record of it. `info`: the data's present description. If the comparison is not
    possible, that is printed on stderr."""
    learned = f"init={run.last.resolve()}"
    again = shlex.join(["segcli", "train", str(run.path / "recipe.yaml"), "--set", learned])
    hint = f"put the data back, or begin a new run with what was learned: {again}"
    if not (run.path / "environment.json").is_file():
        print(f"note: {run.path}: environment.json is gone: whether {root} is its data can't be told", file=sys.stderr)
        return
    before = run.info()
    if _classes(before) != _classes(info):
        raise ModelError(
            f"{run.path} was trained on the classes {_listed(before.names)}, and {root} has {_listed(info.names)} now",
            hint=hint,
        )
    what = changes(before.fingerprint, root, info)
    if what:
        raise ModelError(f"{root}: its {described(what)} changed since {run.path} was trained on it", hint=hint)
    if what is None:
        print(f"note: {run.path} recorded no fingerprint: whether {root} has changed can't be told", file=sys.stderr)


def say_changes(before: DatasetInfo, root: Path, info: DatasetInfo, run: Path) -> bool:
    """Whether the data at `root` has changed since `run` was trained on it (`before`); a change is printed (stderr)."""
    what = changes(before.fingerprint, root, info)
    if what:
        print(f"note: {root}: its {described(what)} changed since {run} was trained on it", file=sys.stderr)
    return bool(what)


def check_classes(model: DatasetInfo, data: DatasetInfo, model_name: str, data_name: str) -> None:
    """Raise ModelError unless both declare the same classes in the same order."""
    if _classes(model) != _classes(data):
        raise ModelError(
            f"{model_name} has the classes {_listed(model.names)}, and {data_name} has {_listed(data.names)}",
            hint="score a model on data with the classes that it was trained for, in that order",
        )


def _classes(info: DatasetInfo) -> list[tuple[str, bool]]:
    return [(c.name, c.thing) for c in info.categories]


def _listed(names: list[str]) -> str:
    return f"[{', '.join(names[:8])}{', …' if len(names) > 8 else ''}] ({len(names)})"
