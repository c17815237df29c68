"""Run folders, and models opened from them or from recipes."""

import contextlib
import dataclasses
import json
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
import torchvision

import segcli
from segcli.core import folders, run_files, run_parts
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, ModelError, SegcliError, UsageError
from segcli.core.files import PART, remove_parts, why_not_written, write_atomic
from segcli.core.git_head import commit
from segcli.core.recipe import model_numbers
from segcli.core.recipe.recipe import Recipe, find_recipe
from segcli.core.tasks import TASKS
from segcli.engine import input_rule
from segcli.engine.capacity import refuse_batch, refuse_weights
from segcli.engine.checkpoint import initialise, load_state, load_strict, load_weights
from segcli.engine.compilation import compile_backbone
from segcli.engine.training_state import weights_of
from segcli.models import build_model
from segcli.models.interface import Model
from segcli.ops.cpu.allocator import keep_freed_memory
from segcli.ops.cpu.convolution import use_fast_gradients
from segcli.types import Field
from segcli.weights.class_rows import official_info
from segcli.weights.official import find, licence

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]


SETTINGS = "are the numbers of the recipe's model section as they should be?"


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
        if start and start.exists():
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


@dataclasses.dataclass
class Opened:
    """A model ready to predict, with the recipe and the classes that it was built from; path: the run's, or None."""

    model: Model
    recipe: Recipe
    info: DatasetInfo
    path: Path | None


def choose_device(name: str) -> torch.device:
    """`auto`: CUDA, else Apple's MPS, else the CPU, whose allocator then keeps freed memory (ops/cpu/allocator.py).

    Raises UsageError for a device that this machine does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"hardware.device is {name}, and torch sees no CUDA device here", hint="hardware.device: auto")
    if name == "cpu":
        keep_freed_memory()
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"hardware.device {name!r} is no device: auto, cpu, cuda or mps") from error


def build(recipe: Recipe, info: DatasetInfo) -> Model:
    """The recipe's model for a dataset's classes, with random weights and the recipe's input size."""
    if TASKS[recipe.task].objects and not info.num_things:
        raise UsageError(f"task {recipe.task} needs thing classes, and dataset {info.name!r} has stuff alone")
    counts = {"num_classes": len(info.categories), "num_things": info.num_things, "num_keypoints": info.num_keypoints}
    model: Model = _built(recipe, counts)
    model.preprocess = model.preprocess.with_size(recipe.data.size)
    model.max_detections = recipe.eval.max_detections
    return model


def _built(recipe: Recipe, counts: dict[str, int]) -> Model:
    """`build_model`, whose errors for settings that fit no model become one UsageError: numbers that do not divide each
    other, weights that exceed memory."""
    where = f"{recipe.path}: model" if recipe.path else "model"
    try:
        if model_numbers.largest(recipe.model) > model_numbers.WIDE:
            refuse_weights(lambda: build_model(recipe.model, task=recipe.task, **counts), where)
        with recipe.blamed("model"):
            return build_model(recipe.model, task=recipe.task, **counts)
    except MemoryError as error:
        raise UsageError(f"{where}: its weights need more memory than there is", hint=SETTINGS) from error
    except SegcliError:
        raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{where}: can't be built with these settings: {reason:.300}", hint=SETTINGS) from error


def fields_of(recipe: Recipe, info: DatasetInfo) -> dict[str, type[Field]]:
    """Fields of each object that the recipe's model needs beside boxes and masks."""
    with torch.device("meta"):  # no memory, no random numbers
        return build(recipe, info).fields


def open_model(
    source: str | Path,
    *,
    weights: str | None = None,
    overrides: dict[str, Any] | None = None,
    device: str | None = None,
) -> Opened:
    """Open a run folder (with its last weights, averaged if it averages; `weights="best"`: the best on val; or a weight
    file), or a recipe with `weights` (or its `init`).

    Raises ModelError if weights are missing or belong to another model.
    """
    path = Path(source)
    if path.is_dir():
        run = RunFolder(path)
        recipe, info = run.recipe(), run.info()
        if overrides:
            recipe = Recipe.load(path / "recipe.yaml", overrides)
        model = build(recipe, info)
        input_rule.follow(model, run.environment())
        if weights in (None, "last"):
            state = load_state(run.last)
            load_strict(model, weights_of(state, str(run.last)), str(run.last))
        else:
            load_weights(model, run.best if weights == "best" else str(weights), info=info, partial=False)
    else:
        recipe = Recipe.load(find_recipe(source), overrides)
        if weights is None and recipe.init is None:
            raise ModelError(f"{source} is a recipe and names no weights", hint="train it, or give --weights FILE")
        file = weights or _named(recipe)
        info = _classes(recipe, file)
        model = build(recipe, info)
        load_weights(model, file, info=info, partial=False)
        run = None
    if model.preprocess.fixed_canvas() is not None:
        refuse_batch(recipe, model, [(1, 1)], 1, training=False)
    target = choose_device(device or recipe.hardware.device)
    return Opened(model.to(target).eval(), recipe, info, run.path if run else None)


def prepare_layout(model: Model) -> Model:
    """Channels-last convolutions: on CPUs a quarter to a third faster for these models, on GPUs never slower; with
    fast weight gradients in that layout on CPUs (ops/cpu/convolution.py)."""
    use_fast_gradients(model)
    return model.to(memory_format=torch.channels_last)


def start(recipe: Recipe, info: DatasetInfo, *, load: bool = True) -> tuple[Model, list[dict[str, str]]]:
    """A model at the start of training: seeded random weights, then what the recipe names. -> model, weights used.

    load=False keeps the random weights, for a resumed run that loads its own.
    """
    torch.manual_seed(recipe.train.seed)
    model = build(recipe, info)
    used: list[dict[str, str]] = []
    if load and recipe.init is None:
        used = initialise(model)
    elif load:  # official weights include the backbone
        used = _start_from(model, recipe, info)
    prepare_layout(model)
    compile_backbone(model, recipe)
    return model, used


def _classes(recipe: Recipe, weights: str | Path) -> DatasetInfo:
    """The classes of the recipe's dataset; without it, those of the official weights."""
    known = find(weights)
    if known is not None and known.classes is not None and not (Path(recipe.data.root) / "info.json").is_file():
        return official_info(known.classes)
    return DatasetInfo.load(recipe.data.root)


def _named(recipe: Recipe) -> str | Path:
    """The recipe's `init`: a file beside it or in the working folder; a run folder's best weights, its last ones where
    it was never scored; else an official checkpoint's name."""
    assert recipe.init is not None
    file = recipe.resolve(recipe.init)
    if (file / "recipe.yaml").is_file():
        run = RunFolder(file)
        return run.best if run.best.is_file() else run.last
    return file if file.is_file() else recipe.init


def _source_run(recipe: Recipe) -> RunFolder | None:
    """The run that the recipe's `init` is, or is a checkpoint of."""
    file = recipe.resolve(str(recipe.init)).absolute()
    folder = file.parent.parent if file.is_file() and file.parent.name == "checkpoints" else file
    return RunFolder(folder) if (folder / "recipe.yaml").is_file() else None


def _start_from(model: Model, recipe: Recipe, info: DatasetInfo) -> list[dict[str, str]]:
    """Load the recipe's `init` into a model -> what environment.json says of it; the licences that bind a run bind what
    begins with it. Class layers of a run with other classes begin anew. Raises ModelError."""
    file, run = _named(recipe), _source_run(recipe)
    if run is None:
        load_weights(model, file, info=info)
        return [{"source": str(recipe.init), "licence": licence(file)}]
    try:
        classes, weights = run.info().names, run.environment().get("weights") or []
    except ModelError as error:
        raise ModelError(f"init: {recipe.init}: its classes and licences can't be read: {error}") from error
    load_weights(model, file, info=info, same_classes=classes == info.names)
    return [{"source": str(recipe.init), "licence": "the user's own"}, *cast(list[dict[str, str]], weights)]


def describe_environment(recipe: Recipe, info: DatasetInfo, used: list[dict[str, str]]) -> dict[str, Any]:
    """The contents of environment.json."""
    return {
        "segcli": segcli.__version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(choose_device(recipe.hardware.device)),
        "processes": recipe.hardware.processes,
        "threads": torch.get_num_threads(),
        "seed": recipe.train.seed,
        "input_rule": input_rule.NEWEST,
        "git": commit(Path.cwd()),
        "dataset": info.to_json(),
        "weights": used,
    }
