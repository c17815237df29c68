"""Training on images that are drawn when they are needed."""

import json

import pytest

import segcli
from segcli.commands.prepare import prepare
from segcli.core.errors import UsageError
from segcli.core.recipe.recipe import Recipe, shipped
from segcli.engine import training

SETTINGS = {"train": 3, "val": 2, "size": 64}
SMALL = {
    "data.prepare": SETTINGS,
    "data.size": 64,
    "model.backbone.weights": None,
    "train.batch_size": 2,
    "train.steps": 3,
    "train.log_every": 1,
    "train.evaluations": 1,
    "train.probe": None,
    "train.schedule.warmup_steps": 1,
    "hardware.workers": 0,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return prepare("scenes", tmp_path_factory.mktemp("drawn") / "scenes", settings=SETTINGS)


def losses(root, out, **changes):
    recipe = Recipe.load("pretrain/mask_rcnn", {**SMALL, "data.root": str(root), **changes})
    run = segcli.train(recipe, out=out, quiet=True)
    return [json.loads(line).get("loss") for line in (run / "log.jsonl").read_text().splitlines()]


def test_training_on_drawn_images_is_training_on_the_stored_ones(root, tmp_path):
    stored = losses(root, tmp_path / "stored", **{"data.drawn": None})
    assert len([loss for loss in stored if loss]) == 3
    assert losses(root, tmp_path / "drawn", **{"data.drawn": 3}) == stored


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(name for name in shipped() if name.startswith("pretrain/")))
def test_every_pretraining_recipe_draws_and_learns(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "measure_cost", lambda *_: {})
    monkeypatch.setattr(training, "count_work", lambda *_: None)
    recipe = Recipe.load(name, {**SMALL, "init": None, "train.steps": 1})
    run = segcli.train(recipe, out=tmp_path / "run", quiet=True)
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert entries[0]["loss"] > 0
    assert recipe.primary in entries[-1]["metrics"]
    assert Recipe.load(name).train.probe is not None


def test_a_start_from_such_a_run_is_one_for_any_class(root, tmp_path, tiny_dataset, capsys):
    losses(root, tmp_path / "run")
    capsys.readouterr()
    begin = {"init": str(tmp_path / "run"), "data.drawn": None, "data.name": None, "train.steps": 1}
    losses(tiny_dataset, tmp_path / "next", **begin)
    assert "other classes: each begins near the mean of the file's: " in capsys.readouterr().err


def test_only_embedded_data_is_drawn(root, tmp_path, tiny_dataset):
    with pytest.raises(UsageError, match=r"data\.drawn"):
        losses(tiny_dataset, tmp_path / "run", **{"data.name": None})
