"""Each cause of an AP of 0 is named from the traces that it leaves."""

import functools
import inspect
import json
import re

import pytest
import torch
import yaml

from segcli.core.errors import UsageError
from segcli.core.plugins import defaults, find
from segcli.core.recipe.recipe import Optimizer, Recipe
from segcli.engine.diagnosis import diagnose, measure, print_causes
from segcli.engine.optimizer import build_optimizer
from segcli.models import build_model
from segcli.models.detr.detector import DETR
from segcli.models.interface import Model
from segcli.models.layers.box_detector import BoxDetector
from segcli.models.rcnn.rcnn import RCNN

IDS = [3, 7, 8]


def recipe(model="detr", init=None, **settings) -> Recipe:
    data = {"name": "r", "task": "detection", "data": {"root": "d"}, "model": {"name": model, **settings}, "init": init}
    return Recipe.parse({**data, "train": {"steps": 100, "batch_size": 4}}, "r.yaml")


def causes_of(settings, value, history, images):
    """`diagnose`, with what the model says of its kind."""
    kind = {"detr": DETR, "detr_lite": BoxDetector, "rcnn": RCNN}[settings.model["name"]]
    model = Model()
    model.images_needed, model.lite = kind.images_needed, kind.lite
    model.queries = None if kind is RCNN else 100
    return diagnose(settings, value, history, images, IDS, model)


def labels():
    return [
        {"image_id": i, "category_id": IDS[k], "bbox": [20 * k, 10, 15, 12 + i]} for i in range(4) for k in range(3)
    ]


def results(shift=0, score=0.9, category=None, flat=False):
    out = []
    for a in labels():
        own = category or IDS[(IDS.index(a["category_id"]) + shift) % 3]
        box = [*a["bbox"][:2], 0.5, 9] if flat else a["bbox"]
        out.append({"image_id": a["image_id"], "category_id": own, "bbox": box, "score": score})
    return out


def images(given, objects=None):
    """Labels and results image by image."""
    objects = labels() if objects is None else objects
    of = lambda entries, i: [e for e in entries if e["image_id"] == i]
    return [(of(objects, i), of(given, i)) for i in sorted({e["image_id"] for e in [*objects, *given]})]


def log(first=10.0, last=5.0, norm=1.0, grown=1.0, step=1000):
    entries = [
        {
            "step": step * (i + 1) // 40,
            "loss": first + (last - first) * i / 39,
            "gradient_norm": norm * grown ** (i / 39),
        }
        for i in range(40)
    ]
    return [*entries, {"step": step, "metrics": {"bbox_AP": 0.01}}]


def names(given, value=0.0, settings=None, history=None):
    causes = causes_of(settings or recipe("detr_lite"), value, history or log(), images(given))
    assert all(c.advice and c.evidence for c in causes)
    return [c.name for c in causes]


def test_a_good_score_is_no_reason_to_ask_and_a_fallen_one_is():
    assert names(results(), value=0.3) == []
    fallen = [*log(), {"step": 500, "metrics": {"bbox_AP": 0.6}}]
    assert names(results(), value=0.3, history=fallen) == ["unknown"]


def test_too_few_steps_are_said_of_a_good_score_too_and_no_predictions_are_read():
    def read():
        raise AssertionError("all predictions are read for a score that is fine")
        yield

    assert causes_of(recipe("detr_lite"), 0.5, log(), read()) == []
    assert [cause.name for cause in causes_of(recipe("detr_lite"), 0.5, log(step=20), read())] == ["too few steps"]


def test_a_split_without_objects_says_nothing_about_the_model(tmp_path, capsys):
    (tmp_path / "val.json").write_text("[\n]\n")
    print_causes(None, recipe(), None, None, {}, tmp_path / "val.json")
    assert capsys.readouterr().err == ""


def test_no_object_collapse():
    assert names(results(score=0.02))[0] == "no-object collapse"
    assert names([])[0] == "no-object collapse"


@pytest.mark.parametrize("shift", [1, -1])
def test_ids_shifted(shift):
    assert names(results(shift))[0] == "ids shifted"


def results_of_another_class():
    """Every object of the first and last class is found as the other one of them."""
    wrong = [{**r, "category_id": 8 if r["category_id"] != 8 else 3} for r in results()]
    return [r for r in wrong if r["bbox"][0] != 20 and abs(IDS.index(r["category_id"]) - IDS.index(8)) != 1]


def test_class_head():
    assert names(results(category=3), settings=recipe(init="detr/r50"))[0] != "ids shifted"
    only = results_of_another_class()
    assert names(only, settings=recipe(init="detr/r50"))[0] == "class head not reset"
    assert names(only)[0] == "classes not learned"


MODELS = {
    "rcnn": ({"name": "rcnn_lite", "width": 32, "heads": {"iou_box": {}, "lite_mask": {}}}),
    "detr": ({"name": "detr", "transformer": {"dim": 32, "ffn": 32}}),
    "detr on boxes": ({"name": "detr_lite", "transformer": {"dim": 32, "ffn": 32}}),
    "maskformer on boxes": ({"name": "maskformer_lite", "transformer": {"dim": 32, "ffn": 32}}),
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_advised_rates_are_those_of_the_models_own_class_layers(kind):
    """The advice, taken word for word, is a recipe's, and raises the rate of what another dataset replaces."""
    settings = {**MODELS[kind], "backbone": {"name": "resnet", "depth": 18}}
    with torch.device("meta"):
        task = "detection" if settings["name"].startswith("detr") else "instance"
        model = build_model(settings, task=task, num_classes=3, num_things=3, num_keypoints=0)
    causes = diagnose(recipe(init="detr/r50"), 0.0, log(), images(results_of_another_class()), IDS, model)
    scales = yaml.safe_load(re.search(r"lr_scales: (\{.*?\})", causes[0].advice)[1])
    optimizer = build_optimizer(model, Optimizer(lr=1.0, lr_scales=scales))
    raised = {id(p) for group in optimizer.param_groups if group["lr"] == 10 for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in raised}
    assert names
    assert names == {name for name, _ in model.named_parameters() if name.startswith(tuple(model.class_layers))}


SMALL = {"transformer": {"dim": 32, "ffn": 32}}
FAMILIES = {
    "rcnn": ("detection", {"name": "rcnn_lite", "width": 32, "heads": {"iou_box": {}}}),
    "rcnn with masks": ("instance", {"name": "rcnn", "heads": {"box": {}, "mask": {}}}),
    "detr": ("detection", {"name": "detr", **SMALL}),
    "detr with masks": ("instance", {"name": "detr", "transformer": {"dim": 128}}),
    "detr on boxes": ("detection", {"name": "detr_lite", **SMALL}),
    "maskformer": ("instance", {"name": "maskformer", **SMALL}),
    "maskformer on boxes": ("instance", {"name": "maskformer_lite", **SMALL, "boxes": {"selection": True}}),
    "mask2former": ("instance", {"name": "mask2former_lite", **SMALL}),
}
EVIDENCE = {
    "no-object collapse": (results(score=0.02), log()),
    "ids shifted": (results(1), log()),
    "class head": (results_of_another_class(), log()),
    "rate too high": (results(), log(10, 14)),
    "rate too low": (results(), log(10, 9.9)),
    "explosion": (results(), log(grown=1000.0)),
    "too few steps": (results(), log(step=8)),
    "unknown": (results(), log(step=100_000)),
}


def take(advice: str, settings: Recipe) -> Recipe:
    """The recipe with every switch of the advice on, and the lengths that it gives."""
    data = settings.model_dump(mode="json")
    for name in re.findall(r"model\.name: (\w+)", advice):
        data["model"]["name"] = name
    for key in re.findall(r"model\.boxes\.(selection|denoising)", advice):
        data["model"].setdefault("boxes", {})[key] = 4 if key == "denoising" else True
    for key, value in re.findall(r"train\.(steps|epochs|minutes): (\d+|null)", advice):
        data["train"][key] = None if value == "null" else int(value)
    return Recipe.parse(data, "r.yaml")


@functools.cache
def built(task: str, model_json: str):
    """Models without values; most advice leaves the model as it is."""
    with torch.device("meta"):
        return build_model(json.loads(model_json), task=task, num_classes=3, num_things=3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("length", ["steps", "minutes"])
def test_advice_names_only_settings_that_the_model_and_the_recipe_have(family, length):
    task, model = FAMILIES[family]
    backbone = {"name": "resnet", "depth": 18}
    data = {"name": "r", "task": task, "data": {"root": "d"}, "model": {**model, "backbone": backbone}}
    told = 0
    own = built(task, json.dumps(data["model"], sort_keys=True))
    for init in (None, "weights.pt"):
        settings = Recipe.parse({**data, "init": init, "train": {length: 100}}, "r.yaml")
        for found, history in EVIDENCE.values():
            for cause in diagnose(settings, 0.0, history, images(found), IDS, own):
                for section, keys in re.findall(
                    r"\b(model|data|train|eval|hardware)\.([a-z_]+(?:\.[a-z_]+)*)", cause.advice
                ):
                    assert known(settings, section, keys.split(".")), f"{cause.advice}: no {section}.{keys}"
                    told += 1
                built(task, json.dumps(take(cause.advice, settings).model, sort_keys=True))
    assert told > 10


def known(settings: Recipe, section: str, path: list[str]) -> bool:
    """Whether a recipe's section has a key: a field, or an argument of the model's or its backbone's builder."""
    if section != "model":
        part = getattr(settings, section)
        for key in path:
            if not hasattr(part, key):
                return False
            part = getattr(part, key)
        return True
    if path[0] == "backbone" and len(path) > 1:
        return path[1] == "weights" or path[1] in inspect.signature(find("backbone", "resnet").build).parameters
    return path[0] == "name" or ".".join(path) in defaults(find("model", settings.model["name"]).build)


def test_a_region_based_model_is_not_told_of_a_class_that_it_has_not():
    [cause] = causes_of(recipe("rcnn", heads={"box": {}}), 0.0, log(), images(results(score=0.02)))
    assert cause.name == "no-object collapse"
    assert "no_object" not in cause.advice
    assert "model.name" not in cause.advice
    assert "model.loss.no_object (0.1)" in causes_of(recipe(), 0.0, log(), images([]))[0].advice


def test_a_region_based_model_has_no_cost_of_matching_that_could_explode():
    grown = log(grown=1000.0)
    [cause] = causes_of(recipe("rcnn", heads={"box": {}}), 0.0, grown, images(results()))
    assert cause.name == "exploding gradients"
    assert "train.clip" in cause.advice


def test_rates_of_what_is_not_there_are_refused():
    model = Model()
    model.classes = torch.nn.Linear(2, 2)
    with pytest.raises(UsageError, match="no trained parameter has 'clases' in its name") as refused:
        build_optimizer(model, Optimizer(lr=1.0, lr_scales={"clases": 10}))
    assert "'classes'" in refused.value.hint


def test_learning_rates_and_explosions():
    assert names(results(), history=log(10, 14)) == ["learning rate too high"]
    assert names(results(), history=log(10, 9.9)) == ["learning rate too low"]
    assert names(results(), history=log(grown=1000.0)) == ["exploding matching cost"]
    assert "exploding matching cost" in names(results(flat=True))


def test_too_few_steps_says_how_many():
    short = causes_of(recipe(), 0.0, log(step=80), images(results()))
    assert [c.name for c in short] == ["too few steps"]
    assert "80 steps" in short[0].evidence
    assert "25000" in short[0].evidence
    assert "model.name: detr_lite" in short[0].advice
    assert short[0].stored()["steps"] == 25000
    assert names(results(), settings=recipe("rcnn"), history=log(step=1000)) == ["unknown"]


@pytest.mark.parametrize(("init", "short"), [(None, True), ("scenes", False), ("runs/a", False)])
def test_weights_that_know_objects_need_fewer_steps(init, short):
    begun = recipe("detr_lite").model_copy(update={"init": init})
    assert (names(results(), settings=begun, history=log(step=150)) == ["too few steps"]) is short


def test_crowds_and_empty_images_do_not_count():
    crowd = {"image_id": 9, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1}
    hits = measure(images(results(), [*labels(), crowd]), IDS)
    assert (hits.any, hits.right) == (1.0, 1.0)
    assert measure(images(results(), []), IDS).any == 0
