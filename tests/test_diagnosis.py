"""Each cause of an AP of 0 is named from the traces that it leaves."""

import pytest

from segcli.diagnosis import diagnose, measure
from segcli.recipe import Recipe

IDS = [3, 7, 8]


def recipe(model="detr", init=None, **settings) -> Recipe:
    data = {"name": "r", "task": "detection", "data": {"root": "d"}, "model": {"name": model, **settings}, "init": init}
    return Recipe.parse({**data, "train": {"steps": 100, "batch_size": 4}}, "r.yaml")


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
    causes = diagnose(settings or recipe(box_queries=True), value, history or log(), labels(), given, IDS)
    assert all(c.advice and c.evidence for c in causes)
    return [c.name for c in causes]


def test_a_good_score_is_no_reason_to_ask_and_a_fallen_one_is():
    assert names(results(), value=0.3) == []
    fallen = [*log(), {"step": 500, "metrics": {"bbox_AP": 0.6}}]
    assert names(results(), value=0.3, history=fallen) == ["unknown"]


def test_no_object_collapse():
    assert names(results(score=0.02))[0] == "no-object collapse"
    assert names([])[0] == "no-object collapse"


@pytest.mark.parametrize("shift", [1, -1])
def test_ids_shifted(shift):
    assert names(results(shift))[0] == "ids shifted"


def test_class_head():
    assert names(results(category=3), settings=recipe(init="detr/r50"))[0] != "ids shifted"
    wrong = [{**r, "category_id": 8 if r["category_id"] != 8 else 3} for r in results()]
    far = [r for r in wrong if abs(IDS.index(r["category_id"]) - IDS.index(8)) != 1]
    only = [a for a in far if a["bbox"][0] != 20]
    assert names(only, settings=recipe(init="detr/r50"))[0] == "class head not reset"
    assert names(only)[0] == "classes not learned"


def test_learning_rates_and_explosions():
    assert names(results(), history=log(10, 14)) == ["learning rate too high"]
    assert names(results(), history=log(10, 9.9)) == ["learning rate too low"]
    assert names(results(), history=log(grown=1000.0)) == ["exploding matching cost"]
    assert "exploding matching cost" in names(results(flat=True))


def test_too_few_steps_says_how_many():
    short = diagnose(recipe(), 0.0, log(step=80), labels(), results(), IDS)
    assert [c.name for c in short] == ["too few steps"]
    assert "80 steps" in short[0].evidence
    assert "25000" in short[0].evidence
    assert "box_queries" in short[0].advice
    assert names(results(), settings=recipe("rcnn"), history=log(step=1000)) == ["unknown"]


def test_crowds_and_empty_images_do_not_count():
    hits = measure([*labels(), {"image_id": 9, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1}], results(), IDS)
    assert (hits.any, hits.right) == (1.0, 1.0)
    assert measure([], results(), IDS).any == 0
