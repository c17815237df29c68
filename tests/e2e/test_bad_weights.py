"""Weights that are broken, of another model, or dangerous: refused with code 4; what is still good stays usable."""

import os
import shutil

import pytest
import torch

from segcli.models import build_model


@pytest.fixture
def run(segcli, trained, tmp_path):
    """A copy of the tiny run, with its data and recipe, in the working folder."""
    for name in ("data", "runs"):
        shutil.copytree(trained / name, tmp_path / name)
    shutil.copy(trained / "r.yaml", tmp_path)
    return tmp_path / "runs" / "tiny run"


class Runs:
    """Unpickled, it would make the folder `it ran`."""

    def __reduce__(self):
        return os.mkdir, ("it ran",)


def write_evil(path):
    torch.save({"model": {"w": Runs()}, "ema": None}, path)


def write_other(path):
    settings = {"name": "rcnn_lite", "width": 16, "backbone": {"name": "resnet", "depth": 18}}
    model = build_model({**settings, "heads": {"iou_box": {}}}, task="detection", num_classes=2, num_things=2)
    torch.save({"model": model.state_dict(), "ema": None}, path)


def write_half(path):
    torch.save({"model": {"w": torch.ones(50_000)}}, path)
    path.write_bytes(path.read_bytes()[:90_000])


BAD = {"evil": write_evil, "other": write_other, "half": write_half, "empty": lambda path: path.write_bytes(b"")}
COMMANDS = {
    "eval": ("eval", "runs/tiny run", "--weights", "가중치 w.pt"),
    "predict": ("predict", "runs/tiny run", "data/tiny/images", "--weights", "가중치 w.pt", "--out", "new"),
    "train": ("train", "r.yaml", "--set", "init=가중치 w.pt", "--out", "new"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_bad_weight_file_is_refused_and_runs_nothing(segcli, run, tmp_path, command, bad):
    BAD[bad](tmp_path / "가중치 w.pt")
    metrics = (run / "metrics.json").read_bytes()
    result = segcli(*COMMANDS[command])
    assert result.code == 4
    assert "가중치 w.pt" in result.error
    assert ("weights of another model" in result.error) == (bad == "other")
    assert not (tmp_path / "it ran").exists()
    assert not (tmp_path / "new").exists()
    assert (run / "metrics.json").read_bytes() == metrics


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_checkpoint_in_a_run_is_refused_and_the_best_weights_still_serve(segcli, run, tmp_path, bad):
    last = run / "checkpoints" / "last.pt"
    BAD[bad](last)
    content = last.read_bytes()
    for command in (("eval", "runs/tiny run"), ("train", "--resume", "runs/tiny run")):
        result = segcli(*command)
        assert result.code == 4, result.err
        assert "checkpoints/last.pt" in result.error
    assert last.read_bytes() == content
    assert not (tmp_path / "it ran").exists()
    assert segcli("eval", "runs/tiny run", "--weights", "best", "-q").code == 0


@pytest.mark.parametrize("name", ["recipe.yaml", "environment.json"])
@pytest.mark.parametrize("content", ["", "{}", "[1"])
def test_a_damaged_run_folder_is_named(segcli, run, name, content):
    (run / name).write_text(content)
    result = segcli("eval", "runs/tiny run")
    assert result.code == (2 if name == "recipe.yaml" else 4)
    assert f"runs/tiny run/{name}" in result.error


def test_any_name_goes_all_the_way(segcli, trained, tmp_path):
    """Spaces, Korean and emoji in every name that a user chooses."""
    source, recipe = tmp_path / "원본 📦", tmp_path / "내 레시피 🍳.yaml"
    shutil.copytree(trained / "data" / "tiny", source)
    (source / "info.json").unlink()
    recipe.write_text(
        (trained / "r.yaml").read_text().replace("name: tiny run", "name: '실행 run 🏃'"), encoding="utf-8"
    )
    assert segcli("prepare", source.name, "--out", "데이터 🐈/새 set", "-q").code == 0
    run = "runs/실행 run 🏃"
    assert segcli("train", recipe.name, "--set", "data.root=데이터 🐈/새 set", "-q").code == 0
    assert (tmp_path / run / "metrics.json").is_file()
    for command in (
        ("train", "--resume", run),
        ("eval", run),
        ("predict", run, "데이터 🐈/새 set/images", "--out", "결과 🖼"),
        ("visualize", "predictions", run, "--worst", "1", "--out", "그림 🎨"),
        ("compare", run, "--csv", "표 📊.csv"),
    ):
        result = segcli(*command, *([] if command[0] == "visualize" else ["-q"]))
        assert result.code == 0, (command, result.err)
    assert (tmp_path / "결과 🖼" / "overlays" / "두 번째 🐈.jpg").is_file()
