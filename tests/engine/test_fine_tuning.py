"""What of a model learns, at which rate, and what is frozen."""

import pytest
import torch
from torch import nn

from segcli.core.errors import UsageError
from segcli.core.recipe.recipe import Optimizer, Recipe, Schedule
from segcli.engine.fine_tuning import describe, follow, freeze, new_layers, rates, with_family_defaults
from segcli.engine.optimizer import build_optimizer, set_rates
from segcli.models.interface import FineTuning, Model


class Small(Model):
    """A vision transformer of three blocks, a neck, and a class layer."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.embed = nn.Linear(2, 2)
        self.backbone.blocks = nn.ModuleList([nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(3)])
        self.backbone.norm = nn.LayerNorm(2)
        self.neck, self.classes = nn.Linear(2, 2), nn.Linear(2, 3)

    @property
    def class_layers(self):
        return ("classes.",)


def test_layers_learn_the_slower_the_nearer_they_are_to_the_image():
    found = rates(Small(), Optimizer(lr=1.0, backbone_lr=0.5, layer_decay=0.5))
    assert found["backbone.embed.weight"] == pytest.approx(0.5 * 0.5**4)
    assert [found[f"backbone.blocks.{i}.0.weight"] for i in range(3)] == pytest.approx([0.0625, 0.125, 0.25])
    assert (found["backbone.norm.bias"], found["neck.weight"], found["classes.bias"]) == (0.5, 1.0, 1.0)


def test_a_rate_of_zero_freezes_weights_and_statistics():
    model = Small()
    freeze(model, Optimizer(lr=1.0, lr_scales={"blocks.0": 0.0, "neck": 0.0}))
    still = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert still == {
        "neck.weight",
        "neck.bias",
        *(f"backbone.blocks.0.{i}.{k}" for i in "01" for k in ("weight", "bias")),
    }
    model.train()
    model.backbone.blocks[0](torch.ones(4, 2))
    model.backbone.blocks[1](torch.ones(4, 2))
    assert model.backbone.blocks[0][1].num_batches_tracked == 0
    assert model.backbone.blocks[1][1].num_batches_tracked == 1
    assert "the rest 6e-06 M frozen" in describe(model, Optimizer(lr_scales={"blocks.0": 0.0, "neck": 0.0}), ())
    whole = Small()
    freeze(whole, Optimizer(backbone_lr=0.0))
    assert {name for name, p in whole.named_parameters() if p.requires_grad} == {
        *("neck.weight", "neck.bias", "classes.weight", "classes.bias")
    }


def without(part):
    model = Small()
    delattr(model, part)
    return model


@pytest.mark.parametrize(
    ("model", "settings", "text"),
    [
        (without("backbone"), {"backbone_lr": 1e-5}, "backbone_lr: this model has no part called a backbone"),
        (without("backbone"), {"layer_decay": 0.8}, "layer_decay: this model's backbone has no layers"),
        (Small(), {"lr_scales": {"nothing": 0.0}}, "no trained parameter has 'nothing'"),
        (Small(), {"lr_scales": {"": 0.0}}, "every parameter is frozen"),
    ],
)
def test_what_a_model_does_not_have_is_refused_by_name(model, settings, text):
    with pytest.raises(UsageError, match=text):
        freeze(model, Optimizer(**settings))


def test_layers_without_pretrained_weights_learn_first():
    model = Small()
    with pytest.raises(UsageError, match="nothing of this model begins with pretrained weights"):
        new_layers(model, 2)
    model.loaded = frozenset(name for name, _ in model.named_parameters() if not name.startswith("classes."))
    new = new_layers(model, 2)
    assert new == ["classes.weight", "classes.bias"]
    optimizer = build_optimizer(model, Optimizer(lr=0.1), new)
    schedule = Schedule(name="constant", new_layers_first=2, warmup_steps=2, warmup_factor=0.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    moved = []
    for step in range(4):
        set_rates(optimizer, schedule, step, 4, None)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        moved.append({name for name, p in model.named_parameters() if not torch.equal(p, before[name])})
    assert moved[0] == moved[1] == set(new)
    assert moved[2] == set(before)
    first, others = ({g["lr"] for g in optimizer.param_groups if bool(g.get("new")) is kind} for kind in (True, False))
    assert (first, others) == ({0.1}, {0.1})


def test_where_everything_is_pretrained_nothing_waits(capsys):
    model = Small()
    model.loaded = frozenset(name for name, _ in model.named_parameters())
    assert new_layers(model, 2) == []
    assert "all learn at once" in capsys.readouterr().err
    optimizer = build_optimizer(model, Optimizer(lr=0.1))
    set_rates(optimizer, Schedule(name="constant", new_layers_first=2), 0, 4, None)
    assert {group["lr"] for group in optimizer.param_groups} == {0.1}


def recipe(**optimizer):
    settings = {"name": "r", "task": "detection", "data": {"root": "d"}, "model": {"name": "detr"}}
    return Recipe.parse({**settings, "train": {"steps": 1, "optimizer": optimizer}}, "r.yaml")


def test_a_familys_defaults_are_for_what_the_recipe_does_not_set():
    model = Small()
    assert with_family_defaults(recipe(), model) == recipe()
    model.fine_tuning = FineTuning(lr=2e-4, backbone=0.1, layer_decay=0.8, weight_decay=0.05, lr_scales={"neck": 0.5})
    found = with_family_defaults(recipe(lr=1e-3, weight_decay=0.0), model).train.optimizer
    assert (found.lr, found.backbone_lr, found.layer_decay) == (1e-3, pytest.approx(1e-4), 0.8)
    assert (found.weight_decay, found.norm_weight_decay, found.lr_scales) == (0.0, None, {"neck": 0.5})
    own = recipe(lr=1e-3, backbone_lr=None, layer_decay=None, lr_scales={"classes": 2.0})
    kept = with_family_defaults(own, model).train.optimizer
    assert (kept.backbone_lr, kept.layer_decay, kept.lr_scales) == (None, None, {"classes": 2.0})
    assert with_family_defaults(recipe(name="sgd", lr=0.1), model) == recipe(name="sgd", lr=0.1)


def test_defaults_of_parts_that_a_variant_does_not_have_are_left_out():
    model = Small()
    model.fine_tuning = FineTuning(lr_scales={"neck": 0.5, "offsets": 0.1})
    found = with_family_defaults(recipe(), model).train.optimizer
    assert found.lr_scales == {"neck": 0.5}
    freeze(model, found)


def test_a_factor_on_what_another_freezes_is_no_mistake():
    model, settings = Small(), Optimizer(lr_scales={"backbone": 0.0, "blocks.0": 0.5})
    freeze(model, settings)
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    assert "backbone 4e-05 M frozen; class layers" in describe(model, settings, ())


def test_a_run_of_an_earlier_version_keeps_its_groups():
    model, settings = Small(), Optimizer(lr=1.0, backbone_lr=0.0)
    follow(model, {})
    freeze(model, settings)
    groups = {group["base"]: len(group["params"]) for group in build_optimizer(model, settings).param_groups}
    assert groups == {0.0: 16, 1.0: 4}
    headless = without("backbone")
    follow(headless, {})
    assert set(rates(headless, settings).values()) == {1.0}
    follow(model, {"new_layers": []})
    freeze(model, settings)
    assert [len(group["params"]) for group in build_optimizer(model, settings).param_groups] == [4]
