"""hardware.compile: the same training with a compiled backbone, or one line that says why not."""

import pytest
import torch
from tiny import TINY_RECIPE

from segcli.core.errors import SegcliError, UsageError
from segcli.core.recipe.recipe import Recipe
from segcli.engine import compilation
from segcli.engine.accumulation import step_losses
from segcli.engine.compilation import compile_backbone, compiler_errors, uncompiled
from segcli.engine.opening import prepare_layout
from segcli.engine.training import make_loader, open_datasets
from segcli.models import build_model

MODEL = {"name": "per_pixel", "backbone": {"name": "timm", "model": "test_resnet"}, "dim": 32}
SHORT = {"name": "timm", "model": "test_resnet", "levels": [1]}  # one stage: inductor takes half a minute for it
CPU = torch.device("cpu")


def recipe(root="data", backbone=MODEL["backbone"], **data) -> Recipe:
    data = {"root": str(root), "size": 64, **data}
    model = {**MODEL, "backbone": backbone}
    hardware = {**TINY_RECIPE["hardware"], "compile": True}
    return Recipe.parse({**TINY_RECIPE, "task": "semantic", "data": data, "model": model, "hardware": hardware}, "r")


def model_of(recipe):
    torch.manual_seed(0)
    model = build_model(recipe.model, task=recipe.task, num_classes=2, num_things=2)
    model.preprocess = model.preprocess.with_size(recipe.data.size)
    return prepare_layout(model).train()


def gradients(model, batch):
    model.zero_grad()
    for _, losses in step_losses(model, batch, 1, CPU, torch.autocast("cpu", enabled=False), first=True):
        with compiler_errors():
            sum(losses.values()).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture
def batch(tiny_dataset):
    given = recipe(tiny_dataset)
    return next(make_loader(given, model_of(given), open_datasets(given, {})[0], 0))


@pytest.fixture(autouse=True)
def nothing_stays_compiled():
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("backend", "backbone"),
    [("aot_eager", MODEL["backbone"]), ("inductor", SHORT)],
)
def test_a_compiled_backbone_gives_the_same_gradients_under_the_same_names(batch, monkeypatch, backend, backbone):
    monkeypatch.setattr(compilation, "BACKEND", backend)
    given = recipe(backbone=backbone)
    plain, compiled = model_of(given), model_of(given)
    compile_backbone(compiled, given)
    assert [*compiled.state_dict()] == [*plain.state_dict()]
    expected, found = gradients(plain, batch), gradients(compiled, batch)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 1e-4 * value.norm() + 1e-7, name
    with uncompiled(), torch.inference_mode():
        images = batch.images
        assert torch.equal(compiled.eval().network(images), plain.eval().network(images))


def test_a_compilers_error_is_one_line_that_names_the_setting(batch, monkeypatch):
    def fails(graph, inputs):
        raise RuntimeError("no compiler here\nand a long story")

    monkeypatch.setattr(compilation, "BACKEND", fails)
    model = model_of(recipe())
    compile_backbone(model, recipe())
    with pytest.raises(SegcliError, match=r"^hardware\.compile: .*no compiler here") as refused:
        gradients(model, batch)
    assert refused.value.exit_code == 1
    assert len(str(refused.value).splitlines()) == 1
    assert "hardware.compile: false" in refused.value.hint


@pytest.mark.parametrize("augment", [{}, {"crop": None}, {"crop": False, "flip": 0.5}])
def test_inputs_of_several_sizes_are_refused(augment):
    given = recipe(size=[48, 64], augment=augment)
    with pytest.raises(UsageError, match=r"hardware\.compile needs inputs of one size"):
        compile_backbone(model_of(given), given)


def test_a_crop_or_a_square_canvas_is_one_size():
    for given in (recipe(size=[48, 64], augment={"crop": 64}), recipe(size=64)):
        compile_backbone(model_of(given), given)
    square, lite = recipe(size=[48, 64]), {"name": "detr_lite", "backbone": MODEL["backbone"]}
    model = build_model(lite, task="detection", num_classes=2, num_things=2)
    model.preprocess = model.preprocess.with_size(square.data.size)
    compile_backbone(model, square)
