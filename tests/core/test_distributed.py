"""Two processes train what one would with twice the batch; they are started, fail, stop and go on as one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
import yaml
from batches import TRUNK

import segcli
from segcli.core.errors import UsageError
from segcli.core.recipe.recipe import Recipe
from segcli.engine.run_folder import RunFolder

LITE = {"width": 32, "proposals": [8, 8], "heads": {"iou_box": {}, "lite_mask": {}}}
MASKFORMER = {"name": "maskformer", "queries": 8, "transformer": {"decoder_layers": 2, "dropout": 0.0}}
# whole runs of two families; tests/engine/test_equal_steps.py holds the steps of every one together
FAMILIES = {"lite": ("instance", {"name": "rcnn_lite", **LITE}), "maskformer": ("instance", MASKFORMER)}
COMMAND = [sys.executable, "-m", "segcli.cli.app"]
SCRIPT = """
import sys, torch
from segcli.core.recipe.recipe import Recipe
from segcli.commands.train import train
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
for name in sys.argv[1:]:
    train(Recipe.load(f"{name}.yaml", {"train.batch_size": 2, "hardware.devices": 2}), out=f"two/{name}", quiet=True)
torch.distributed.destroy_process_group()
"""


def recipe(root, name, **train):
    task, model = FAMILIES[name]
    optimizer = {"name": "sgd", "lr": 0.002, "momentum": 0.9}
    return {
        "name": name,
        "task": task,
        "data": {"root": str(root), "size": 64, "augment": {"flip": 0.5, "colour": 0.3}},
        "model": {**model, "backbone": TRUNK},
        "train": {"steps": 2, "batch_size": 4, "evaluations": 0, "log_every": 1, "optimizer": optimizer, **train},
        "hardware": {"device": "cpu", "workers": 0, "threads": 1, "precision": "fp32"},
    }


def steps(run):
    return [e for e in RunFolder(run).read_log() if "loss" in e]


def weights(run):
    return torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]


@pytest.fixture(scope="module")
def both(tiny_dataset, tmp_path_factory):
    """one/NAME and two/NAME: each family trained by one process and, in turn, by two that torchrun would start."""
    folder = tmp_path_factory.mktemp("two processes")
    for name in FAMILIES:
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe(tiny_dataset, name)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *FAMILIES],
            env={**shared, "RANK": str(i), "LOCAL_RANK": str(i)},
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    for name in FAMILIES:
        segcli.train(Recipe.load(folder / f"{name}.yaml"), out=folder / "one" / name, quiet=True)
    for process in pair:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    return folder


@pytest.mark.parametrize("name", FAMILIES)
def test_two_processes_train_what_one_does_with_twice_the_batch(both, name):
    one, two = both / "one" / name, both / "two" / name
    a, b = steps(one), steps(two)
    assert [e["step"] for e in a] == [e["step"] for e in b] == [1, 2]
    for x, y in zip(a, b, strict=True):
        assert x["epoch"] == y["epoch"]
        for key in x.keys() - {"seconds", "epoch", "step"}:
            assert y[key] == pytest.approx(x[key], rel=2e-4, abs=1e-5), (key, x["step"])
    first = weights(one)
    for key, value in weights(two).items():
        assert torch.allclose(value, first[key], rtol=1e-3, atol=2e-5), key
    assert a[0]["loss"] != a[-1]["loss"]
    costs = [json.loads((run / "cost.json").read_text()) for run in (one, two)]
    assert [cost["images_seen"] for cost in costs] == [8, 8]
    # the work of both processes together; how many masks an image has to learn differs between the counted batches
    assert costs[1]["train_gflops"] == pytest.approx(costs[0]["train_gflops"], rel=0.05)
    assert costs[1]["train_cpu_seconds"] > 0
    assert json.loads((two / "environment.json").read_text())["processes"] == 2


def write(folder, root, **changes):
    data = recipe(root, "lite", batch_size=2, ema=0.9, **changes)
    data["hardware"]["devices"] = 2
    (folder / "r.yaml").write_text(yaml.safe_dump(data))


def start(folder, *arguments):
    return subprocess.Popen(
        [*COMMAND, "train", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    )


def wait_for(file, lines, process):
    end = time.monotonic() + 600
    while not (file.is_file() and len(file.read_text().splitlines()) >= lines):
        assert time.monotonic() < end, "the training did not get that far"
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)


def test_an_interrupt_saves_and_the_run_goes_on_as_if_nothing_had_been(tiny_dataset, tmp_path):
    write(tmp_path, tiny_dataset, steps=40)
    process = start(tmp_path, "r.yaml", "--out", "run")
    wait_for(tmp_path / "run" / "log.jsonl", 3, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "--resume run" in errors
    assert "Traceback" not in errors
    assert "signal" not in errors
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)
    at = state["progress"]["step"]
    assert 3 <= at < 40
    text = (tmp_path / "run" / "recipe.yaml").read_text()
    (tmp_path / "run" / "recipe.yaml").write_text(text.replace("steps: 40", f"steps: {at + 2}"))
    resumed = start(tmp_path, "--resume", "run")
    out, errors = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, errors
    assert "AP50" in out
    assert [e["step"] for e in steps(tmp_path / "run")] == list(range(1, at + 3))


def test_a_process_that_fails_ends_all_with_its_own_error(tiny_copy, tmp_path):
    (tiny_copy / "images" / "three.png").write_bytes(b"not an image")
    write(tmp_path, tiny_copy)
    process = start(tmp_path, "r.yaml", "--out", "run")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 3, errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "three.png: not an image" in line
    assert "Traceback" not in errors


def test_what_cannot_be_started_is_said_before_any_work(tiny_dataset, tmp_path, monkeypatch):
    write(tmp_path, tiny_dataset)
    load = lambda **changes: Recipe.load(tmp_path / "r.yaml", {f"hardware.{k}": v for k, v in changes.items()})
    with pytest.raises(UsageError, match=r"hardware\.nodes is 2") as caught:
        segcli.train(load(nodes=2), out=tmp_path / "run")
    assert "torchrun --nnodes 2 --nproc-per-node 2" in caught.value.hint
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UsageError, match=r"is 2, and 3 processes were started"):
        segcli.train(load(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
