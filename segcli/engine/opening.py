"""Models opened from runs or recipes to predict, or begun for a training; what environment.json says of a training."""

import dataclasses
import platform
from pathlib import Path
from typing import Any, cast

import torch
import torchvision

import segcli
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import ModelError, SegcliError, UsageError
from segcli.core.exported_files import is_exported
from segcli.core.git_head import commit
from segcli.core.recipe import model_numbers
from segcli.core.recipe.recipe import SCENES, Recipe, find_recipe
from segcli.core.tasks import TASKS
from segcli.engine import input_rule
from segcli.engine.capacity import refuse_batch, refuse_weights
from segcli.engine.checkpoint import initialise, load_state, load_strict, load_weights
from segcli.engine.compilation import compile_backbone
from segcli.engine.exported import open_exported
from segcli.engine.run_folder import RunFolder
from segcli.engine.training_state import weights_of
from segcli.models import build_model
from segcli.models.interface import Backbone, Model
from segcli.ops.cpu.allocator import keep_freed_memory
from segcli.ops.cpu.convolution import use_fast_gradients
from segcli.types import Field
from segcli.weights import scenes
from segcli.weights.class_rows import official_info
from segcli.weights.official import find, licence, official_of
from segcli.weights.transformers_checkpoint import classes_of

SETTINGS = "are the numbers of the recipe's model section as they should be?"


@dataclasses.dataclass
class Opened:
    """A model ready to predict, with the recipe and the classes that it was built from; path: the run's, or None.
    exported: the exported model's file that it is."""

    model: Model
    recipe: Recipe
    info: DatasetInfo
    path: Path | None
    exported: Path | None = None


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
        raise UsageError(
            f"task {recipe.task} needs thing classes, and dataset {info.name!r} has stuff alone",
            hint="segcli recipes --task semantic lists those that learn label maps",
        )
    if not TASKS[recipe.task].things and len(info.categories) < 2:
        raise UsageError(
            f"task {recipe.task} needs two classes: dataset {info.name!r} has {info.names[0]!r} alone, right "
            "everywhere",
            hint="segcli recipes --task instance lists those that find objects; or declare the background as a class",
        )
    model: Model = _built(recipe, info)
    model.preprocess = model.preprocess.with_size(recipe.data.size)
    model.max_detections = recipe.eval.max_detections
    return model


def _built(recipe: Recipe, info: DatasetInfo) -> Model:
    """`build_model`, whose errors for settings that fit no model become one UsageError: numbers that do not divide each
    other, weights that exceed memory."""
    where = f"{recipe.path}: model" if recipe.path else "model"
    counts = {"num_classes": len(info.categories), "num_things": info.num_things, "num_keypoints": info.num_keypoints}
    made = lambda: build_model(recipe.model, task=recipe.task, declared=info.declared, **counts)
    try:
        if model_numbers.largest(recipe.model) > model_numbers.WIDE:
            refuse_weights(made, where)
        with recipe.blamed("model"):
            return made()
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
    file), a recipe with `weights` (or its `init`), or an exported model's file.

    Raises ModelError if weights are missing or belong to another model.
    """
    path = Path(source)
    if is_exported(path):
        if weights is not None:
            raise UsageError(
                f"{path}: an exported model has the weights that lie in its file", hint="leave --weights out"
            )
        return Opened(*open_exported(path), None, path)
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
        begins = recipe.model.get("checkpoint") if weights is None and recipe.init is None else None
        if begins is None and weights is None:
            weights = _official(source, recipe)
        if begins is not None:
            info = _own_classes(recipe, str(begins))
            model = build(recipe, info)
            initialise(model, info, partial=False)
        else:
            file = weights or _named(recipe)
            info = _classes(recipe, file)
            model = build(recipe, info)
            begun = None if weights else _source_run(recipe)
            same = begun is None or begun.info().names == info.names
            load_weights(model, file, info=info, same_classes=same, partial=False)
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
        used = initialise(model, info)
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


def _official(source: str | Path, recipe: Recipe) -> str | None:
    """The official checkpoint of a paper's recipe whose `init` is not there, or names none. Raises ModelError where a
    recipe without `init` has no official one."""
    official = official_of(find_recipe(source))
    if recipe.init in (None, SCENES) and official is None:
        raise ModelError(f"{source} is a recipe and names no weights", hint="train it, or give --weights FILE")
    there = recipe.init is not None and (find(recipe.init) is not None or Path(_named(recipe)).exists())
    return None if there else official


def _own_classes(recipe: Recipe, checkpoint: str) -> DatasetInfo:
    """The classes of the recipe's dataset; without it, those of the checkpoint that its model begins with."""
    if (Path(recipe.data.root) / "info.json").is_file():
        return DatasetInfo.load(recipe.data.root)
    task = TASKS[recipe.task]
    return classes_of(checkpoint, stuff=task.stuff, things=task.things)


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
    begins with it. Class layers of a run with other classes begin anew, those of a run on scenes as theirs do that come
    with the package. Raises ModelError."""
    file, run = _named(recipe), _source_run(recipe)
    if file == SCENES:
        return _start_from_scenes(model, recipe)
    if run is None:
        load_weights(model, file, info=info)
        return [{"source": str(recipe.init), "licence": licence(file)}]
    try:
        trained, weights = run.info(), run.environment().get("weights") or []
    except ModelError as error:
        raise ModelError(f"init: {recipe.init}: its classes and licences can't be read: {error}") from error
    # rows of these families are one a class, without one for the ground
    generic = recipe.model["name"] in scenes.FILES and trained.name == SCENES and not {*trained.names} & {*info.names}
    load_weights(model, file, info=info, same_classes=generic or trained.names == info.names, mean_rows=generic)
    return [{"source": str(recipe.init), "licence": "the user's own"}, *cast(list[dict[str, str]], weights)]


def _start_from_scenes(model: Model, recipe: Recipe) -> list[dict[str, str]]:
    """Load the weights that come with the package -> as `_start_from`. A trunk that the file lacks keeps its own."""
    file = scenes.file_for(recipe.model)
    used = initialise(model)
    trunk = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, Backbone))
    try:
        load_weights(model, file, "segcli", mean_rows=True, kept=trunk, called="init: scenes")
    except ModelError as error:
        raise ModelError(f"init: {SCENES}: {error}", hint=scenes.WITHOUT) from error
    return [*used, {"source": SCENES, "licence": scenes.LICENCE}]


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
