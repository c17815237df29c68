"""What is forecast before a training, against what the training then needs where that is exact, and its refusals."""

import pytest
import torch
from tiny import NARROW
from torch import nn

from segcli.commands import train
from segcli.core.recipe.recipe import Recipe
from segcli.engine import forecast, machine
from segcli.models import build_model


def small(root, **changes):
    base = {
        "data.root": str(root),
        "data.name": None,
        "data.split_file": None,
        "data.size": 64,
        **NARROW,
        "init": None,
        "train.batch_size": 2,
        "train.steps": 4,
        "train.evaluations": 2,
        "hardware.workers": 0,
    }
    return Recipe.load("pennfudan/mask_rcnn_lite", {**base, **changes})


def test_disk_is_what_the_run_folder_then_takes(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = small(tiny_dataset)
    told = train.dry_run(recipe)
    assert list(tmp_path.iterdir()) == [tiny_dataset] or not (tmp_path / "runs").exists()
    assert told["steps"] == 4
    assert told["forecast"]["measured"]
    assert told["forecast"]["possible"] in (True, None)
    assert told["losses"]
    run = train.train(recipe, out=tmp_path / "run", quiet=True)
    used = sum(f.stat().st_size for f in run.rglob("*") if f.is_file()) / 1e6
    assert abs(told["forecast"]["disk_mb"] - used) < 0.05 * used
    seconds = told["minutes"] * 60
    assert seconds == pytest.approx(told["steps"] * told["step_seconds"])


def test_what_does_not_fit_is_said_and_not_run(tiny_dataset, monkeypatch):
    monkeypatch.setattr(machine, "free_memory", lambda device: 100.0)
    monkeypatch.setattr(machine, "free_disk", lambda folder: 1.0)
    monkeypatch.setattr(forecast, "trial_steps", lambda *_: 1 / 0)
    told = train.dry_run(small(tiny_dataset))
    assert told["forecast"]["possible"] is False
    assert not told["forecast"]["measured"]
    assert told["losses"] == {}
    memory, disk = told["forecast"]["reasons"]
    assert memory.endswith("MB of memory, and 100 MB are free")
    assert disk.endswith("MB of disk, and 1 MB are free")


@pytest.mark.parametrize("step", ["trial_steps", "score_model"])
def test_memory_that_runs_out_on_the_way_is_a_reason_and_no_failure(tiny_dataset, monkeypatch, step):
    """What the count had held for possible; `compare` would lose its other rows."""

    def greedy(*_, **__):
        torch.empty(2**46)

    monkeypatch.setattr(forecast, "STEPS", 1)
    monkeypatch.setattr(forecast, step, greedy)
    told = train.dry_run(small(tiny_dataset))["forecast"]
    assert told["possible"] is False
    assert not told["measured"]
    assert told["reasons"][0].startswith("memory ran out when it was tried: ")
    monkeypatch.setattr(forecast, step, lambda *_, **__: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):  # any other error is one
        train.dry_run(small(tiny_dataset))


def test_kept_activations_are_counted_once_and_weights_not():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def network(self, images):
            x = self.a(images)
            return self.b(x.relu()), self.b(x.relu())  # relu keeps its result, and so does the convolution after it

    images, maps = 3 * 8 * 16 * 4, 4 * 8 * 16 * 4
    assert forecast.kept_activations(Two(), (8, 16)) == images + 2 * maps
    frozen = Two()
    frozen.a.requires_grad_(False)
    assert forecast.kept_activations(frozen, (8, 16)) == 2 * maps


@pytest.mark.parametrize(("task", "part"), [("detection", "backbone"), ("instance", "detr.backbone")])
def test_activations_of_the_backbone_are_counted_with_and_without_masks(task, part):
    settings = {"name": "detr", "backbone": {"name": "resnet", "depth": 18}, "transformer": {"dim": 128, "ffn": 32}}
    model = build_model(settings, task=task, num_classes=2, num_things=2)
    assert model.trunk() is model.get_submodule(part)
    assert forecast.kept_activations(model, (64, 64), type(model).trunk) > 64 * 64 * 4


def test_the_machine_tells_its_limits(tmp_path):
    assert machine.speed_limit("cpu") > 0.1
    assert machine.speed_limit("cpu") == machine.speed_limit(torch.device("cpu"))
    assert machine.free_disk(tmp_path / "not" / "there") > 0
    free = machine.free_memory("cpu")
    assert free is None or free > 50
