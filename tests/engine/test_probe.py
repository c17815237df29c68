"""A training that fine-tunes another recipe from its weights as often as it is scored (`train.probe`)."""

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny import TINY_RECIPE

import segcli
from segcli.cli import app
from segcli.core.errors import SegcliError, UsageError
from segcli.core.parent import begin_training
from segcli.core.recipe.recipe import Recipe
from segcli.engine import probe as module


@pytest.fixture
def recipe(tiny_copy):
    """`pre.yaml`, whose probe is `fine.yaml`, beside the data. -> the loaded recipe with changes."""
    fine = {**TINY_RECIPE, "name": "fine", "data": {**TINY_RECIPE["data"], "root": str(tiny_copy)}}
    (tiny_copy.parent / "fine.yaml").write_text(yaml.safe_dump(fine))
    train = {**TINY_RECIPE["train"], "evaluations": 2, "steps": 2}
    probed = {"recipe": str(tiny_copy.parent / "fine.yaml"), "steps": 1}

    def load(**changes):
        found = {**fine, "name": "pre", "train": {**train, "probe": probed}}
        (tiny_copy.parent / "pre.yaml").write_text(yaml.safe_dump(found))
        return Recipe.load(tiny_copy.parent / "pre.yaml", changes)

    return load


def entries(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


class Ended:
    """A process that ended."""

    returncode = 0

    def poll(self):
        return 0

    def terminate(self):
        pass

    wait = terminate


@pytest.fixture
def in_this_process(monkeypatch):
    """Probes run here, which saves starts of Python; what they begin with is kept. The random numbers stay."""
    begun = []

    def begin(arguments, output):
        start = next(a for a in arguments if a.startswith("--set=init="))
        begun.append(load_file(json.loads(start.removeprefix("--set=init="))))
        before = torch.get_rng_state()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            assert app.run(["train", *arguments]) == 0
        torch.set_rng_state(before)
        return Ended()

    monkeypatch.setattr(module, "begin_training", begin)
    return begun


def test_every_scoring_logs_what_the_weights_are_worth_and_the_training_is_as_without(
    recipe, tmp_path, in_this_process, capsys
):
    run = segcli.train(recipe(), out=tmp_path / "with")
    shown = capsys.readouterr().err
    plain = segcli.train(recipe(**{"train.probe": None}), out=tmp_path / "plain", quiet=True)
    logs = [[{k: v for k, v in e.items() if k not in ("seconds", "probe")} for e in entries(r)] for r in (run, plain)]
    assert logs[0] == logs[1]
    scored = [e for e in entries(run) if "metrics" in e]
    assert [e["step"] for e in scored] == [1, 2]
    assert all("segm_AP" in e["probe"] for e in scored)
    assert shown.count("fine.yaml from here, 1 steps: segm_AP") == 2
    own = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]
    first, last = in_this_process
    assert any(not torch.equal(first[key], last[key]) for key in first)
    assert all(torch.equal(last[key], own[key]) for key in last)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["best.safetensors", "last.pt", "previous.pt"]


def test_what_it_would_train_is_looked_for_before_the_first_step(recipe, tmp_path):
    with pytest.raises(UsageError, match="no recipe"):
        segcli.train(recipe(**{"train.probe.recipe": "gone.yaml"}), out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_ctrl_c_ends_it_too_and_the_training_goes_on_as_it_would_have(recipe, tmp_path, monkeypatch, in_this_process):
    class Running(Ended):
        ended = False

        def poll(self):
            return 0 if self.ended else None

        def terminate(self):
            self.ended = True

    def begin(arguments, output):
        os.kill(os.getpid(), signal.SIGINT)
        return Running()

    usual = module.begin_training
    monkeypatch.setattr(module, "begin_training", begin)
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        segcli.train(recipe(), out=run, quiet=True)
    monkeypatch.setattr(module, "begin_training", usual)
    segcli.train(None, resume=run, quiet=True)
    assert ["probe" in e for e in entries(run) if "metrics" in e] == [False, True]
    whole = segcli.train(recipe(**{"train.probe": None}), out=tmp_path / "whole", quiet=True)
    states = [torch.load(r / "checkpoints" / "last.pt", weights_only=True)["model"] for r in (run, whole)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])


@pytest.mark.slow
def test_a_process_of_its_own_that_says_why_it_failed(recipe, tmp_path):
    run = tmp_path / "run"
    pre = recipe(**{"train.steps": 1, "train.evaluations": 1})
    segcli.train(pre, out=run, quiet=True)
    assert "segm_AP" in entries(run)[-1]["probe"]
    fine = Path(pre.train.probe.recipe)
    wider = {**yaml.safe_load(fine.read_text()), "model": {**TINY_RECIPE["model"], "width": 48}}
    fine.write_text(yaml.safe_dump(wider))
    with pytest.raises(SegcliError, match="of another shape"):
        segcli.train(recipe(), out=tmp_path / "broken", quiet=True)
    assert (tmp_path / "broken" / "checkpoints" / "last.pt").is_file()


@pytest.mark.slow
def test_where_several_processes_train_together_it_is_none_of_them(recipe, tmp_path, monkeypatch):
    fine = recipe().train.probe.recipe
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (tmp_path / "printed").open("w") as output:
        assert begin_training([fine, "--out", str(tmp_path / "run"), "--quiet"], output).wait() == 0
