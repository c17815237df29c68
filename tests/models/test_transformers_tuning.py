"""Models of the library `transformers`: which of their layers learn, at which rates."""

import pytest
import torch
from tiny_checkpoints import CONFIGS

from segcli.core.recipe.recipe import Optimizer, Recipe
from segcli.engine.fine_tuning import describe, follow, freeze, layers, rates, with_family_defaults
from segcli.models import build_model
from segcli.models.transformers.architectures import KINDS, TASKS_OF
from segcli.models.transformers.tuning import TUNING


def tiny(name):
    """Of every architecture a small model without memory."""
    import transformers

    settings, processor, rule = CONFIGS[name]
    config = {**getattr(transformers, name).config_class(**settings).to_dict(), "architectures": [name]}
    given = {"name": "transformers", "checkpoint": "x", "config": config}
    given["processor"] = getattr(transformers, processor)(**rule).to_dict()
    with torch.device("meta"):
        return build_model(given, task=TASKS_OF[KINDS[name]][-1], num_classes=3, num_things=2)


@pytest.mark.parametrize("name", KINDS)
def test_its_backbone_has_layers_and_can_be_frozen(name):
    model = tiny(name)
    parameters = dict(model.named_parameters())
    of_backbone = {key for key in parameters if key.startswith(model.backbone_parts)}
    assert all(
        any(key.startswith(part) for key in parameters) for part in model.backbone_parts if "backbone" not in part
    )
    depth, count = layers(model)
    assert set(depth) == of_backbone
    assert count >= 3
    found = rates(model, Optimizer(lr=1.0, layer_decay=0.5))
    assert {found[key] for key in parameters if key not in of_backbone} == {1.0}
    assert len({found[key] for key in of_backbone}) >= count
    freeze(model, Optimizer(backbone_lr=0.0))
    assert {key for key, p in parameters.items() if not p.requires_grad} >= of_backbone
    assert any(p.requires_grad for p in parameters.values())
    assert "frozen" in describe(model, Optimizer(backbone_lr=0.0), ())


@pytest.mark.parametrize("name", TUNING)
def test_its_familys_rates_are_of_parts_that_it_has(name):
    model = tiny(name)
    written = {"name": "r", "task": "detection", "data": {"root": "d"}, "model": {"name": "x"}, "train": {"steps": 1}}
    found = with_family_defaults(Recipe.parse(written, "r.yaml"), model).train.optimizer
    base = rates(model, found)
    assert 0 < min(base.values()) <= max(base.values()) <= 1e-3
    assert TUNING[name].lr == found.lr


def test_rf_detrs_rates_are_those_of_its_authors():
    """TrainConfig's defaults in get_param_dicts.py and backbone.py of rfdetr; maps of blocks 2 and 4 are its indexes 2
    and 4, so that it counts 5 layers."""
    model = tiny("RfDetrForObjectDetection")
    written = {"name": "r", "task": "detection", "data": {"root": "d"}, "model": {"name": "x"}, "train": {"steps": 1}}
    found = rates(model, with_family_defaults(Recipe.parse(written, "r.yaml"), model).train.optimizer)
    trunk = "net.model.backbone.backbone."
    encoder = 1.5e-4 * 0.7**2
    for block in range(4):
        name = f"{trunk}encoder.layer.{block}.norm1.weight"
        assert found[name] == pytest.approx(encoder * 0.8 ** (5 + 1 - (block + 1)))
    embedding = next(key for key in found if key.startswith(f"{trunk}embeddings."))
    assert found[embedding] == pytest.approx(encoder * 0.8 ** (5 + 1))
    [decoder] = {rate for key, rate in found.items() if key.startswith("net.model.decoder.")}
    assert decoder == pytest.approx(1e-4 * 0.7)
    assert found["net.class_embed.weight"] == 1e-4


@pytest.mark.parametrize("name", ["RfDetrForObjectDetection", "YolosForObjectDetection", "DFineForObjectDetection"])
def test_the_backbone_of_an_earlier_versions_run_is_what_is_called_so(name):
    model = tiny(name)
    follow(model, {})
    found = rates(model, Optimizer(lr=1.0, backbone_lr=0.5))
    assert {key for key, rate in found.items() if rate == 0.5} == {key for key in found if "backbone" in key.split(".")}
