"""What a user of `segcli train` relies on: a whole run folder, exact resume, nothing lost when killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from tiny import NARROW

import segcli
from segcli.core.errors import ModelError, SegcliError, UsageError
from segcli.core.recipe.recipe import Recipe
from segcli.engine import fine_tuning
from segcli.engine.opening import open_model
from segcli.engine.run_folder import RunFolder
from segcli.engine.session import Session

SMALL = {
    "name": "small",
    "data.size": 64,
    "data.augment": {"flip": 0.5, "scale": [0.7, 1.3], "colour": 0.5, "copy_paste": 0.5},
    **NARROW,
    "init": None,
    "train.batch_size": 2,
    "train.steps": 6,
    "train.log_every": 1,
    "train.evaluations": 1,
    "train.schedule.warmup_steps": 2,
    "hardware.workers": 0,
}


@pytest.fixture
def recipe(tiny_dataset):
    def make(**changes):
        return Recipe.load("pennfudan/mask_rcnn_lite", {**SMALL, **data(tiny_dataset), **changes})

    return make


def data(root):
    return {"data.root": str(root), "data.name": None, "data.split_file": None}


def states(run):
    return torch.load(run / "checkpoints" / "last.pt", weights_only=True)


def assert_equal(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            if key not in ("seconds", "cpu_seconds", "segcli_sha256"):  # the digest is of the times, too
                assert_equal(a[key], b[key])
    elif isinstance(a, list | tuple):
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


def test_a_run_keeps_its_split_file_and_is_evaluated_from_any_folder(recipe, tmp_path, monkeypatch, tiny_dataset):
    root = tiny_dataset.resolve()
    names = tmp_path / "mine" / "my names.txt"
    names.parent.mkdir()
    names.write_text("five.png\n", encoding="utf-8")
    changes = {"data.root": str(root), "data.split_file": str(names), "train.steps": 1, "train.epochs": None}
    run = segcli.train(recipe(**changes), out=tmp_path / "run", quiet=True).resolve()
    names.unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert (run / "my names.txt").read_text() == "five.png\n"
    segcli.evaluate(run)
    assert json.loads((run / "metrics.json").read_text())["images"] == 1


def test_a_run_folder_holds_what_the_contract_names(recipe, tmp_path):
    run = segcli.train(recipe(), out=tmp_path / "run 한글", quiet=True)
    for name in [
        "recipe.yaml",
        "environment.json",
        "log.jsonl",
        "metrics.json",
        "cost.json",
        "checkpoints/last.pt",
        "checkpoints/best.safetensors",
        "predictions/val.json",
    ]:
        assert (run / name).is_file(), name
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["schema_version"] == 1
    assert metrics["primary"] == "segm_AP"
    assert metrics["images"] == 2
    assert {"bbox_AP", "segm_AP", "segm_AP50"} <= metrics["metrics"].keys()
    cost = json.loads((run / "cost.json").read_text())
    assert cost["images_seen"] == 12
    assert cost["train_seconds"] > 0
    assert cost["train_steps"] == 6
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in log if "loss" in e] == [1, 2, 3, 4, 5, 6]
    assert log[-1]["metrics"] == metrics["metrics"]
    assert json.loads((run / "environment.json").read_text())["dataset"]["name"] == "tiny"
    assert segcli.evaluate(run) == pytest.approx(metrics["metrics"])


@pytest.mark.parametrize("workers", [0, 2])
def test_six_steps_equal_three_and_three(recipe, tmp_path, workers, monkeypatch):
    changes = {"train.ema": 0.9, "train.accumulate": 2, "train.batch_size": 4, "hardware.workers": workers}
    whole = segcli.train(recipe(**changes), out=tmp_path / "whole", quiet=True)
    halves = tmp_path / "halves"
    original = Session.save

    def save_and_stop(session):
        original(session)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            segcli.train(recipe(**changes, **{"train.save_minutes": 1e-9}), out=halves, quiet=True)
    assert states(halves)["progress"]["step"] == 1
    segcli.train(None, resume=halves, quiet=True)
    assert_equal(states(whole), states(halves))
    strip = lambda run: [{k: v for k, v in e.items() if k != "seconds"} for e in RunFolder(run).read_log()]
    assert strip(whole) == strip(halves)
    cost = {run: RunFolder(run).read_cost() for run in (whole, halves)}
    for key in ("train_gflops", "train_steps", "images_seen"):
        assert cost[whole][key] == cost[halves][key] > 0, "a resumed run's work is the sum of its parts"
    assert cost[halves]["train_cpu_seconds"] >= round(states(halves)["progress"]["cpu_seconds"], 1) > 0


@pytest.mark.parametrize("lost", ["metrics.json", "cost.json"])
def test_work_is_counted_again_with_what_a_finished_run_has_lost(recipe, tmp_path, lost):
    run = segcli.train(recipe(**{"train.steps": 2}), out=tmp_path / "run", quiet=True)
    before = RunFolder(run).read_cost()
    (run / lost).unlink()
    segcli.train(None, resume=run, quiet=True)
    after = RunFolder(run).read_cost()
    assert after["train_gflops"] == pytest.approx(before["train_gflops"], rel=0.1)  # of another batch
    for key in ("train_cpu_seconds", "train_steps", "images_seen"):
        assert after[key] == before[key]


def test_a_training_that_an_earlier_version_began_has_no_work_on_record(recipe, tmp_path):
    run = segcli.train(recipe(**{"train.steps": 1}), out=tmp_path / "run", quiet=True)
    state = states(run)
    for key in ("pixels", "cpu_seconds"):
        del state["progress"][key]
    del state["segcli_sha256"]
    torch.save(state, run / "checkpoints" / "last.pt")
    (run / "recipe.yaml").write_text((run / "recipe.yaml").read_text().replace("steps: 1\n", "steps: 2\n"))
    segcli.train(None, resume=run, quiet=True)
    cost = RunFolder(run).read_cost()
    assert cost["train_gflops"] is cost["train_cpu_seconds"] is None
    assert (cost["train_steps"], cost["images_seen"]) == (2, 4)


def test_a_run_that_an_earlier_version_began_goes_on_with_its_groups(recipe, tmp_path, monkeypatch):
    """A rate of 0 froze nothing then: the optimiser holds such parameters, too."""
    with monkeypatch.context() as patch:
        patch.setattr(fine_tuning, "freeze", lambda *_: None)
        asked = recipe(**{"train.steps": 1, "train.optimizer.backbone_lr": 0.0})
        run = segcli.train(asked, out=tmp_path / "run", quiet=True)
    environment = RunFolder(run).environment()
    del environment["new_layers"]
    RunFolder(run).write_environment(environment)
    (run / "recipe.yaml").write_text((run / "recipe.yaml").read_text().replace("steps: 1\n", "steps: 2\n"))
    count = lambda: [len(group["params"]) for group in states(run)["optimizer"]["param_groups"]]
    before = count()
    segcli.train(None, resume=run, quiet=True)
    assert (states(run)["progress"]["step"], count()) == (2, before)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(recipe, tmp_path):
    runs = [
        segcli.train(recipe(**{"train.seed": seed, "train.steps": 2}), out=tmp_path / name, quiet=True)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    losses = [[e["loss"] for e in RunFolder(r).read_log() if "loss" in e] for r in runs]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


COMMAND = [sys.executable, "-m", "segcli.cli.app"]


def start_training(recipe, folder, tmp_path, **how):
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml(), encoding="utf-8")
    return subprocess.Popen(
        [*COMMAND, "train", str(file), "--out", str(folder)], stderr=subprocess.PIPE, text=True, cwd=tmp_path, **how
    )


def wait_for_steps(folder, steps, process):
    end = time.monotonic() + 600
    while time.monotonic() < end:
        log = folder / "log.jsonl"
        if log.is_file() and len(log.read_text().splitlines()) >= steps:
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    raise AssertionError("the training did not get that far")


def test_kill_9_loses_nothing_that_was_saved(recipe, tmp_path):
    """Killed at random moments, resumed each time: the end is bitwise that of a run that was never killed.

    On one thread, as more of them round otherwise.
    """
    changes = {"train.steps": 16, "train.ema": 0.9, "hardware.workers": 1, "hardware.threads": 1}
    changes["train.save_minutes"] = 1e-9
    whole = segcli.train(recipe(**changes), out=tmp_path / "whole", quiet=True)
    killed = tmp_path / "killed"
    rng = random.Random(0)
    process = start_training(recipe(**changes), killed, tmp_path)
    for at in (3, 9):
        wait_for_steps(killed, at, process)
        time.sleep(rng.random() * 0.3)
        process.kill()
        process.wait()
        process.stderr.close()
        if at == 3:
            process = subprocess.Popen(
                [*COMMAND, "train", "--resume", str(killed)], stderr=subprocess.PIPE, text=True, cwd=tmp_path
            )
    segcli.train(None, resume=killed, quiet=True)
    assert_equal(states(whole)["ema"], states(killed)["ema"])
    assert_equal(states(whole)["optimizer"], states(killed)["optimizer"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_exits_130_and_until_then_the_run_is_its_own(recipe, tmp_path, number):
    run = tmp_path / "run"
    process = start_training(recipe(**{"train.steps": 500, "train.save_minutes": 1e-9}), run, tmp_path)
    wait_for_steps(run, 2, process)
    other = {"resume": run} if number == signal.SIGINT else {"out": run, "force": True}
    with pytest.raises(ModelError, match="run is being trained by another process"):
        segcli.train(None if "resume" in other else recipe(), **other, quiet=True)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert states(run)["progress"]["step"] >= 2
    assert f"--resume {run}" in errors
    assert "Traceback" not in errors


def test_a_job_whose_every_process_gets_sigterm_saves_too(recipe, tmp_path):
    run = tmp_path / "run"
    settings = {"train.steps": 500, "train.save_minutes": 1e-9, "hardware.workers": 1}
    process = start_training(recipe(**settings), run, tmp_path, start_new_session=True)
    wait_for_steps(run, 2, process)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert f"--resume {run}" in errors


def test_a_loss_that_is_not_finite_stops_with_step_and_images(recipe, tmp_path, monkeypatch):
    from segcli.models.rcnn.rcnn import RCNN

    original, calls = RCNN.forward, []

    def broken(self, batch):
        losses = original(self, batch)
        calls.append(batch.image_ids)
        return {**losses, "loss_mask": losses["loss_mask"] * float("nan")} if len(calls) == 3 else losses

    monkeypatch.setattr(RCNN, "forward", broken)
    with pytest.raises(SegcliError, match=r"step 3: loss_mask not finite on image ids \d+") as caught:
        segcli.train(recipe(), out=tmp_path / "run", quiet=True)
    assert all(str(i) in str(caught.value) for i in calls[2])
    assert states(tmp_path / "run")["progress"]["step"] == 2


def test_nothing_is_overwritten_without_force(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = {"train.steps": 1, "train.evaluations": 0}
    first = segcli.train(recipe(**short), quiet=True)
    second = segcli.train(recipe(**short), quiet=True)
    assert (str(first), str(second)) == ("runs/small", "runs/small-2")
    with pytest.raises(UsageError, match="not empty"):
        segcli.train(recipe(**short), out=first, quiet=True)


def test_resuming_another_architecture_is_refused(recipe, tmp_path):
    run = segcli.train(recipe(**{"train.steps": 1}), out=tmp_path / "run", quiet=True)
    text = (run / "recipe.yaml").read_text().replace("steps: 1\n", "steps: 2\n").replace("width: 32\n", "width: 64\n")
    (run / "recipe.yaml").write_text(text)
    with pytest.raises(ModelError, match=r"last\.pt"):
        segcli.train(None, resume=run, quiet=True)
    with pytest.raises(ModelError, match="of another shape"):
        open_model(run)


def test_an_edited_rate_counts_from_the_checkpoint_on_and_is_said(recipe, tmp_path, capsys):
    constant = {"train.schedule.name": "constant", "train.schedule.warmup_steps": 0}
    run = segcli.train(recipe(**{"train.steps": 2, **constant}), out=tmp_path / "run", quiet=True)
    file = run / "recipe.yaml"
    file.write_text(Recipe.load(file, {"train.steps": 3}).to_yaml(), encoding="utf-8")
    capsys.readouterr()
    segcli.train(None, resume=run, quiet=True)
    assert "has changed" not in capsys.readouterr().err
    edited = {"train.steps": 4, "train.optimizer.lr": 0.0123, "train.optimizer.weight_decay": 0.5}
    file.write_text(Recipe.load(file, edited).to_yaml(), encoding="utf-8")
    segcli.train(None, resume=run, quiet=True)
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "has changed" in line]
    assert all(part in said for part in ("recipe.yaml", "-> 0.0123", "-> 0.5"))
    assert [e["lr"] for e in RunFolder(run).read_log() if e["step"] == 4 and "lr" in e] == [pytest.approx(0.0123)]


def test_minutes_become_steps_that_the_run_records(recipe, tmp_path):
    changes = {"train.steps": None, "train.minutes": 0.02}
    run = segcli.train(recipe(**changes), out=tmp_path / "run", quiet=True)
    resolved = RunFolder(run).recipe()
    assert resolved.train.minutes is None
    assert resolved.train.steps == states(run)["progress"]["step"]


def test_training_learns(recipe, tmp_path):
    """Thirty steps on four images: the losses fall by half."""
    changes = {"train.steps": 30, "data.augment": {}, "train.optimizer.lr": 4e-3, "model.proposals": [64, 16]}
    run = segcli.train(recipe(**changes), out=tmp_path / "run", quiet=True)
    losses = [e["loss"] for e in RunFolder(run).read_log() if "loss" in e]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:3])
