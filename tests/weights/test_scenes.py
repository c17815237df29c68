"""Weights that come with the package: they fit, are found, and what can't take them says so."""

import shutil

import pytest
import safetensors
import safetensors.torch
import torch

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import ModelError, UsageError
from segcli.core.recipe.recipe import Recipe
from segcli.engine.opening import start
from segcli.models.interface import Backbone
from segcli.sources.synthetic import scenes as generator
from segcli.sources.synthetic import shapes
from segcli.weights import scenes

RECIPES = {"rcnn_lite": "mask_rcnn", "detr_lite": "detr", "maskformer_lite": "maskformer"}
INFO = DatasetInfo("two", (Category("cat", 1), Category("dog", 2)), {})
REAL = scenes.FOLDER


def _file(family):
    return REAL / f"{scenes.FILES[family]}.safetensors"


def recipe(family, **changes):
    return Recipe.load(f"quickstart/{RECIPES[family]}", {"init": "scenes", **changes})


@pytest.mark.parametrize("family", scenes.FILES)
def test_what_the_file_has_is_loaded_and_every_class_begins_near_the_mean_of_those_of_the_scenes(family, capsys):
    model, used = start(recipe(family), INFO)
    plain, trunk = start(recipe(family, init=None), INFO)
    own, before, file = model.state_dict(), plain.state_dict(), safetensors.torch.load_file(_file(family))
    classes = [key for key in own if key.startswith(model.class_layers)]
    assert used == [*trunk, {"source": "scenes", "licence": "Apache-2.0"}]
    assert "init: scenes: other classes: each begins near the mean of the file's: " in capsys.readouterr().err
    assert classes
    for key, value in own.items():
        given = file.get(key, before[key]).to(value.dtype)
        apart = before[key] - before[key].mean(0) if value.ndim > 1 else torch.zeros_like(value)
        expected = given.mean(0) + apart if key in classes else given
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-6 if key in classes else 0.0, msg=key)
        assert key not in classes or value.ndim == 1 or not torch.equal(value[0], value[1]), key
    trunks = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, Backbone))
    lacking = {key for key, _ in model.named_parameters()} - file.keys()
    assert lacking == set() if family == "rcnn_lite" else lacking and all(key.startswith(trunks) for key in lacking)


BEGIN_WITH_THEM = [
    *(f"quickstart/{name}" for name in ("mask_rcnn", "faster_rcnn", "detr", "maskformer", "maskformer_panoptic")),
    *(f"custom/{name}" for name in ("mask_rcnn", "mask_rcnn_many_small", "faster_rcnn", "detr", "maskformer")),
    *(f"pennfudan/{name}_lite" for name in ("mask_rcnn", "detr", "maskformer")),
    *("custom/maskformer_panoptic", "nuclei/mask_rcnn_lite", "nuclei/maskformer_lite", "fruits_nuts/mask_rcnn_lite"),
]


@pytest.mark.parametrize("name", BEGIN_WITH_THEM)
def test_lite_recipes_for_objects_begin_with_them(name):
    recipe = Recipe.load(name)
    assert recipe.init == "scenes"
    assert scenes.file_for(recipe.model).is_file()


def test_what_the_files_say_of_themselves_and_how_large_they_are():
    files = {_file(family) for family in scenes.FILES}
    for file in files:
        with safetensors.safe_open(file, "pt") as content:
            about = content.metadata()
        assert {"recipe", "data", "steps", "licence"} <= about.keys()
    assert set(REAL.iterdir()) == files
    assert sum(file.stat().st_size for file in files) < 20e6


def test_nothing_of_the_embedded_shapes_is_in_the_scenes():
    """What `shapes` shows is of a kind that the weights have not seen."""
    learned = {category.name for category in generator.build(train=1, val=1).info.categories}
    assert not learned & {category.name for category in shapes.build(train=1, val=1).info.categories}


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("fcn", {}, "no such weights for fcn, but for rcnn_lite, detr_lite, maskformer_lite"),
        ("mask_rcnn", {"model.backbone": {"name": "resnet", "depth": 18}}, "go with the backbone efficientnet_lite0"),
        ("mask_rcnn", {"model.backbone.weights": None}, "go with the backbone efficientnet_lite0"),
    ],
)
def test_models_without_such_weights_are_told_how_to_begin_without(name, changes, says):
    with pytest.raises(UsageError, match=says) as caught:
        start(Recipe.load(f"quickstart/{name}", {"init": "scenes", **changes}), INFO)
    assert "init=null" in caught.value.hint


def test_files_that_are_gone_damaged_or_of_another_size(tmp_path, monkeypatch):
    wider = recipe("rcnn_lite", **{"model.width": 64})
    with pytest.raises(ModelError, match=r"init: scenes: .*of another shape") as caught:
        start(wider, INFO)
    assert "init=null" in caught.value.hint
    other_norm = {"name": "efficientnet_lite0", "weights": "imagenet", "norm": "frozen"}
    with pytest.raises(ModelError, match=r"init: scenes: .*weights of another model"):  # its trunk learned
        start(recipe("rcnn_lite", **{"model.backbone": other_norm}), INFO)
    monkeypatch.setattr(scenes, "FOLDER", tmp_path)
    with pytest.raises(ModelError, match=r"init: scenes: .*no such weight file"):
        start(recipe("rcnn_lite"), INFO)
    shutil.copy(REAL / "rcnn_lite.safetensors", tmp_path)
    damaged = tmp_path / "rcnn_lite.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-100] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(ModelError, match=r"init: scenes: .*is damaged"):
        start(recipe("rcnn_lite"), INFO)


def test_a_head_that_the_model_lacks_is_left_out_and_named(capsys):
    start(recipe("rcnn_lite", task="detection", **{"model.heads.lite_mask": None}), INFO)
    assert "not in this model, left out: roi_heads.heads.mask" in capsys.readouterr().err


def test_a_file_of_that_name_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenes").write_bytes(b"own")
    with pytest.raises(ModelError, match="can't be read as weights"):
        start(recipe("rcnn_lite"), INFO)
