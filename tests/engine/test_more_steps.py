"""A finished run goes on: the schedule begins anew, everything else goes on; and a run is a start for another."""

import json
import shutil
import subprocess

import pytest
import torch
import yaml

from segcli.commands.train import as_asked, train
from segcli.core import own_path
from segcli.core.errors import ModelError, UsageError
from segcli.core.recipe.recipe import Recipe
from segcli.engine.checkpoint import load_state
from segcli.engine.pace import Pace
from segcli.engine.run_folder import RunFolder
from segcli.engine.training_state import steps_done


@pytest.fixture
def run(segcli, trained, tmp_path):
    """A copy of the finished run of three steps."""
    shutil.copytree(trained / "data", tmp_path / "data")
    return RunFolder(shutil.copytree(trained / "runs" / "tiny run", tmp_path / "runs" / "tiny run"))


def test_progress_begins_anew_where_the_first_schedule_ended():
    pace = Pace(8, [(0, 4), (4, 8)], None)
    assert [pace.progress(step) for step in (0, 2, 3)] == [0, 0.5, 0.75]
    assert [pace.progress(step) for step in (4, 6, 8)] == [0, 0.5, 1]
    assert [step for step in range(9) if pace.evaluates(step, 2)] == [2, 6, 8]


def test_a_finished_run_goes_on_at_the_full_rate_and_a_repetition_is_equal(segcli, run):
    before = run.read_log()
    done = segcli("train", "--resume", run.path, "--set", "train.steps=6")
    assert done.code == 0, done.err
    assert "3 more steps, a warm restart at the full learning rate" in done.err
    recipe = run.recipe()
    assert (recipe.train.steps, recipe.train.retimed) == (6, [(0, 3), (3, 6)])
    steps = {entry["step"]: entry for entry in run.read_log() if "loss" in entry}
    assert list(steps) == [1, 2, 3, 4, 5, 6]
    assert {e["step"]: e for e in before if "loss" in e} == {step: steps[step] for step in (1, 2, 3)}
    assert steps[4]["lr"] == steps[1]["lr"] > steps[3]["lr"]
    assert run.finished()
    again = segcli("train", run.path / "recipe.yaml", "--out", "again")
    assert again.code == 0, again.err
    one, other = (load_state(folder.last) for folder in (run, RunFolder("again")))
    assert all(torch.equal(one["model"][key], other["model"][key]) for key in one["model"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "train.steps=3"], "has done 3 already"),
        (["--set", "train.steps=many"], "train.steps: input should be a valid integer"),
        (["--set", "train.seed=1"], "no --set but train.steps"),
        (["--out", "x"], "--resume goes on with a run as it was"),
    ],
)
def test_what_is_no_longer_training(segcli, run, arguments, says):
    assert says in segcli("train", "--resume", run.path, *arguments).error
    assert run.finished()


def test_an_interrupted_run_is_finished_first(segcli, run):
    (run.path / "cost.json").unlink()
    result = segcli("train", "--resume", run.path, "--set", "train.steps=9")
    assert "more steps are for a finished run" in result.error
    assert run.recipe().train.steps == 3


def test_an_existing_run_as_out_is_answered_with_resume(segcli, run):
    result = segcli("train", run.path / "recipe.yaml", "--out", run.path)
    assert f"segcli train --resume {run.path} goes on with it" in result.err


@pytest.mark.parametrize("start", ["runs/tiny run", "runs/tiny run/checkpoints/last.pt"])
def test_a_run_is_a_start(segcli, run, tmp_path, start):
    """Its best weights (its last ones where it was not scored), or a file; what they are bound to goes along."""
    recipe = yaml.safe_load((run.path / "recipe.yaml").read_text())
    recipe |= {"name": "next", "init": start}
    recipe["train"] |= {"optimizer": {"lr": 1e-12}, "ema": None}
    (tmp_path / "next.yaml").write_text(yaml.safe_dump(recipe))
    environment = json.loads((run.path / "environment.json").read_text())
    environment["weights"] = [{"source": "maskformer/coco_r50", "licence": "CC BY-NC 4.0"}]
    (run.path / "environment.json").write_text(json.dumps(environment))
    if start == "runs/tiny run":
        run.best.unlink()
    assert segcli("train", "next.yaml").code == 0
    first, second = load_state(run.last)["model"], load_state(RunFolder("runs/next").last)["model"]
    trained = [key for key in first if key.endswith("weight") and first[key].ndim == 4]
    assert all(torch.allclose(first[key], second[key], atol=1e-6) for key in trained)
    weights = RunFolder("runs/next").environment()["weights"]
    assert [one["source"] for one in weights] == [start, "maskformer/coco_r50"]
    assert Recipe.load("runs/next").init == str(tmp_path / start)  # the run is read from anywhere


def test_class_layers_of_other_classes_begin_anew(segcli, run, tmp_path):
    """As many classes, but other ones: the rows are not theirs."""
    info = json.loads((tmp_path / "data/tiny/info.json").read_text())
    info["categories"][0]["name"] = "tiger"
    (tmp_path / "data/tiny/info.json").write_text(json.dumps(info))
    recipe = yaml.safe_load((run.path / "recipe.yaml").read_text()) | {"name": "next", "init": "runs/tiny run"}
    (tmp_path / "next.yaml").write_text(yaml.safe_dump(recipe))
    done = segcli("train", "next.yaml")
    assert done.code == 0, done.err
    assert "other classes: begin anew: " in done.err


@pytest.mark.parametrize("fault", ["data", "lock"])
def test_more_steps_take_nothing_from_a_run_that_cant_go_on(segcli, run, tmp_path, fault):
    if fault == "data":
        shutil.rmtree(tmp_path / "data")
        assert segcli("train", "--resume", run.path, "--set", "train.steps=6").code == 3
    else:
        with run.claimed():
            command = own_path.command("train", "--resume", str(run.path), "--set", "train.steps=6")
            done = subprocess.run(command, capture_output=True, text=True)
        assert "is being trained by another process" in done.stderr
    assert run.finished()
    assert run.recipe().train.steps == 3


def test_a_run_that_begins_again_has_its_minutes(run):
    recipe = run.recipe()
    decided = recipe.train.model_copy(update={"steps": 600, "retimed": [(8, 600)]})
    run.write_environment({**run.environment(), "minutes": 10})
    again = as_asked(run, recipe.model_copy(update={"train": decided}))
    assert (again.train.minutes, again.train.steps, again.train.retimed) == (10, None, [])


def test_steps_alone_are_refused():
    with pytest.raises(UsageError, match="steps goes with resume"):
        train("quickstart/fcn", steps=100)


@pytest.mark.parametrize("state", [{}, {"progress": []}, {"progress": {"step": "3"}}])
def test_a_checkpoint_without_a_step_is_an_error_of_its_own(state):
    with pytest.raises(ModelError, match=r"last\.pt: not a readable checkpoint: it has no step"):
        steps_done(state, "last.pt")
