"""Damaged checkpoints are found, the last good one is used; what is not finite is named for every family."""

import math
import shutil

import pytest
import torch

import segcli
from segcli.commands.train import train
from segcli.core.errors import ModelError, NotFiniteError, SegcliError
from segcli.core.recipe.recipe import Recipe
from segcli.engine.checkpoint import load_state, load_weights, recover, save_state, save_weights
from segcli.engine.run_folder import RunFolder


def flip(path, where):
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)


def place_of(path, tensor):
    return path.read_bytes().index(tensor.numpy().tobytes()) + 5


def test_a_flipped_byte_is_found_and_the_checkpoint_before_is_used(tmp_path, capsys):
    last, previous, value = tmp_path / "last.pt", tmp_path / "previous.pt", torch.randn(1000)
    for step in (1, 2, 3):
        save_state(last, {"progress": {"step": step}, "model": {"w": value + step}, "ema": None}, previous)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.pt", "previous.pt"]
    assert load_state(previous)["progress"]["step"] == 2
    flip(last, place_of(last, value + 3))
    with pytest.raises(ModelError, match=r"last\.pt: is damaged"):
        load_state(last)
    recover(last, previous)
    assert "going on from the checkpoint before it, of step 2" in capsys.readouterr().err
    assert load_state(last)["progress"]["step"] == 2
    last.write_bytes(b"")
    with pytest.raises(ModelError):
        recover(last, previous)


@pytest.mark.parametrize("change", ["weight", "moment", "step", "type", "gone", "order"])
def test_what_was_changed_and_saved_again_is_found(tmp_path, change):
    state = {
        "model": {"w": torch.randn(3, 4)},
        "optimizer": {0: [torch.zeros(2), None]},
        "progress": {"a": 1, "b": 0.5},
    }
    save_state(tmp_path / "last.pt", state)
    assert load_state(tmp_path / "last.pt").keys() == state.keys()
    kept = torch.load(tmp_path / "last.pt", weights_only=True)
    if change == "weight":
        kept["model"]["w"][1, 2] *= 1.0001
    elif change == "moment":
        kept["optimizer"][0][0][1] = 1e-9
    elif change == "step":
        kept["progress"]["a"] = 2
    elif change == "type":
        kept["model"]["w"] = kept["model"]["w"].double()
    elif change == "gone":
        del kept["optimizer"]
    else:
        kept["model"]["w"] = kept["model"]["w"].reshape(4, 3)
    torch.save(kept, tmp_path / "last.pt")
    with pytest.raises(ModelError, match=r"last\.pt: is damaged"):
        load_state(tmp_path / "last.pt")
    with pytest.raises(ModelError, match=r"last\.pt: is damaged"):
        load_weights(torch.nn.Linear(4, 3), tmp_path / "last.pt")


def test_a_state_of_other_kinds_of_values_keeps_its_digest(tmp_path):
    part = {
        "half": torch.ones(2, dtype=torch.bfloat16),
        "none": torch.zeros(0),
        "one": torch.tensor(3),
        "nan": math.nan,
    }
    lines = torch.randn(1, 3, 4, 4).to(memory_format=torch.channels_last)
    save_state(
        tmp_path / "a.pt", {**part, "lines": lines, "pair": (1, True, None, "é"), "view": torch.ones(4, 4)[:, 1]}
    )
    assert torch.equal(load_state(tmp_path / "a.pt")["lines"], lines)


def test_a_checkpoint_that_is_none_gives_way_to_the_one_before(tmp_path, capsys):
    last, previous = tmp_path / "last.pt", tmp_path / "previous.pt"
    for content in ([1], {"step": 3}):
        torch.save(content, last)
        save_state(previous, {"model": {"w": torch.ones(2)}, "ema": None, "progress": "x"})
        recover(last, previous)
        assert "going on from the checkpoint before it" in capsys.readouterr().err


def test_a_state_without_checksums_loads(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(9)}, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert load_state(tmp_path / "a.pt")["a"].sum() == 9


def test_damaged_weights_are_refused(tmp_path):
    model = torch.nn.Linear(50, 50)
    file = tmp_path / "best.safetensors"
    save_weights(file, model.state_dict(), {})
    load_weights(torch.nn.Linear(50, 50), file)
    flip(file, place_of(file, model.weight.detach()))
    with pytest.raises(ModelError, match=r"best\.safetensors: is damaged"):
        load_weights(torch.nn.Linear(50, 50), file)


def test_a_model_that_meets_nan_before_its_losses_saves_too(tmp_path, tiny_dataset, monkeypatch):
    from segcli.models.rcnn.rcnn import RCNN

    (tmp_path / "r.yaml").write_text(
        "name: d\ntask: detection\n"
        f"data: {{root: {tiny_dataset}, size: 64}}\n"
        "model: {name: rcnn_lite, width: 32, backbone: {name: resnet, depth: 18}, heads: {box: {}}}\n"
        "train: {steps: 4, batch_size: 1, evaluations: 1}\nhardware: {workers: 0, device: cpu}\n"
    )
    original, calls = RCNN.forward, []

    def broken(self, batch):
        calls.append(batch.image_ids)
        if len(calls) == 3:
            raise NotFiniteError("the costs are not finite", term="matching costs")
        return original(self, batch)

    monkeypatch.setattr(RCNN, "forward", broken)
    with pytest.raises(SegcliError, match="step 3: matching costs not finite on image ids") as caught:
        train(Recipe.load(tmp_path / "r.yaml"), out=tmp_path / "run", quiet=True)
    assert str(calls[2][0]) in str(caught.value)
    assert load_state(RunFolder(tmp_path / "run").last)["progress"]["step"] == 2


def test_a_finished_run_without_scores_is_scored_again(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(trained)
    run = shutil.copytree(trained / "runs" / "tiny run", tmp_path / "run")
    before = RunFolder(run).read_metrics()["metrics"]
    (run / "metrics.json").unlink()
    (run / "environment.json").unlink()
    segcli.train(None, resume=run, quiet=True)
    assert RunFolder(run).read_metrics()["metrics"] == before
    assert RunFolder(run).info().name == "tiny"
    (run / "metrics.json").write_text('{"half', encoding="utf-8")
    segcli.train(None, resume=run, quiet=True)
    assert RunFolder(run).read_metrics()["metrics"] == before


def test_a_folder_that_was_only_begun_is_taken_and_others_are_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = RunFolder.create("a", None, False)
    (first.path / "train.lock").touch()
    assert RunFolder.create("a", None, False).path == first.path
    (first.path / "mine.txt").touch()
    assert RunFolder.create("a", None, False).path.name == "a-2"
