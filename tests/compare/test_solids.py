"""The report's 3D view: which meshes it has, and that a browser without a network draws them."""

import torch

from segcli.compare.report import SCRIPTS
from segcli.compare.solids import FACES, MOST, solids
from segcli.drawing.page import page
from segcli.fields.mesh import PosedMeshes
from segcli.ops.meshes.cubify import icosphere
from segcli.types import Instances, Prediction


def prediction(scores: list[float], level: int = 1) -> Prediction:
    n = len(scores)
    boxes = torch.tensor([[10.0, 10, 50, 50]]).repeat(n, 1)
    field = PosedMeshes.predicted([icosphere(level)] * n, torch.full((n,), 30.0), boxes)
    instances = Instances(boxes, torch.zeros(n, dtype=torch.int64), torch.tensor(scores), fields={"mesh": field})
    return Prediction(1, (64, 64), instances)


def test_the_best_objects_meshes_are_there_as_numbers():
    [one] = solids(prediction([0.9, 0.2]), 0.5)
    assert (one["label"], one["score"]) == (0, 0.9)
    assert len(one["points"]) == 3 * 42
    assert set(one["corners"]) == set(range(42))
    assert len(solids(prediction([0.9] * 9), 0.5)) == MOST


def test_large_meshes_and_other_predictions_have_no_view():
    assert len(icosphere(5)[1]) > FACES
    assert solids(prediction([0.9], level=5), 0.5) == []
    assert solids(Prediction(1, (64, 64), Instances.empty()), 0.5) == []


def test_a_browser_without_a_network_draws_them(browser, tmp_path):
    panel = {"row": "instances", "objects": [], "solids": solids(prediction([0.9]), 0.5)}
    picture = {"disagreement": 0.5, "name": "a", "width": 64, "height": 64, "jpeg": "", "panels": [panel]}
    found = {"classes": [{"name": "ball", "colour": [200, 80, 40]}], "runs": 1, "looked_at": 1, "of": 1}
    found |= {"score": 0.5, "images": [picture]}
    table = {"caption": "balls", "columns": [], "cells": [[]]}
    recipes = {"caption": "", "titles": [], "lines": []}
    group = {"title": "balls", "rows": [0], "table": table, "plot": None, "classes": None, "curves": None}
    group |= {"behind": {}}
    shown = {"rows": [{"name": "run", "model": "rcnn", "not_compared": None}], "verdict": [], "notes": [], "costs": []}
    shown |= {"groups": [group | {"recipes": recipes, "pictures": found}]}
    shown |= {"pairs": None, "forecasts": None, "environment": None}
    html = page(shown, title="balls", scripts=SCRIPTS, with_plotly=True)
    assert html.index("\nbuild();") < html.index("* plotly.js v")  # what needs no plots is seen before them
    (tmp_path / "view.html").write_text(html, encoding="utf-8")
    browser.complaints()
    browser.open(tmp_path / "view.html", 800, 600)
    browser.run("document.querySelector('[aria-label^=\"3D\"]').click()")
    browser.run("return new Promise((done) => setTimeout(done, 800))")
    assert browser.run("return document.querySelectorAll('.solid canvas').length") > 0
    assert not [line for line in browser.complaints() if "Security" in line or "Error" in line]  # others: software GL
