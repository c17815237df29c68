"""Run folders: all files of one training, in one place."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from segcli.core import folders, run_files, run_parts
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, ModelError, SegcliError, UsageError
from segcli.core.files import PART, remove_parts, why_not_written, write_atomic
from segcli.core.recipe.recipe import Recipe

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]


class RunFolder:
    """runs/NAME: all files of one training. Files are replaced atomically."""

    def __init__(self, path: str | Path):
        """Raises ModelError if a part of the folder is a link that leads out of it."""
        self.path = Path(path)
        run_parts.confine(self.path)

    @classmethod
    def create(cls, name: str, out: Path | None, force: bool) -> "RunFolder":
        """`out`, or runs/NAME, runs/NAME-2, …; an existing `out` only with `force`. Raises UsageError."""
        if out is None:
            base = Path("runs") / name
            out, count = base, 2
            while out.exists() and not force and not cls._is_void(out):
                out, count = base.with_name(f"{base.name}-{count}"), count + 1
        elif folders.as_folder(out).exists() and any(out.iterdir()) and not force:
            goes_on = f"segcli train --resume {out} goes on with it; " if (out / "recipe.yaml").is_file() else ""
            raise UsageError(f"{out} is not empty", hint=f"{goes_on}choose another --out, or --force to overwrite it")
        if out.exists():
            run_parts.refuse_foreign(out)
        folders.as_folder(out).mkdir(parents=True, exist_ok=True)
        return cls(out)

    @classmethod
    def _is_void(cls, out: Path) -> bool:
        try:
            return cls(out).void()
        except ModelError:  # parts of it are links that lead elsewhere: somebody else's run
            return False

    def void(self) -> bool:
        """Whether a training was killed here before it wrote its recipe: the folder may be used for another."""
        try:
            names = {p.name for p in self.path.iterdir() if not p.name.endswith(PART)}
        except OSError:
            return False
        if "train.lock" not in names or names - {"train.lock", "environment.json"}:
            return False
        try:
            with self.claimed():
                return True
        except SegcliError:  # another process is just starting here
            return False

    def clear(self) -> None:
        """Delete the files of an earlier training."""
        for old in ("log.jsonl", "metrics.json", "cost.json"):
            (self.path / old).unlink(missing_ok=True)
        for file in (self.last, self.previous, self.best):
            file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Lock the folder: only one process trains in it at a time. The system unlocks it when the process dies.

        Raises ModelError if another process trains here. It is a record lock: loader processes, which may outlive a
        killed training by seconds, do not inherit it.
        """
        try:
            file = open(self.path / "train.lock", "w", encoding="utf-8")  # noqa: SIM115  (closed below)
        except OSError as error:
            raise SegcliError(
                f"{self.path}: can't be written: {error.strerror}", hint=why_not_written(error)
            ) from error
        with file:
            if fcntl is not None:
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except (BlockingIOError, PermissionError):
                    raise ModelError(
                        f"{self.path} is being trained by another process", hint="wait for it, or stop it"
                    ) from None
                except OSError as error:  # a file system without locks
                    print(f"note: {self.path} can't be locked: {error.strerror}", file=sys.stderr)
            yield

    def recipe(self) -> Recipe:
        path = self.path / "recipe.yaml"
        if not path.is_file():
            raise ModelError(f"{self.path}: not a run folder (no recipe.yaml)")
        return Recipe.load(path)

    def write_recipe(self, recipe: Recipe) -> None:
        """Write the resolved recipe and a copy of its split file, so that the run folder is self-contained; an `init`
        beside the recipe is named by its whole path."""
        start = recipe.init and recipe.resolve(recipe.init)
        if start and (start.is_file() or (start / "recipe.yaml").is_file()):
            recipe = recipe.model_copy(update={"init": str(start.absolute())})
        if recipe.data.split_file is not None:
            names = recipe.resolve(recipe.data.split_file)
            if names.is_file():
                own, content = self.path / names.name, names.read_bytes()
                write_atomic(own, lambda p: p.write_bytes(content))
                data = recipe.data.model_copy(update={"split_file": own.name})
                recipe = recipe.model_copy(update={"data": data})
        self._text("recipe.yaml", recipe.to_yaml(self.path / "recipe.yaml"))

    def log(self, entry: dict[str, Any]) -> None:
        path = self.path / "log.jsonl"
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise SegcliError(f"{path}: can't be written: {error.strerror}", hint=why_not_written(error)) from error

    def read_log(self) -> list[run_files.LogEntry]:
        return run_files.read_log(self.path)

    def rewind(self, step: int, *, scored: bool) -> None:
        """Drop what a resumed run writes again: log entries after `step` (and that step's scores, unless they were
        `scored` before its checkpoint), and temporary files of a process that was killed while saving."""
        kept = self.path / "predictions"
        below = [p for p in kept.rglob("*") if p.is_dir()] if kept.is_dir() and not kept.is_symlink() else []
        remove_parts(self.path, self.path / "checkpoints", kept, *below)
        log = [e for e in self.read_log() if e["step"] < step or (e["step"] == step and (scored or "loss" in e))]
        self._text("log.jsonl", "".join(json.dumps(e) + "\n" for e in log))

    def write_metrics(self, metrics: Mapping[str, object]) -> None:
        self._text("metrics.json", json.dumps({"schema_version": 1, **metrics}, indent=1))

    def read_metrics(self) -> run_files.Metrics:
        return run_files.read_metrics(self.path)

    def write_cost(self, cost: dict[str, Any]) -> None:
        self._text("cost.json", json.dumps(cost, indent=1))

    def read_cost(self) -> run_files.Cost:
        return run_files.read_cost(self.path)

    def write_environment(self, environment: dict[str, Any]) -> None:
        self._text("environment.json", json.dumps(environment, indent=1))

    def environment(self) -> run_files.Environment:
        return run_files.read_environment(self.path)

    def info(self) -> DatasetInfo:
        """The dataset that the run was trained on, as it was then."""
        where = str(self.path / "environment.json")
        try:
            return DatasetInfo.from_json(self.environment()["dataset"], f"{where}: dataset")
        except DataError as error:
            raise ModelError(str(error)) from error

    @property
    def last(self) -> Path:
        return self.path / "checkpoints" / "last.pt"

    @property
    def previous(self) -> Path:
        """The checkpoint before the last one, used if the last one is damaged."""
        return self.path / "checkpoints" / "previous.pt"

    def never_saved(self) -> bool:
        """Whether the run was stopped before its first checkpoint: there is nothing to lose in beginning it again."""
        results = (self.last, self.previous, self.best, self.path / "metrics.json", self.path / "cost.json")
        return not any(path.exists() for path in results)

    def finished(self) -> bool:
        """Whether the run has readable scores and costs; cost.json is the last file that a training writes."""
        try:
            self.read_metrics()
            self.read_cost()
        except ModelError:
            return False
        return True

    @property
    def best(self) -> Path:
        return self.path / "checkpoints" / "best.safetensors"

    def _text(self, name: str, text: str) -> None:
        write_atomic(self.path / name, lambda p: p.write_text(text, encoding="utf-8"))


def add_steps(run: RunFolder, steps: int, done: int) -> None:
    """Give a finished run of `done` steps `steps` in all: its schedule begins anew where the first one ended, at the
    full rate, with the weights, moments and average that it has: a warm restart (SGDR, Loshchilov and Hutter, 2017).

    It is recorded in the run's recipe (`train.retimed`), which a training that repeats the recipe follows. Scores and
    costs are removed until the run is finished again. Nothing happens where the run has been given so many already.
    Raises UsageError for a run that is not finished, or that has as many steps. The run is claimed, its data checked.
    """
    recipe = run.recipe()
    if recipe.train.restarted and recipe.train.steps == steps:
        return
    if not run.finished():
        raise UsageError(
            f"{run.path} is not finished: more steps are for a finished run", hint=f"segcli train --resume {run.path}"
        )
    if steps <= done:
        raise UsageError(f"train.steps={steps}: {run.path} has done {done} already", hint="give the steps in all")
    retimed = [*(recipe.train.retimed or [(0, done)]), (done, steps)]
    lengths = {"epochs": None, "minutes": None, "steps": steps, "retimed": retimed}
    print(f"note: {run.path}: {steps - done} more steps, a warm restart at the full learning rate", file=sys.stderr)
    run.write_recipe(recipe.model_copy(update={"train": recipe.train.model_copy(update=lengths)}))
    for name in ("cost.json", "metrics.json"):
        (run.path / name).unlink(missing_ok=True)
