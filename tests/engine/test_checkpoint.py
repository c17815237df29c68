"""Weights and training states on disk: written whole or not at all, and read without running code."""

import math
import os
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from segcli.core.errors import ModelError, SegcliError
from segcli.engine.checkpoint import load_state, load_strict, load_weights, save_state, save_weights


def test_a_state_comes_back(tmp_path):
    path = tmp_path / "한글 🐈" / "last.pt"
    save_state(path, {"step": 3, "model": {"w": torch.ones(2)}, "best": 0.5})
    assert load_state(path)["step"] == 3
    assert [p.name for p in path.parent.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("where", ["torch.save", "os.replace", "os.fsync"])
def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch, where):
    path = tmp_path / "last.pt"
    save_state(path, {"step": 1})
    before = path.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch if where.startswith("torch") else os, where.split(".")[1], full)
    with pytest.raises(SegcliError, match=r"last\.pt: can't be written: .*No space left") as caught:
        save_state(path, {"step": 2})
    assert "untouched" in caught.value.hint
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_an_interrupted_save_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path / "last.pt", {})
    assert list(tmp_path.iterdir()) == []


def test_weights_come_back_whatever_their_memory_layout(tmp_path):
    make = lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model, other = make().to(memory_format=torch.channels_last), make()
    save_weights(tmp_path / "best.safetensors", model.state_dict(), {"step": "1"})
    report = load_weights(other, tmp_path / "best.safetensors")
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())
    assert report["loaded"] == list(model.state_dict())
    assert not any(report[key] for key in report if key != "loaded")


def test_the_averaged_weights_of_a_training_state_come_first(tmp_path):
    model, state = nn.Linear(2, 1), {"weight": torch.zeros(1, 2), "bias": torch.zeros(1)}
    average = {"weight": torch.ones(1, 2), "bias": torch.ones(1)}
    save_state(tmp_path / "a.pt", {"model": state, "ema": average, "step": 5})
    load_weights(model, tmp_path / "a.pt")
    assert model.weight.tolist() == [[1, 1]]
    save_state(tmp_path / "b.pt", {"model": state, "ema": None, "step": 5})
    load_weights(model, tmp_path / "b.pt")
    assert model.weight.tolist() == [[0, 0]]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_truncated_file(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    state = {"w": torch.ones(5000)}
    save_state(path, state) if suffix == ".pt" else save_weights(path, state, {})
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(ModelError, match=rf"a\{suffix}: can't be read as weights"):
        load_weights(nn.Linear(1, 1), path)
    if suffix == ".pt":
        with pytest.raises(ModelError, match=r"a\.pt: not a readable checkpoint"):
            load_state(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(ModelError, match=r"a\.pt: no checkpoint"):
        load_state(tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"a\.pth: no such weight file"):
        load_weights(nn.Linear(1, 1), tmp_path / "a.pth")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".pkl"])
def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(tmp_path, suffix):
    mark, path = tmp_path / "it ran", tmp_path / f"evil{suffix}"

    class Runs:
        def __reduce__(self) -> Any:
            return os.system, (f"touch '{mark}'",)

    if suffix == ".pkl":
        path.write_bytes(pickle.dumps({"model": {"w": Runs()}}))
    else:
        torch.save({"model": {"w": Runs()}}, path)
    with pytest.raises(ModelError, match=rf"evil\{suffix}: "):
        load_weights(nn.Linear(1, 1), path)
    with pytest.raises(ModelError):
        load_state(path)
    assert not mark.exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_tensors_that_no_model_can_use_are_refused(tmp_path, suffix):
    model = nn.BatchNorm1d(3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    nan, whole = torch.tensor([1.0, math.nan, 2.0]), torch.tensor([1, 2, 3])
    for name, value, said in (
        ("weight", nan, "finite"),
        ("running_var", 1 / (nan * 0), "finite"),
        ("bias", whole, "int64"),
    ):
        file = tmp_path / f"a{suffix}"
        state = {**before, name: value}
        save_state(file, state) if suffix == ".pt" else save_weights(file, state, {})
        with pytest.raises(ModelError, match=rf"a{suffix}: '{name}' holds .*{said}"):
            load_weights(model, file)
        with pytest.raises(ModelError, match=rf"there: '{name}' holds .*{said}"):
            load_strict(model, state, "there")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    load_strict(model, {**before, "bias": torch.ones(3, dtype=torch.float64)}, "there")
    assert model.bias.tolist() == [1, 1, 1]
