"""`segcli models`: the table of models with published weights."""

import pytest
import torch

from segcli.commands.models import facts, models
from segcli.core.recipe.recipe import Recipe, find_recipe, shipped
from segcli.engine import opening
from segcli.models import build_model
from segcli.weights import official

NONE = {  # of the papers' recipes those whose weights nobody published
    *("coco/detr_r50_panoptic_boxes", "coco/mask_rcnn_r101_fpn", "coco/maskformer_r50_instance"),
    *("ade20k/fcn_r50", "ade20k/maskformer_r50_panoptic", "ade20k/maskformer_r101_panoptic"),
}
CLASSES = {"coco": {"panoptic": (133, 80), "keypoints": (1, 1), "semantic": (21, 0)}, "ade20k": {"semantic": (150, 0)}}


def test_every_paper_recipe_with_weights_is_listed():
    papers = {name for name in shipped() if name.startswith(("coco/", "ade20k/"))}
    assert papers - NONE == set(facts())
    for one in models():
        assert one.weights in official.TABLE or "/" in one.weights
        assert one.licence != "unknown"


@pytest.mark.parametrize("name", [n for n in facts() if Recipe.load(n).model["name"] != "transformers"])
def test_parameters_are_those_of_the_model(name):
    recipe = Recipe.load(name)
    classes, things = CLASSES[name.split("/")[0]].get(recipe.task, (80, 80))
    with torch.device("meta"):
        model = build_model(recipe.model, task=recipe.task, num_classes=classes, num_things=things, num_keypoints=17)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(facts()[name].params, abs=0.06)


def test_the_command_says_what_is_here(segcli, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCLI_CACHE", str(tmp_path))
    file = tmp_path / "weights" / "detr" / "r50" / "detr-r50-e632da11.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    half = tmp_path / "weights" / "detr" / "r101" / "detr-r101-2c7b67e5.pth.part"  # of a download that broke off
    half.parent.mkdir(parents=True)
    half.touch()
    rows = {row["name"]: row for row in segcli("models", "--task", "detection", "--json").json["models"]}
    assert {row["task"] for row in rows.values()} == {"detection"}
    assert rows["coco/detr_r50"]["on_disk"]
    assert not rows["coco/detr_r101"]["on_disk"]
    assert rows["coco/detr_r50"]["score"] == {"bbox_AP": 0.42}
    assert "coco/lraspp_mobilenet_v3" in segcli("models").out
    assert segcli("models", "--task", "boxes").code == 2


@pytest.mark.parametrize("name", ["coco/detr_r50", "coco/detr_r50_panoptic"])
def test_a_papers_recipe_opens_with_its_official_weights(name, monkeypatch):
    asked = []

    def load(_model, file, **_):
        asked.append(file)

    monkeypatch.setattr(opening, "load_weights", load)
    opening.open_model(name)
    assert asked == [official.official_of(find_recipe(name))]
