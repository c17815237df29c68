"""A disk that fills up: code 1, one line that names the file, and everything that was whole stays whole."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import torch

from segcli.core.errors import SegcliError
from segcli.engine.run_folder import RunFolder
from segcli.engine.session import Session


@pytest.fixture
def disk(tmp_path):
    """`disk(megabytes)` -> a folder with that much room and no more."""
    mounted = []

    def make(megabytes: int) -> Path:
        folder = tmp_path / "작은 disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("there is no mount command here")
        if done.returncode:
            pytest.skip(f"a disk of {megabytes} MB can't be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Write until nothing more fits. -> the file"""
    file = folder / "filler"
    with open(file, "wb", buffering=0) as stream:
        try:
            while stream.write(bytes(1 << 16)) == 1 << 16:
                pass
        except OSError:
            pass
    return file


@pytest.mark.parametrize("saved", [1, 0])
def test_a_training_keeps_its_last_checkpoint_and_goes_on_when_there_is_room(
    segcli, trained, disk, monkeypatch, tmp_path, saved
):
    """Or begins again, where the disk was full before the first checkpoint."""
    folder, filler, original = disk(100), [], Session.save

    def save_then_fill(session):
        if session.progress.step <= saved:
            original(session)
        filler.append(fill(folder))
        if not saved:
            original(session)

    monkeypatch.setattr(Session, "save", save_then_fill)
    run = folder / "run"
    data = f"data.root={trained / 'data' / 'tiny'}"
    result = segcli(
        *("train", trained / "r.yaml", "--out", run, "--set", data, "--set", "train.save_minutes=0.000001", "-q")
    )
    monkeypatch.setattr(Session, "save", original)
    assert result.code == 1
    assert re.match(rf"error: {run}/.*: can't be written: No space left on device", result.error)
    assert "hint: the disk is full: make room" in result.err
    last = run / "checkpoints" / "last.pt"
    assert torch.load(last, weights_only=True)["progress"]["step"] == 1 if saved else not last.exists()
    assert not list(run.rglob(".*")), "no half-written file takes room"
    filler[0].unlink()
    again = segcli("train", "--resume", run, "-q")
    assert (again.code, "begins again" in again.err) == (0, not saved)
    assert torch.load(last, weights_only=True)["progress"]["step"] == 3


def test_predictions_stop_with_the_file_named(segcli, trained, disk):
    folder = disk(1)
    filler = fill(folder)
    os.truncate(filler, filler.stat().st_size - (32 << 10))
    out = folder / "out"
    result = segcli(
        *("predict", trained / "runs" / "tiny run", trained / "data" / "tiny" / "images", "--out", out, "-q")
    )
    assert result.code == 1
    assert str(out) in result.error
    assert not (out / "predictions.json").exists()
    assert [p.name for p in out.rglob(".*") if p.is_file()] in ([], [".predicting.jsonl"])  # for the next call


def test_a_preparation_leaves_nothing(segcli, disk):
    folder = disk(1)
    filler = fill(folder)
    os.truncate(filler, filler.stat().st_size - (64 << 10))
    result = segcli("prepare", "shapes", "--out", folder / "shapes", "-q")
    assert result.code == 1
    assert str(folder) in result.error
    assert [p.name for p in folder.iterdir()] == ["filler"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here is always full")
def test_a_log_that_can_not_grow_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.open", lambda file, *given, _open=open, **more: _open("/dev/full", *given, **more))
    with pytest.raises(SegcliError, match=r"log\.jsonl: can't be written"):
        RunFolder(tmp_path).log({"step": 1})
