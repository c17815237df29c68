"""`compare --train`: what is trained, what is resumed, what is left alone, and that a failure stops nothing."""

import contextlib
import json
import sys
from pathlib import Path

import pytest
import tiny_checkpoints

import segcli
from segcli.cli import app
from segcli.compare import comparison, study
from segcli.core.errors import SegcliError, UsageError
from segcli.core.recipe.recipe import Recipe
from segcli.data.fingerprint import current
from segcli.engine.run_folder import RunFolder

TINY = """name: {name}
task: detection
data: {{root: {root}, size: 64}}
model:
  name: rcnn_lite
  width: 32
  proposals: [8, 8]
  backbone: {{name: timm, model: test_resnet}}
  heads: {{box: {{}}}}
train: {{steps: {steps}, batch_size: 1, evaluations: 1, optimizer: {{lr: {lr}}}}}
eval: {{split: val}}
hardware: {{workers: 0}}
"""


@pytest.fixture
def write(tmp_path, tiny_copy, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(name, *, root=tiny_copy, steps=1, lr=1e-4):
        path = tmp_path / f"{name}.yaml"
        path.write_text(TINY.format(name=name, root=root, steps=steps, lr=lr))
        return str(path)

    return make


def test_untrained_recipes_are_trained_once_and_failures_are_skipped(segcli, write, tmp_path):
    items = [write("a"), write("broken", root="nowhere"), str(tmp_path / "missing.yaml")]
    result = segcli("compare", *items, "--train", "--json")
    assert result.code == 0
    assert [row["name"] for row in result.json["rows"]] == ["a"]
    assert result.json["rows"][0]["source"] == "run"
    skipped = {s["item"]: s["error"] for s in result.json["skipped"]}
    assert "nowhere: not a prepared dataset" in skipped[items[1]]
    assert "missing.yaml" in skipped[items[2]]
    before = (tmp_path / "runs" / "a" / "metrics.json").stat().st_mtime_ns
    again = segcli("compare", items[0], "--train")
    assert again.code == 0
    assert "is trained: runs/a" in again.err
    assert (tmp_path / "runs" / "a" / "metrics.json").stat().st_mtime_ns == before
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["a"]


@pytest.fixture
def in_this_process(monkeypatch):
    """Trainings are run here, which saves a start of Python each; `test_untrained_recipes_...` runs real processes."""

    def train(arguments, quiet):
        with contextlib.redirect_stdout(sys.stderr):
            assert app.run(["train", *arguments]) == 0

    monkeypatch.setattr(study, "_train", train)


def test_keys_of_every_recipe_are_set_for_its_training(segcli, write, tmp_path, in_this_process):
    item = write("a")
    sets = ("--set", "train.steps=2", "--set", "train.augment=null"), ("--set", "train.steps=2")
    assert segcli("compare", item, *sets[1]).code == 2
    result = segcli("compare", item, "--train", *sets[1], "--json")
    assert result.json["rows"][0]["train_steps"] == 2
    assert "is trained: runs/a" in segcli("compare", item, "--train", *sets[1]).err
    assert "train.augment is no" in segcli("compare", item, "--train", *sets[0]).err


@pytest.fixture
def trained(write, tmp_path, tiny_copy):
    """A finished run of recipe `a`, as far as files tell."""
    recipe = Recipe.load(write("a"))
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text(recipe.to_yaml())
    info = json.loads((tiny_copy / "info.json").read_text())
    (run / "environment.json").write_text(json.dumps({"dataset": info}))
    for name in ("metrics.json", "cost.json"):
        (run / name).write_text("{}")
    return recipe


def test_a_run_belongs_to_a_recipe_by_its_settings_and_its_data(trained, write, tiny_copy):
    assert study.find_run(trained) == study.RUNS / "a"
    assert study.find_run(Recipe.load(write("a", lr=2e-4))) is None
    minutes = Recipe.load(write("a"), {"train.minutes": 3, "train.steps": None})
    assert study.find_run(minutes) is None
    environment = study.RUNS / "a" / "environment.json"
    environment.write_text(json.dumps({**json.loads(environment.read_text()), "minutes": 3}))
    assert study.find_run(minutes) == study.RUNS / "a"  # a run holds the steps that its minutes were
    assert study.find_run(Recipe.load(write("a"), {"train.minutes": 5, "train.steps": None})) is None
    elsewhere = {"data.source": "raw", "hardware.workers": 1, "train.log_every": 5}
    assert study.find_run(Recipe.load(write("a"), elsewhere)) == study.RUNS / "a"
    assert study.find_run(Recipe.load(write("a"), {"init": "other.pt"})) is None
    environment.write_text(json.dumps({"dataset": {"name": "tiny", "fingerprint": current(tiny_copy)}}))
    assert study.find_run(trained) == study.RUNS / "a"
    (tiny_copy / "images" / "five.png").write_bytes(b"another")
    assert study.find_run(trained) is None


def test_a_run_of_a_checkpoint_belongs_to_the_recipe_that_names_it(write, tmp_path, tiny_copy):
    """It holds the checkpoint's configuration and its family's rates, which the recipe leaves out."""
    tiny_checkpoints.save("RTDetrV2ForObjectDetection", tmp_path / "checkpoint")
    path = Path(write("a"))
    path.write_text(
        f"name: a\ntask: detection\ndata: {{root: {tiny_copy}}}\n"
        "model: {name: transformers, checkpoint: checkpoint}\n"
        "train: {steps: 1, batch_size: 1, evaluations: 1}\nhardware: {workers: 0, device: cpu}\n"
    )
    recipe = Recipe.load(path)
    assert study.find_run(recipe) is None
    run = segcli.train(recipe, quiet=True)
    assert study.find_run(recipe) == run == study.RUNS / "a"
    assert study.find_run(Recipe.load(path, {"train.optimizer.lr": 5e-5})) is None


def test_an_edited_split_file_asks_for_another_run(trained, write, tmp_path):
    (tmp_path / "names.txt").write_text("a.png")
    recipe = Recipe.load(write("a"), {"data.split_file": "names.txt"})
    RunFolder(study.RUNS / "a").write_recipe(recipe)
    assert study.find_run(recipe) == study.RUNS / "a"
    (tmp_path / "names.txt").write_text("b.png")
    assert study.find_run(recipe) is None


def test_an_interrupted_run_is_resumed(trained, tmp_path, monkeypatch):
    (tmp_path / "runs" / "a" / "cost.json").unlink()
    last = tmp_path / "runs" / "a" / "checkpoints" / "last.pt"
    called = []

    def train(arguments, quiet):
        called.append(arguments)
        (tmp_path / "runs" / "a" / "cost.json").write_text("{}")

    monkeypatch.setattr(study, "_train", train)
    item = str(tmp_path / "a.yaml")
    assert study.train_missing([item], print) == (["runs/a"], [])
    assert called == [[item, "--out", "runs/a", "--force"]]  # killed before its first checkpoint
    (tmp_path / "runs" / "a" / "cost.json").unlink()
    last.parent.mkdir()
    last.touch()
    assert study.train_missing([item], print) == (["runs/a"], [])
    assert called[1:] == [["--resume", "runs/a"]]


def test_a_process_that_dies_is_a_failure_with_its_last_error(trained, tmp_path, monkeypatch):
    script = "import sys; print('loading', file=sys.stderr); print('error: no luck', file=sys.stderr); sys.exit(4)"
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{script}"\n')
    fake.chmod(0o755)
    monkeypatch.setattr(study.sys, "executable", str(fake))
    (tmp_path / "runs" / "a" / "cost.json").unlink()
    folders, failed = study.train_missing([str(tmp_path / "a.yaml")], print)
    assert folders == []
    assert str(failed[0][1]) == "no luck"


def test_train_needs_recipes(segcli):
    result = segcli("compare", "--train")
    assert result.code == 2
    assert "--train needs recipes" in result.err


def test_families_are_trained_on_ones_own_data_for_as_many_minutes(segcli, write, tmp_path, tiny_copy, in_this_process):
    """Bare names and none; what is trained is not trained again, and the last line is on which to choose."""
    tiny_copy.rename(tmp_path / "pets")
    ask = ("compare", "--train", "--data", "pets", "--minutes", "0.02", "--set", "data.size=64")
    ask += ("--set", "init=null", "--set", "model.backbone={name: timm, model: test_efficientnet, norm: folded}")
    result = segcli(*ask, "mask_rcnn", "faster_rcnn")
    assert result.code == 0, result.err
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["pets-faster_rcnn", "pets-mask_rcnn"]
    for run in ("pets-faster_rcnn", "pets-mask_rcnn"):
        assert RunFolder(tmp_path / "runs" / run).environment()["minutes"] == 0.02
    assert result.out.splitlines()[-1].startswith(("choose", "no choice", "the evidence is too thin"))
    again = segcli(*ask, "mask_rcnn", "faster_rcnn")
    assert again.err.count("is trained: runs/pets-") == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--minutes", "5", "fcn"], "--minutes is for --train"),
        (["--train", "--minutes", "0", "fcn"], "--minutes 0: needs a number above 0"),
        (["--data", "x"], "--data needs recipes, or --train"),
        (["--data", "x", "--train"], "--data x: no prepared dataset"),
    ],
)
def test_flags_without_their_partners(segcli, arguments, says):
    assert says in segcli("compare", *arguments).error


def test_without_names_those_families_that_suit_the_labels(segcli, write, tmp_path, tiny_copy, monkeypatch):
    asked = []
    failed = [("one", SegcliError("it was not trained"))]
    monkeypatch.setattr(comparison, "train_missing", lambda items, *_, **__: asked.append(items) or ([], failed))
    segcli("compare", "--train", "--data", tiny_copy)
    assert asked == [["custom/mask_rcnn", "custom/maskformer", "custom/detr"]]


def test_flags_for_recipes_where_all_is_trained(segcli, fake_run):
    run = fake_run("a")
    for flags in (["--data", "x"], ["--train", "--minutes", "5"]):
        assert f"{flags[-2]} is for recipes, and {run} was trained as it is" in segcli("compare", run, *flags).error


def test_nothing_to_compare_is_said():
    with pytest.raises(UsageError, match="nothing to compare"):
        comparison.compare_runs([])
