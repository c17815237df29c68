"""A run says by which rule its images became inputs, and one from before the rule changed is opened by the older."""

import json

import pytest
import yaml

import segcli
from segcli.core.errors import ModelError
from segcli.core.recipe.recipe import Recipe
from segcli.engine.opening import open_model
from segcli.engine.run_folder import RunFolder

RESNET = {"name": "resnet", "depth": 18}
RECIPE = {
    "name": "rule",
    "task": "semantic",
    "model": {"name": "per_pixel", "dim": 32, "backbone": RESNET},
    "train": {"steps": 1, "batch_size": 1, "evaluations": 0},
    "hardware": {"device": "cpu", "workers": 0, "threads": 1},
}


def test_an_old_run_keeps_the_rule_that_it_was_made_with(tiny_dataset, tmp_path):
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({**RECIPE, "data": {"root": str(tiny_dataset), "size": 80}}))
    run = segcli.train(Recipe.load(tmp_path / "r.yaml"), out=tmp_path / "run", quiet=True)
    now = open_model(run).model.preprocess
    assert now.canvas([(60, 80)]) == (80, 80)
    assert (now.method, now.targets) == ("detectron2", "area")
    file = run / "environment.json"
    environment = json.loads(file.read_text())
    del environment["input_rule"]
    file.write_text(json.dumps(environment))
    old = open_model(run).model.preprocess
    assert old.canvas([(60, 80)]) == (64, 96)
    assert (old.method, old.targets) == ("pil", "nearest")
    assert open_model(run, overrides={"data.size": [64, 128]}).model.preprocess.output_size(48, 64) == (64, 85)
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("steps: 1", "steps: 2"))
    (run / "cost.json").unlink()
    segcli.train(None, resume=run, quiet=True)  # goes on as it began
    assert "input_rule" not in RunFolder(run).environment()
    environment["input_rule"] = 99
    file.write_text(json.dumps(environment))
    with pytest.raises(ModelError, match="input rule 99"):
        open_model(run)
