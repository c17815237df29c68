"""Learning rates, weight decay and the average of the weights, as a recipe's `train` section sets them."""

import re

import pytest
import torch
from torch import nn

from segcli.core.errors import ModelError
from segcli.core.recipe.recipe import Optimizer, Recipe, shipped
from segcli.engine.optimizer import MovingAverage, build_optimizer
from segcli.engine.run_folder import RunFolder
from segcli.engine.session import Session
from segcli.models import build_model

# torch's stand-in for every device that is not the CPU: it refuses to compute with tensors of both
ELSEWHERE = torch.device("meta")


def decays(model, **settings):
    """Parameter name -> its weight decay."""
    optimizer = build_optimizer(model, Optimizer(**settings))
    of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    return {name: of[id(p)] for name, p in model.named_parameters()}


def test_weight_decay_of_norms_biases_and_embeddings():
    model = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 1), "norm": nn.GroupNorm(2, 4), "query": nn.Embedding(5, 4)})
    model["attention"] = nn.MultiheadAttention(4, 2)
    assert set(decays(model, weight_decay=0.1).values()) == {0.1}
    both = decays(model, weight_decay=0.1, norm_weight_decay=0.0)
    assert {name for name, decay in both.items() if decay} == {
        *("conv.weight", "attention.in_proj_weight", "attention.out_proj.weight")
    }
    official = decays(model, weight_decay=0.1, norm_weight_decay=0.0, bias_weight_decay=0.1)
    assert {name for name, decay in official.items() if not decay} == {"norm.weight", "norm.bias", "query.weight"}


MASKFORMERS = [name for name in shipped() if re.match(r"(coco|ade20k)/(maskformer|per_pixel)", name)]


@pytest.mark.parametrize("name", MASKFORMERS)
def test_official_maskformers_decay_all_but_norms_embeddings_and_position_biases(name):
    """As their released training code groups parameters: WEIGHT_DECAY_NORM and WEIGHT_DECAY_EMBED are 0, and so it is
    for tables of relative positions; biases are like weights."""
    recipe = Recipe.load(name)
    stuff = recipe.task in ("panoptic", "semantic")
    with torch.device("meta"):
        model = build_model(recipe.model, task=recipe.task, num_classes=6, num_things=3 if stuff else 6)
    free = set()
    for path, module in model.named_modules():
        whole = isinstance(module, nn.GroupNorm | nn.LayerNorm | nn.modules.batchnorm._BatchNorm | nn.Embedding)
        for key, _ in module.named_parameters(recurse=False):
            if whole or "relative_position_bias_table" in key:
                free.add(f"{path}.{key}")
    found = decays(model, **recipe.train.optimizer.model_dump())
    assert {key for key, decay in found.items() if decay == 0} == free
    assert {decay for decay in found.values() if decay} == {recipe.train.optimizer.weight_decay}


def session(folder, device, **train):
    recipe = {"name": "r", "task": "detection", "data": {"root": "d"}, "model": {"name": "detr"}}
    parsed = Recipe.parse({**recipe, "train": {"steps": 8, "ema": 0.9, **train}}, "r.yaml")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).to(device)
    return Session(RunFolder(folder), parsed, model, 8, torch.device(device))


def test_a_resumed_average_lies_where_the_model_does(tmp_path):
    """Saved on one device, taken up on another: the average goes on there."""
    before = session(tmp_path, "cpu")
    before.average.update(before.model, 1)
    before.save()
    resumed = session(tmp_path, ELSEWHERE)
    resumed.restore()
    assert {value.device.type for value in resumed.average.state.values()} == {"meta"}
    resumed.average.update(resumed.model, 2)


def test_a_resumed_average_has_the_saved_numbers(tmp_path):
    before = session(tmp_path, "cpu")
    with torch.no_grad():
        before.model[0].weight.add_(1.0)
    before.average.update(before.model, 1)
    before.save()
    resumed = session(tmp_path, "cpu")
    resumed.restore()
    assert all(torch.equal(value, resumed.average.state[key]) for key, value in before.average.state.items())
    assert not torch.equal(resumed.average.state["0.weight"], resumed.model.state_dict()["0.weight"])


def test_an_average_of_another_model_is_refused(tmp_path):
    average = MovingAverage(nn.Linear(3, 2), 0.9)
    with pytest.raises(RuntimeError, match="average of bias"):
        average.restore({"weight": torch.zeros(2, 3), "bias": torch.zeros(1)})
    with pytest.raises(KeyError, match="extra"):
        average.restore({**average.state, "extra": torch.zeros(1)})
    session(tmp_path, "cpu", ema=None).save()
    with pytest.raises(ModelError, match="no average of the weights"):
        session(tmp_path, "cpu").restore()
