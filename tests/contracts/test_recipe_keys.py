"""Every key of a recipe does something: set to another value, what it is for turns out otherwise."""

import contextlib
import copy
import dataclasses
import inspect
import multiprocessing
import os
import typing
from pathlib import Path

import numpy as np
import pydantic
import pytest
import torch
import yaml
from tiny import TINY_RECIPE
from torch import nn

from segcli.commands import train as command
from segcli.core import distributed, plugins
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import SegcliError
from segcli.core.recipe.recipe import Recipe
from segcli.data.augment.compose import GIVEN, build_augment
from segcli.data.dataset import Dataset
from segcli.engine import probe, training
from segcli.engine.accumulation import bfloat16, step_losses
from segcli.engine.capacity import use_threads
from segcli.engine.checkpoint import save_weights
from segcli.engine.evaluation import check_expectations, score_model
from segcli.engine.opening import build, choose_device, start
from segcli.engine.optimizer import build_optimizer, set_rates
from segcli.engine.run_folder import RunFolder
from segcli.engine.session import Session
from segcli.models.interface import Model

CPU = torch.device("cpu")
MODEL = {"name": "fcn", "backbone": {"name": "timm", "model": "test_resnet"}, "auxiliary": 0.0}
BASE = {**TINY_RECIPE, "task": "semantic", "model": MODEL, "data": {"root": "data/tiny", "size": 64}}
DETECTOR = {"task": "detection", "model": {**TINY_RECIPE["model"], "backbone": MODEL["backbone"]}}
DETECTOR["model"]["heads"] = {"iou_box": {"score": 0.0}}


def session(recipe: Recipe) -> Session:
    model, _ = start(recipe, DatasetInfo.load(recipe.data.root))
    return Session(RunFolder(Path.cwd()), recipe, model, 3, CPU)


def datasets(recipe: Recipe) -> tuple[Dataset, Dataset]:
    return training.open_datasets(recipe, {})


def whole_training(recipe: Recipe) -> object:
    """What three steps write, but for the time they take; costs are not measured."""
    saved = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "measure_cost", lambda *_: {})
        patch.setattr(training, "count_work", lambda *_: None)
        patch.setattr(Session, "save", lambda self: saved.append(self.progress.step))
        run = training.train_joined(recipe, CPU, out=None, resume=None, steps=None, force=True, quiet=True)
    log = [{key: value for key, value in e.items() if key != "seconds"} for e in RunFolder(run).read_log()]
    return run.name, saved, log


def probed(recipe: Recipe) -> object:
    """Which recipe is fine-tuned for how many steps when a training is scored."""
    found = []

    def begin(arguments: list[str], output: object) -> typing.NoReturn:
        found.extend([arguments[0], *(a for a in arguments if "steps" in a)])
        raise SegcliError("begun")

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(SegcliError):
        patch.setattr(probe, "begin_training", begin)
        training.train_joined(recipe, CPU, out=None, resume=None, steps=None, force=True, quiet=True)
    return found


def optimizer(recipe: Recipe) -> object:
    """Weights after two steps of a small model on fixed gradients."""
    torch.manual_seed(0)
    model = Model()
    model.backbone, model.head = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)), nn.Linear(2, 2)
    made = build_optimizer(model, recipe.train.optimizer)
    for step in range(3):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.5 - step)
        made.step()
    return [p.tolist() for p in model.parameters()]


def schedule(recipe: Recipe) -> object:
    """Rates of a layer that begins at random, and of another one."""
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "base": 1.0, "new": new} for new in (True, False)]
    made, found = torch.optim.SGD(groups, lr=1.0), []
    for step in range(51):
        set_rates(made, recipe.train.schedule, step, 50, None)
        found.append([group["lr"] for group in made.param_groups])
    return found


def pace(recipe: Recipe) -> object:
    found = training.pace_of(recipe, RunFolder(Path.cwd()), datasets(recipe)[0], resumed=False)
    return found.decisions, found.seconds


def batch(recipe: Recipe) -> object:
    """The first training batch."""
    model = build(recipe, DatasetInfo.load(recipe.data.root))
    first = next(training.make_loader(recipe, model, datasets(recipe)[0], 0))
    return first.images.shape, first.image_ids, first.images.double().sum().item(), first.seeds


def cached(recipe: Recipe) -> object:
    """What the disk cache holds after a batch."""
    batch(recipe)
    return sorted(
        (str(p), p.stat().st_size) for p in Path.cwd().rglob("*") if "data/tiny" not in str(p) and p.is_file()
    )


def pieces(recipe: Recipe) -> object:
    model = build(recipe, DatasetInfo.load(recipe.data.root))
    first = next(training.make_loader(recipe, model, datasets(recipe)[0], 0))
    parts = step_losses(model, first, recipe.train.accumulate, CPU, torch.autocast("cpu", enabled=False))
    return [len(piece.images) for piece, _ in parts]


def prepared(recipe: Recipe) -> object:
    """The dataset that a training finds, or the reason why there is none."""
    try:
        info = DatasetInfo.load(command.prepare_for(recipe))
    except SegcliError as error:
        return str(error)
    return info.name, info.splits, info.names


def drawn(recipe: Recipe) -> object:
    """How many training images there are of embedded data, stored or drawn."""
    command.prepare_for(recipe)
    return len(datasets(recipe)[0])


def predicted(recipe: Recipe) -> object:
    """How many images are predicted at a time, and how many detections there are of each."""
    info, found = DatasetInfo.load(recipe.data.root), []
    torch.manual_seed(0)
    model = build(recipe, info)
    predict = model.predict
    model.predict = lambda batch: found.append(predict(batch)) or found[-1]
    score_model(model, datasets(recipe)[1], recipe, device=CPU, progress=False)
    return [[p.instances and len(p.instances) for p in predictions] for predictions in found]


def initial(recipe: Recipe) -> object:
    torch.manual_seed(9)
    other = build(Recipe.parse(BASE, "r"), DatasetInfo.load(recipe.data.root))
    save_weights(Path("init.safetensors"), other.state_dict(), {})
    return session(recipe).model.state_dict()["classifier.0.weight"].double().sum().item()


def launched(recipe: Recipe) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "launch", lambda *_, **given: given)
        patch.setattr(command, "train_one", lambda *_: "one process")
        return command.train(recipe)


def device(recipe: Recipe) -> object:
    try:
        return choose_device(recipe.hardware.device)
    except SegcliError as error:
        return str(error)


def workers(recipe: Recipe) -> object:
    """The number of processes that load images."""
    model = build(recipe, DatasetInfo.load(recipe.data.root))
    loader = training.make_loader(recipe, model, datasets(recipe)[0], 0)
    next(loader)
    found = len(multiprocessing.active_children())
    loader.close()
    return found


def threads(recipe: Recipe) -> object:
    before = torch.get_num_threads()
    use_threads(recipe.hardware.threads)
    found = torch.get_num_threads()
    torch.set_num_threads(before)
    return found


def compiled(recipe: Recipe) -> object:
    return session(recipe).model.backbone._compiled_call_impl is not None


def of_model(recipe: Recipe) -> object:
    model = build(recipe, DatasetInfo.load(recipe.data.root))
    return type(model).__name__, repr(model.preprocess), len(list(model.parameters()))


@dataclasses.dataclass
class Case:
    """other: another value than the one in BASE, or the default; beside: what else must be set for it to count."""

    seen_in: typing.Callable[[Recipe], object]
    other: object
    beside: dict[str, object] = dataclasses.field(default_factory=dict)


SYNTHETIC = {"data.name": "shapes", "data.root": "made", "data.prepare": {"train": 2, "val": 1, "size": 64}}
CACHE = {"data.cache": {"folder": "cache"}}
SPLIT_FILE = "val.txt"
PROBE = {"recipe": "one.yaml", "steps": 2}
CASES = {
    "name": Case(whole_training, "other"),
    "task": Case(lambda recipe: datasets(recipe)[0].read(0).target.semantic is None, "detection"),
    "data.name": Case(prepared, "solids", SYNTHETIC),
    "data.root": Case(prepared, "elsewhere"),
    "data.source": Case(prepared, "nothing here", {"data.root": "made"}),
    "data.prepare": Case(prepared, {"train": 3, "val": 1, "size": 64}, SYNTHETIC),
    "data.drawn": Case(drawn, 5, SYNTHETIC),
    "data.split_file": Case(lambda recipe: [d.image_ids for d in datasets(recipe)], SPLIT_FILE),
    "data.size": Case(batch, 96),
    "data.augment": Case(batch, {"colour": 1.0}),
    "data.cache": Case(cached, {"folder": "cache"}),
    "data.cache.gigabytes": Case(cached, 1e-9, CACHE),
    "data.cache.longest": Case(cached, 32, CACHE),
    "data.cache.folder": Case(cached, "another", CACHE),
    "model": Case(of_model, {**MODEL, "auxiliary": 0.5}),
    "init": Case(initial, "init.safetensors"),
    "train.epochs": Case(pace, 3.0, {"train.steps": None, "train.epochs": 2.0}),
    "train.steps": Case(pace, 5),
    "train.minutes": Case(pace, 2.0, {"train.steps": None, "train.minutes": 1.0}),
    "train.retimed": Case(pace, [(0, 9), (2, 3)]),
    "train.batch_size": Case(batch, 4),
    "train.accumulate": Case(pieces, 2),
    "train.optimizer.name": Case(optimizer, "sgd"),
    "train.optimizer.lr": Case(optimizer, 2e-4),
    "train.optimizer.backbone_lr": Case(optimizer, 1e-5),
    "train.optimizer.layer_decay": Case(optimizer, 0.5),
    "train.optimizer.weight_decay": Case(optimizer, 0.1),
    "train.optimizer.norm_weight_decay": Case(optimizer, 0.0, {"train.optimizer.weight_decay": 0.1}),
    "train.optimizer.bias_weight_decay": Case(optimizer, 0.0, {"train.optimizer.weight_decay": 0.1}),
    "train.optimizer.momentum": Case(optimizer, 0.5, {"train.optimizer.name": "sgd"}),
    "train.optimizer.betas": Case(optimizer, (0.5, 0.9)),
    "train.optimizer.lr_scales": Case(optimizer, {"head": 10.0}),
    "train.schedule.name": Case(schedule, "constant"),
    "train.schedule.warmup_steps": Case(schedule, 5),
    "train.schedule.warmup_factor": Case(schedule, 0.5, {"train.schedule.warmup_steps": 5}),
    "train.schedule.new_layers_first": Case(schedule, 3),
    "train.schedule.flat": Case(schedule, 0.5),
    "train.schedule.final": Case(schedule, 0.1),
    "train.schedule.milestones": Case(schedule, [0.5], {"train.schedule.name": "step"}),
    "train.schedule.gamma": Case(schedule, 0.5, {"train.schedule.name": "step", "train.schedule.milestones": [0.5]}),
    "train.schedule.power": Case(schedule, 2.0, {"train.schedule.name": "poly"}),
    "train.ema": Case(whole_training, 0.5),
    "train.clip": Case(whole_training, 1e-3, {"train.optimizer.name": "sgd", "train.optimizer.lr": 0.1}),
    "train.evaluations": Case(whole_training, 3),
    "train.probe": Case(probed, PROBE),
    "train.probe.recipe": Case(probed, "two.yaml", {"train.probe": PROBE}),
    "train.probe.steps": Case(probed, 3, {"train.probe": PROBE}),
    "train.log_every": Case(whole_training, 3),
    "train.save_minutes": Case(whole_training, 1e-9),
    "train.seed": Case(batch, 1),
    "eval.split": Case(lambda recipe: datasets(recipe)[1].image_ids, "train"),
    "eval.max_detections": Case(predicted, 3, DETECTOR),
    "eval.batch_size": Case(predicted, 2),
    "hardware.device": Case(device, "auto" if torch.cuda.is_available() else "cuda"),
    "hardware.devices": Case(launched, 2),
    "hardware.nodes": Case(launched, 2),
    "hardware.precision": Case(lambda recipe: bfloat16(recipe, CPU), "bf16"),
    "hardware.workers": Case(workers, 1),
    "hardware.threads": Case(threads, 2),
    "hardware.compile": Case(compiled, True),
    "expect.value": Case(lambda r: check_expectations({"mIoU": 0.5}, r.expect), 0.9, {"expect.mIoU.value": 0.5}),
    "expect.tolerance": Case(lambda r: check_expectations({"mIoU": 0.5}, r.expect), 0.2, {"expect.mIoU.value": 0.4}),
}


KNOWN: dict[object, str] = {}  # what is seen before a key is changed, the same for many


def leaves(section: type[pydantic.BaseModel], above: str = "") -> list[str]:
    """The dotted keys of a section that hold values, not sections; a section that may be null counts as a key, too."""
    out = []
    for key, field in section.model_fields.items():
        inner = [t for t in (field.annotation, *typing.get_args(field.annotation)) if isinstance(t, type)]
        inner = [t for t in inner if issubclass(t, pydantic.BaseModel)]
        out += leaves(inner[0], f"{above}{key}.") if inner else []
        if not inner or type(None) in typing.get_args(field.annotation):
            out.append(f"{above}{key}")
    return out


def test_every_key_of_a_recipe_has_a_case_here():
    assert {*leaves(Recipe)} == {*CASES}


def made(settings: dict[str, object]) -> Recipe:
    Path("r.yaml").write_text(yaml.safe_dump(BASE), encoding="utf-8")
    return Recipe.load("r.yaml", copy.deepcopy(settings))  # which keeps a section that it is given, and changes it


@pytest.mark.parametrize("key", CASES)
def test_every_key_of_a_recipe_does_something(key, tiny_dataset, tmp_path, monkeypatch):
    case = CASES[key]

    def seen(settings: dict[str, object], folder: Path) -> str:
        (folder / "data").mkdir(parents=True)
        os.symlink(tiny_dataset, folder / "data" / "tiny")
        monkeypatch.chdir(folder)
        Path(SPLIT_FILE).write_text("one image.png\nthree.png\n", encoding="utf-8")
        return repr(case.seen_in(made(settings))).replace(str(folder), "")

    before = (case.seen_in, repr(case.beside))
    if before not in KNOWN:
        KNOWN[before] = seen(case.beside, tmp_path / "before")
    settings = {**case.beside, key.replace("expect.", "expect.mIoU."): case.other}
    assert seen(settings, tmp_path / "after") != KNOWN[before]


AUGMENT = {  # another value, with what else must be set for it to count
    "rot90": {"rot90": 1.0},
    "flip": {"flip": 1.0},
    "flip_vertical": {"flip_vertical": 1.0},
    "scale": {"scale": [0.3, 0.4]},
    "aspect": {"aspect": 0.9},
    "rotate": {"rotate": 45},
    "crop": {"crop": 32},
    "short_side": {"short_side": [24, 30]},
    "scale_crop": {"scale_crop": 1.0, "short_side": [24]},
    "mosaic": {"mosaic": 1.0},
    "copy_paste": {"copy_paste": 1.0},
    "colour": {"colour": 1.0},
    "blur": {"blur": 1.0},
    "min_visible": {"min_visible": 1.0, "scale": [3.0, 3.0]},
}


def augmented(settings, root) -> str:
    """Two samples, augmented ten times."""
    dataset = Dataset(root, "train")
    augment = build_augment(settings, canvas=(64, 64), info=dataset.info)
    out = []
    for seed in range(10):
        sample = dataset.read(seed % 2)
        if augment is not None:
            sample = augment(sample, np.random.default_rng(seed), lambda: dataset.read(3))
        out.append((sample.image.shape, sample.image.tobytes(), sample.target.instances.boxes.tolist()))
    return repr(out)


def test_every_augmentation_has_a_case_here():
    modules = [plugins.find("augmentation", name) for name in plugins.builtin("augmentation")]
    keys = {key for module in modules for key in inspect.signature(module.build).parameters}
    assert keys - GIVEN == {*AUGMENT}


@pytest.mark.parametrize("key", AUGMENT)
def test_every_augmentation_does_something(key, tiny_dataset):
    beside = {name: value for name, value in AUGMENT[key].items() if name != key}
    assert augmented(AUGMENT[key], tiny_dataset) != augmented(beside, tiny_dataset)
