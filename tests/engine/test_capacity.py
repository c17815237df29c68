"""What can't be held is refused with one line before anything is made; what can, is not."""

import os

import pytest
import torch

from segcli.core.errors import UsageError
from segcli.engine import capacity, machine

GB = 1000.0  # in the unit of free_memory


@pytest.fixture
def train(segcli, trained, tmp_path, monkeypatch):
    """`train("data.size=60000")` -> its result; nothing may be left of it."""
    monkeypatch.setattr(machine, "free_memory", lambda device: 8 * GB)
    monkeypatch.setattr(machine, "free_swap", lambda: 0.0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(trained / "data")

    def run(*settings):
        result = segcli("train", trained / "r.yaml", "-q", *[word for s in settings for word in ("--set", s)])
        assert not (tmp_path / "runs").exists()
        return result

    return run


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("data.size=100000", "data.size"),
        ("data.size=60000", "data.size: 2 images of 60,000 x 60,000 pixels need more than"),
        ("data.size=[60000,60000]", "data.size"),
        ("train.batch_size=65536", "train.batch_size"),
        ("train.batch_size=1000000", "train.batch_size"),
        ("hardware.workers=3000", "hardware.workers"),
        ("hardware.threads=100000", "hardware.threads"),
        ("model.width=1000000", "its weights need"),
        ("model.rpn.convolutions=100000", "model.rpn.convolutions can't be 100000"),
        ("model.width=7", "model: can't be built with these settings"),
        ("model.width=-8", "model.width can't be -8: 1 at least"),
        ("model.backbone.depth=7", "depth"),
    ],
)
def test_too_much_is_one_line_and_exit_code_2(train, setting, words):
    result = train(setting)
    assert result.code == 2, result.err
    assert words in result.error


def test_settings_that_fail_on_the_first_batch_are_the_recipes_fault(segcli, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(trained)
    result = segcli("train", "r.yaml", "-q", "--dry-run", "--set", "model.width=7")
    assert result.code == 2
    assert "model: can't be built with these settings" in result.error
    with pytest.raises(RuntimeError, match="out of memory"), capacity.first_batch("it fails"):
        raise torch.OutOfMemoryError("out of memory")
    with pytest.raises(UsageError, match="own"), capacity.first_batch("it fails"):
        raise UsageError("own")


def test_large_trainings_that_fit_are_not_refused(segcli, trained, monkeypatch):
    monkeypatch.chdir(trained)
    monkeypatch.setattr(machine, "free_memory", lambda device: 0.5 * GB)
    monkeypatch.setattr(machine, "free_swap", lambda: 0.0)
    result = segcli("eval", "runs/tiny run", "--weights", "best", "-q")
    assert result.code == 0, result.err


def test_threads_and_workers_beyond_sense_are_fewer_and_said(monkeypatch, capsys):
    given = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for threads in (None, 1, 64, 1024):
        capacity.use_threads(threads)
    assert given == [1, 64, 64]
    assert capsys.readouterr().err == "note: hardware.threads is 1024: 64 are used on this machine's CPUs\n"
