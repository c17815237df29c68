"""Recipes of earlier versions mean today's models, whose settings and weights are the same."""

import pytest
import yaml

from segcli.core.errors import UsageError
from segcli.core.recipe.old_names import translate
from segcli.core.recipe.recipe import Recipe
from segcli.models import build_model

RESNET = {"name": "resnet", "depth": 18}
PLAIN = {**RESNET, "dilate_last": 0}
SMALL = {"backbone": RESNET, "dim": 32, "heads": 4, "ffn": 32}
NEW = {"backbone": RESNET, "transformer": {"dim": 32, "heads": 4, "ffn": 32}}
OLD = [  # as written before, task, as it is written today
    (
        {"name": "rcnn", "variant": "lite", "backbone": RESNET, "fpn_norm": False, "heads": {"box": {}, "mask": None}},
        "instance",
        {"name": "rcnn_lite", "backbone": RESNET, "heads": {"iou_box": {}, "lite_mask": {}}},
    ),
    (
        {"name": "rcnn", "variant": "standard", "backbone": RESNET, "width": None, "heads": {"box": {"score": None}}},
        "detection",
        {"name": "rcnn", "backbone": RESNET, "heads": {"box": {}}},
    ),
    (
        {
            **{"name": "rcnn", "variant": "standard", "backbone": RESNET, "heads": {"box": {}}, "proposals": [9, 9]},
            **{"anchors": [[9, 18]] * 5, "rpn_convolutions": 2, "candidates": [40, 20], "proposal_score": 0.1},
        },
        "detection",
        {
            **{"name": "rcnn", "backbone": RESNET, "heads": {"box": {}}, "proposals": [9, 9]},
            "rpn": {"anchors": [[9, 18]] * 5, "convolutions": 2, "candidates": [40, 20], "score": 0.1},
        },
    ),
    (
        {"name": "rcnn", "backbone": RESNET, "heads": {"box": {}}, "anchors": None, "rpn": {"score": 0.1}},
        "detection",
        {"name": "rcnn", "backbone": RESNET, "heads": {"box": {}}, "rpn": {"score": 0.1}},
    ),
    ({"name": "per_pixel", "variant": "fcn", "backbone": PLAIN}, "semantic", {"name": "fcn", "backbone": PLAIN}),
    ({"name": "per_pixel", "variant": "per_pixel"}, "semantic", {"name": "per_pixel"}),
    (
        {"name": "detr", **SMALL, "box_queries": True, "no_object": 0.1, "selection": True, "levels": 3},
        "detection",
        {"name": "detr_lite", **NEW, "boxes": {"selection": True}, "levels": 3},
    ),
    ({"name": "detr", **SMALL, "box_queries": False, "levels": 1}, "detection", {"name": "detr", **NEW}),
    (
        {"name": "maskformer", **SMALL, "box_queries": True, "score": None, "upsampling": "direct", "points": None},
        "panoptic",
        {"name": "maskformer_lite", **NEW},
    ),
    (
        {"name": "maskformer", **SMALL, "masked_attention": True, "kernels": True, "denoising": 0},
        "semantic",
        {"name": "mask2former_lite", **NEW, "kernels": True},
    ),
    (
        {"name": "detr", **SMALL, "levels": 1, "denoising": 0, "selection": False, "distinct": None},
        "detection",
        {"name": "detr", **NEW},
    ),
    ({"name": "maskformer", **SMALL, "kernels": False, "levels": 1}, "instance", {"name": "maskformer", **NEW}),
    ({"name": "maskformer", **SMALL, "masked_attention": False}, "instance", {"name": "maskformer", **NEW}),
    (
        {"name": "detr", **SMALL, "queries": 5, "class_weight": 2.0, "l1_weight": 4.0, "no_object": 0.2, "score": 0.5},
        "detection",
        {
            "name": "detr",
            **NEW,
            "queries": 5,
            "loss": {"class": 2.0, "l1": 4.0, "no_object": 0.2},
            "inference": {"score": 0.5},
        },
    ),
    (
        {"name": "maskformer", **SMALL, "transformer": {"dropout": 0.0}, "outputs": ["semantic"], "mask_weight": 5.0},
        "instance",
        {
            **{"name": "maskformer", "backbone": RESNET, "inference": {"outputs": ["semantic"]}, "loss": {"mask": 5.0}},
            "transformer": {"dim": 32, "heads": 4, "ffn": 32, "dropout": 0.0},
        },
    ),
]


@pytest.mark.parametrize(("old", "task", "new"), OLD)
def test_an_old_section_means_a_model_of_today(old, task, new):
    found = translate(old)
    assert found == new
    assert translate(found) == new
    build_model(found, task=task, num_classes=3, num_things=2)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "detr", "deformable": True}, r"model\.deformable is a setting of model\.name: detr_lite$"),
        (
            {"name": "maskformer", "kernels": True},
            "kernels is a setting of model.name: maskformer_lite and mask2former_lite",
        ),
        ({"name": "detr", "levels": 3}, r"model\.levels is a setting of model\.name: detr_lite$"),
        (
            {"name": "maskformer", "levels": 2},
            "levels is a setting of model.name: maskformer_lite and mask2former_lite",
        ),
        ({"name": "detr", "box_queries": False, "groups": 2}, "model.groups is a setting of model.name: detr_lite"),
        (
            {"name": "detr", "dim": 64, "transformer": {"dim": 32}},
            "dim is model.transformer.dim now, .* has both",
        ),
        (
            {"name": "detr", "dim": 64, "transformer": 3},
            "dim is model.transformer.dim now, .*transformer: 3",
        ),
        ({"name": "rcnn", "candidates": [9, 9], "rpn": {"candidates": [8, 8]}}, "rpn.candidates now, .* has both"),
        ({"name": "detr_lite", "box_queries": False}, "model.box_queries is model.name: detr now"),
        ({"name": "maskformer_lite", "masked_attention": True}, "masked_attention is model.name: mask2former_lite now"),
        ({"name": "mask2former_lite", "box_queries": True}, "box_queries is model.name: maskformer_lite now"),
        ({"name": "maskformer", "box_queries": True, "masked_attention": True}, "exclude each other"),
    ],
)
def test_what_can_not_be_meant_any_more_says_the_new_name(model, message):
    with pytest.raises(UsageError, match=message):
        Recipe.parse({"name": "r", "task": "detection", "data": {"root": "x"}, "model": model}, "r.yaml")


def test_a_flag_of_before_says_the_new_name():
    with pytest.raises(UsageError, match=r"model\.box_queries is model.name: detr now"):
        Recipe.load("quickstart/detr", {"model.box_queries": False})
    assert Recipe.load("quickstart/detr", {"model.box_queries": True}).model["name"] == "detr_lite"


def test_an_old_recipe_extends_a_new_one(tmp_path):
    base = Recipe.load("quickstart/mask_rcnn")
    (tmp_path / "base.yaml").write_text(base.to_yaml(), encoding="utf-8")
    pooled = {"pooler": "roi_pool"}
    for model, expected in [
        ({"name": "rcnn", "heads": {"mask": None}}, {"iou_box": {}}),
        ({"heads": {"mask": pooled}}, {"iou_box": {}, "lite_mask": pooled}),
    ]:
        (tmp_path / "own.yaml").write_text(yaml.safe_dump({"extends": "base.yaml", "model": model}), encoding="utf-8")
        assert Recipe.load(tmp_path / "own.yaml").model == {**base.model, "heads": expected}


@pytest.mark.parametrize("own", [{"loss": None}, {"no_object": None, "class_weight": None}])
def test_null_takes_settings_of_before_back(tmp_path, own):
    """A parent's, by a section, by the old names, or by the new ones, in a child recipe and in a flag."""
    model = {"name": "detr", "no_object": 0.2, "class_weight": 3.0}
    base = {"name": "r", "task": "detection", "data": {"root": "d"}, "model": model}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base), encoding="utf-8")
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"extends": "base.yaml", "model": own}), encoding="utf-8")
    flags = {f"model.{key}": None for key in own}
    for recipe in (Recipe.load(tmp_path / "own.yaml"), Recipe.load(tmp_path / "base.yaml", flags)):
        assert not recipe.model.get("loss")
        build_model({**recipe.model, "backbone": RESNET}, task="detection", num_classes=1, num_things=1)
    new = Recipe.load(tmp_path / "base.yaml", {"model.loss.no_object": None})
    assert new.model["loss"] == {"class": 3.0}


def test_a_setting_of_before_and_the_one_of_today_replace_each_other(tmp_path):
    """In a flag, and in a recipe that extends another, whichever of the two is older."""
    recipe = Recipe.load("quickstart/detr", {"model.dim": 64, "model.transformer.ffn": 32, "model.denoising": 8})
    base = Recipe.load("quickstart/detr").model
    assert recipe.model["transformer"] == {**base["transformer"], "dim": 64, "ffn": 32}
    assert recipe.model["boxes"] == {**base["boxes"], "denoising": 8}
    small = "coco/faster_rcnn_mobilenet_v3_320_fpn"
    rpn = Recipe.load(small, {"model.candidates": [9, 9], "model.proposal_score": 0.2}).model["rpn"]
    assert rpn == {**Recipe.load(small).model["rpn"], "candidates": [9, 9], "score": 0.2}
    for number, (first, second) in enumerate(
        [({"dim": 64}, {"transformer": {"dim": 32}}), ({"transformer": {"dim": 64}}, {"dim": 32})]
    ):
        for name, data in (
            ("base", {"name": "r", "task": "detection", "data": {"root": "d"}, "model": {"name": "detr", **first}}),
            ("own", {"extends": f"base{number}.yaml", "model": second}),
        ):
            (tmp_path / f"{name}{number}.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
        model = Recipe.load(tmp_path / f"own{number}.yaml").model
        assert model == {"name": "detr", "transformer": {"dim": 32}}
