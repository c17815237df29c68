"""The script that draws the pictures of the pages on architectures runs on the recipes that it names."""

import runpy
import sys
from pathlib import Path

import cv2
import pytest

import segcli
from segcli.core.recipe.recipe import Recipe

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests/benchmarks/explained_pictures.py"
PICTURES = runpy.run_path(str(SCRIPT))["PICTURES"]


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_drawn_of_a_run_of_its_recipe(name, tiny_dataset, tmp_path, monkeypatch):
    changes = {
        **{
            "data.root": str(tiny_dataset),
            "data.prepare": None,
            "data.name": None,
            "data.size": 64,
            "init": None,
            "model.backbone.weights": None,
        },
        **{"train.steps": 1, "train.minutes": None, "train.batch_size": 2, "train.evaluations": 1},
        **{"hardware.workers": 0, "hardware.threads": 1},
    }
    segcli.train(Recipe.load(f"quickstart/{name}", changes), out=tmp_path / "runs" / name, quiet=True)
    monkeypatch.chdir(tmp_path)
    given = ["--data", str(tiny_dataset), "--image", str(tiny_dataset / "images/five.png"), "--out", "pictures"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *given, "--runs", "runs"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    drawn = {path.stem: cv2.imread(str(path)).shape[1] for path in (tmp_path / "pictures").iterdir()}
    assert drawn == {f"explain_{view}": 1100 for view in PICTURES[name]}


def test_every_picture_that_a_page_shows_is_drawn_by_it():
    shown = {path.stem.removeprefix("explain_") for path in (ROOT / "docs/images").glob("explain_*.jpg")}
    assert shown == {view for views in PICTURES.values() for view in views}
