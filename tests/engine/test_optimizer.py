"""Learning rates, weight decay and the average of the weights, as a recipe's `train` section sets them."""

import re

import pytest
import torch
from torch import nn

from segcli.core.errors import ModelError
from segcli.core.recipe.recipe import Optimizer, Recipe, Schedule, shipped
from segcli.engine.optimizer import MovingAverage, build_optimizer, rate_factor
from segcli.engine.run_folder import RunFolder
from segcli.engine.session import Session
from segcli.models import build_model
from segcli.models.interface import Model

# torch's stand-in for every device that is not the CPU: it refuses to compute with tensors of both
ELSEWHERE = torch.device("meta")


def of_parts(**parts):
    """A model of some modules that computes nothing."""
    model = Model()
    for name, part in parts.items():
        model.add_module(name, part)
    return model


def decays(model, **settings):
    """Parameter name -> its weight decay."""
    optimizer = build_optimizer(model, Optimizer(**settings))
    of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    return {name: of[id(p)] for name, p in model.named_parameters()}


def test_weight_decay_of_norms_biases_and_embeddings():
    model = of_parts(conv=nn.Conv2d(3, 4, 1), norm=nn.GroupNorm(2, 4), query=nn.Embedding(5, 4))
    model.attention = nn.MultiheadAttention(4, 2)
    assert set(decays(model, weight_decay=0.1).values()) == {0.1}
    both = decays(model, weight_decay=0.1, norm_weight_decay=0.0)
    assert {name for name, decay in both.items() if decay} == {
        *("conv.weight", "attention.in_proj_weight", "attention.out_proj.weight")
    }
    official = decays(model, weight_decay=0.1, norm_weight_decay=0.0, bias_weight_decay=0.1)
    assert {name for name, decay in official.items() if not decay} == {"norm.weight", "norm.bias", "query.weight"}


def groups(**settings):
    """{(learning rate, weight decay): names of the parameters} of a model with a pyramid around its backbone."""
    body = nn.ModuleDict({"body": nn.Linear(2, 2), "fpn": nn.Linear(2, 2)})
    model = of_parts(backbone=body, head=nn.Linear(2, 2))
    name_of = {id(p): name for name, p in model.named_parameters()}
    made = build_optimizer(model, Optimizer(lr=0.1, weight_decay=0.2, **settings))
    assert all(group["base"] == group["lr"] for group in made.param_groups)
    return {(g["lr"], g["weight_decay"]): [name_of[id(p)] for p in g["params"]] for g in made.param_groups}


def test_the_backbones_rate_is_for_the_body_of_a_pyramid():
    assert len(groups()) == 1
    assert groups(backbone_lr=0.01)[0.01, 0.2] == ["backbone.body.weight", "backbone.body.bias"]
    whole = of_parts(backbone=nn.Linear(2, 2), head=nn.Linear(2, 2))
    made = build_optimizer(whole, Optimizer(lr=0.1, backbone_lr=0.01))
    assert [len(group["params"]) for group in made.param_groups if group["lr"] == 0.01] == [2]


def test_rate_scales_multiply_and_frozen_parameters_are_in_no_group():
    scaled = groups(backbone_lr=0.01, lr_scales={"backbone": 2.0, "bias": 7.0})
    assert scaled[0.01 * 2.0, 0.2] == ["backbone.body.weight"]
    assert scaled[0.01 * 2.0 * 7.0, 0.2] == ["backbone.body.bias"]
    assert scaled[0.1 * 7.0, 0.2] == ["head.bias"]
    model = of_parts(head=nn.Linear(2, 2))
    model.head.weight.requires_grad_(False)
    assert [p.shape for g in build_optimizer(model, Optimizer()).param_groups for p in g["params"]] == [(2,)]


@pytest.mark.parametrize(
    ("settings", "expected"),  # of 100 steps: the factors at some of them
    [
        ({"name": "constant"}, {0: 1.0, 50: 1.0, 100: 1.0}),
        ({"name": "cosine"}, {0: 1.0, 25: 0.5 + 0.5 * 0.5**0.5, 50: 0.5, 100: 0.0}),
        ({"name": "cosine", "flat": 0.5, "final": 0.2}, {0: 1.0, 50: 1.0, 75: 0.6, 100: 0.2}),
        ({"name": "step", "milestones": [0.5, 0.8], "gamma": 0.1}, {49: 1.0, 50: 0.1, 79: 0.1, 80: 0.01}),
        ({"name": "poly", "power": 2.0}, {0: 1.0, 50: 0.25, 100: 0.0}),
        ({"name": "constant", "warmup_steps": 10, "warmup_factor": 0.1}, {0: 0.19, 4: 0.55, 9: 1.0, 10: 1.0}),
    ],
)
def test_schedules(settings, expected):
    found = {step: rate_factor(Schedule(**settings), step, 100) for step in expected}
    assert found == pytest.approx(expected)


def test_a_schedule_follows_the_share_of_a_training_in_minutes():
    assert rate_factor(Schedule(name="cosine"), 7, 10**9, share=0.5) == pytest.approx(0.5)
    assert rate_factor(Schedule(name="step", milestones=[0.5]), 7, 10**9, share=0.6) == pytest.approx(0.1)


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
    model = of_parts(fc=nn.Linear(3, 2), norm=nn.BatchNorm1d(2)).to(device)
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
        before.model.fc.weight.add_(1.0)
    before.average.update(before.model, 1)
    before.save()
    resumed = session(tmp_path, "cpu")
    resumed.restore()
    assert all(torch.equal(value, resumed.average.state[key]) for key, value in before.average.state.items())
    assert not torch.equal(resumed.average.state["fc.weight"], resumed.model.state_dict()["fc.weight"])


def test_an_average_of_another_model_is_refused(tmp_path):
    average = MovingAverage(nn.Linear(3, 2), 0.9)
    with pytest.raises(RuntimeError, match="average of bias"):
        average.restore({"weight": torch.zeros(2, 3), "bias": torch.zeros(1)})
    with pytest.raises(KeyError, match="extra"):
        average.restore({**average.state, "extra": torch.zeros(1)})
    session(tmp_path, "cpu", ema=None).save()
    with pytest.raises(ModelError, match="no average of the weights"):
        session(tmp_path, "cpu").restore()
