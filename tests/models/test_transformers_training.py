"""Every architecture of the library `transformers` is trained: it learns a batch, and a whole run of it stops, goes on
bitwise, is scored and counted, and predicts.

SEGCLI_STEPS=50 lets each learn for so many steps; without it the quickest does, and the others learn for a few.
"""

import json
import math
import os
import shutil

import numpy as np
import pytest
import torch
from batches import batch
from tiny import TINY_RECIPE

import segcli
from segcli.core.recipe.recipe import Recipe
from segcli.engine import training
from segcli.engine.session import Session
from segcli.models import build_model
from segcli.models.transformers.architectures import KINDS, SEGMENTS, TASKS_OF

STEPS = int(os.environ.get("SEGCLI_STEPS", "6"))
QUICKEST = "YolosForObjectDetection"


@pytest.mark.parametrize("name", KINDS)
def test_it_learns_a_batch(name, checkpoint):
    """With one draw of the points and noise that losses depend on."""
    given = {"name": "transformers", "checkpoint": str(checkpoint(name))}
    steps = max(STEPS, 50) if name == QUICKEST else STEPS
    torch.manual_seed(0)
    model = build_model(given, task=TASKS_OF[KINDS[name]][-1], num_classes=3, num_things=2).train()
    optimizer, seen, losses = torch.optim.AdamW(model.parameters(), lr=4e-3), batch((3, 1)), []
    for step in range(steps + 1):
        torch.manual_seed(0)
        loss = sum(model(seen).values())
        losses.append(loss.item())
        if step == steps:
            break
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
        optimizer.step()
        optimizer.zero_grad()
    print(f"{name}: {losses[0]:.3f}, {losses[steps // 2]:.3f}, {losses[-1]:.3f} after 0, {steps // 2}, {steps} steps")
    assert all(map(math.isfinite, losses))
    most = 0.6 if name == QUICKEST else 0.8 if steps >= 50 else 0.995
    assert losses[-1] < most * losses[0]


def recipe_of(name, checkpoint, dataset):
    """Two steps on the tiny data, saved after each; of models for several tasks, instances."""
    task = "instance" if KINDS[name] == SEGMENTS else TASKS_OF[KINDS[name]][-1]
    data = {**TINY_RECIPE["data"], "root": str(dataset), "size": None}
    model = {"name": "transformers", "checkpoint": str(checkpoint)}
    train = {**TINY_RECIPE["train"], "steps": 2, "save_minutes": 1e-9}
    return Recipe.parse({**TINY_RECIPE, "task": task, "data": data, "model": model, "train": train}, "tiny")


def copy_after_the_first_save(patch, run, copy):
    """What a kill would leave of the run then; it is not asked what it costs. -> a dict that gets the weights by step
    of every save."""
    original, weights = Session.save, {}

    def save(session):
        original(session)
        if not weights:
            shutil.copytree(run, copy)
        weights[session.progress.step] = {key: value.clone() for key, value in session.model.state_dict().items()}

    patch.setattr(Session, "save", save)
    patch.setattr(training, "count_work", lambda *_: None)
    patch.setattr(training, "measure_cost", lambda *_: {})
    return weights


@pytest.mark.parametrize("name", KINDS)
def test_a_run_of_it_goes_on_bitwise_is_scored_and_counted_and_predicts(
    name, checkpoint, tiny_dataset, tmp_path, monkeypatch
):
    own = shutil.copytree(checkpoint(name), tmp_path / "checkpoint")  # which goes, halfway
    recipe = recipe_of(name, own, tiny_dataset)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    with monkeypatch.context() as patch:
        weights = copy_after_the_first_save(patch, whole, halves)
        segcli.train(recipe, out=whole, quiet=True)
    assert list(weights) == [1, 2]
    shutil.rmtree(own)
    segcli.train(None, resume=halves, quiet=True)

    scores, again = (json.loads((run / "metrics.json").read_text())["metrics"] for run in (whole, halves))
    assert scores == again
    assert scores
    predictor = segcli.load(halves)
    found = predictor.model.state_dict()
    assert found.keys() == weights[2].keys()
    for key, value in weights[2].items():
        assert torch.equal(value, found[key]), key
    cost = json.loads((halves / "cost.json").read_text())
    assert cost["train_steps"] == 2
    assert cost["params"] == sum(p.numel() for p in predictor.model.parameters())
    assert cost["gflops"] > 0
    assert cost["train_gflops"] > 0
    [found] = predictor([np.full((40, 60, 3), 90, np.uint8)])
    assert found.size == (40, 60)
