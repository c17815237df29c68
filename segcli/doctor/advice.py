"""What the numbers of a dataset advise: the input size, detections and queries, anchors, the family; with reasons."""

import math
from collections.abc import Mapping
from typing import TypedDict

from typing_extensions import NotRequired

from segcli.core.dataset_info import DatasetInfo
from segcli.core.formatting import count
from segcli.core.tasks import TASKS, field_task
from segcli.doctor.statistics import SplitFacts

CELLS = 16  # pixels that an object should be long after scaling: four cells of the finest map, which has stride 4
SIDES = (320, 1333)  # input sizes that are advised, longest side in pixels: quick enough, and the papers' own
LIMIT = 100  # detections that recipes have by default
QUERIES = (20, 1.5)  # at least, and for each object of the fullest image
ANCHORS = (32, 512)  # side lengths in pixels of the standard R-CNN's anchors
LONG = 3.0  # sides of objects whose ratio those anchors (1:2 to 2:1) still meet with IoU about 0.5
FEW = 1000  # images under which a plain set-prediction model is hardly trained from ImageNet weights


class Advice(TypedDict):
    """One piece of advice, and what speaks for it. key, value: of the recipe, where it is a setting."""

    topic: str
    advice: str
    why: str
    key: NotRequired[str]
    value: NotRequired[int]


def recipe_for(splits: Mapping[str, SplitFacts], info: DatasetInfo) -> str:
    """The recipe of recipes/custom that such data is trained with."""
    if not any(split["extent"] for split in splits.values()):
        return "custom/fcn" if info.semantic or info.panoptic else "custom/mask_rcnn"
    if (task := field_task(info)) is not None:
        return str(TASKS[task].recipe)
    if any(split["without_mask"] for split in splits.values()):
        return "custom/faster_rcnn"
    most = max(split["objects_per_image"]["max"] for split in splits.values())
    return "custom/mask_rcnn_many_small" if most > LIMIT else "custom/mask_rcnn"


SIBLINGS = {  # of the recipe that suits some labels, those of other families that learn from the same labels
    "custom/mask_rcnn": ["custom/maskformer", "custom/detr"],
    "custom/mask_rcnn_many_small": ["custom/maskformer"],
    "custom/faster_rcnn": ["custom/detr"],
    "custom/fcn": ["custom/per_pixel", "custom/maskformer_semantic"],
}


def families(splits: Mapping[str, SplitFacts], info: DatasetInfo) -> list[str]:
    """The recipes of recipes/custom, one a family, that such data can be compared with; `recipe_for` first."""
    first = recipe_for(splits, info)
    panoptic = ["custom/maskformer_panoptic"] if info.panoptic else []
    return [first, *SIBLINGS.get(first, []), *panoptic]


def advise(splits: Mapping[str, SplitFacts], info: DatasetInfo) -> list[Advice]:
    """By topic: input size, detections, queries, anchors, family; of the train split (the first one where none is
    called so). Label maps without objects get the family alone."""
    facts = splits.get("train") or next(iter(splits.values()), None)
    if facts is None:
        return []
    if not info.num_things or not facts["share"]:  # none, or none that has a pixel
        why = "there are label maps and no objects: each pixel gets a class"
        advice = "fcn, recipe custom/fcn; or custom/per_pixel, custom/maskformer_semantic"
        return [{"topic": "family", "advice": advice, "why": why}] if info.semantic else []
    longest = max(facts["image_width"][2], facts["image_height"][2])
    size, size_why = _input_size(facts, longest)
    most = max(split["objects_per_image"]["max"] for split in splits.values())
    usual = facts["objects_per_image"]["percentiles"][4]
    limit = LIMIT if most <= LIMIT else math.ceil(1.2 * most / 50) * 50
    queries = max(QUERIES[0], math.ceil(QUERIES[1] * most / 10) * 10)
    detections_why = f"an image has up to {count(most, 'object')} (crowds aside)"
    detections_why += ", and that is the default" if most <= LIMIT else ""
    queries_why = "DETR and MaskFormer find no more objects than they have queries: "
    queries_why += f"{most} at most, {usual:g} in 95 % of images"
    anchors, family = _anchors(facts, size / longest), _family(splits, facts, info, most)
    return [
        _setting("input size", "data.size", size, size_why),
        _setting("detections", "eval.max_detections", limit, detections_why),
        _setting("queries", "model.queries", queries, queries_why),
        {"topic": "anchors", "advice": anchors[0], "why": anchors[1]},
        {"topic": "family", "advice": family[0], "why": family[1]},
    ]


def _setting(topic: str, key: str, value: int, why: str) -> Advice:
    return {"topic": topic, "advice": f"{key}: {value}", "why": why, "key": key, "value": value}


def _input_size(facts: SplitFacts, longest: float) -> tuple[int, str]:
    """The longest side in pixels at which nineteen of twenty objects are CELLS long, within SIDES; and why."""
    smallest = facts["share"][0]
    needed = CELLS / smallest if smallest else SIDES[1]
    bounded = min(max(needed, SIDES[0]), SIDES[1])
    size = min(math.ceil(bounded / 32 - 0.05) * 32, SIDES[1])
    why = f"95 % of objects are longer than {100 * smallest:.1f} % of their image; at {size} that is "
    why += f"{smallest * size:.0f} pixels, and {CELLS} (four cells of stride 4) are needed"
    if needed > SIDES[1]:
        why += f"; {needed:.0f} would give them: cut the images into tiles (median side {longest:.0f})"
    return size, why


def _anchors(facts: SplitFacts, scale: float) -> tuple[str, str]:
    """Whether R-CNN's standard anchors fit the objects, and why. scale: of the input to the images."""
    low, high = (round(facts["extent"][i] * scale) for i in (0, 4))
    tall = max(facts["aspect"][4], 1 / max(facts["aspect"][0], 0.01)) if facts["aspect"] else 1.0
    fits = low >= ANCHORS[0] / 2 and high <= 2 * ANCHORS[1] and tall <= LONG
    return (
        "those of the standard R-CNN fit" if fits else "model.name: rcnn_lite, which has none",
        f"at that size 90 % of objects are {low} to {high} pixels long and up to {tall:.1f} : 1; the standard "
        f"anchors are {ANCHORS[0]} to {ANCHORS[1]} and 1 : 2 to 2 : 1",
    )


def _family(splits: Mapping[str, SplitFacts], facts: SplitFacts, info: DatasetInfo, most: int) -> tuple[str, str]:
    """The model family and its recipe, and why. facts: of the train split; most: objects of the fullest image."""
    recipe = recipe_for(splits, info)
    if (task := field_task(info)) is not None:
        return f"rcnn, recipe {recipe}", f"there are labels of {task}, and R-CNN alone has a head for them"
    if recipe == "custom/faster_rcnn":
        bare = sum(split["without_mask"] for split in splits.values())
        return f"rcnn or detr with task: detection, recipe {recipe}", f"{bare:,} objects have a box and no mask"
    if info.panoptic:
        advice = f"rcnn, recipe {recipe}, for the things; custom/maskformer_panoptic for things and stuff"
        return advice, "there are panoptic maps: maskformer gives both in one answer"
    if most > LIMIT:
        return f"rcnn, recipe {recipe}", f"{most} objects an image are beyond {LIMIT} queries"
    if facts["images"] < FEW:
        why = f"{facts['images']} training images are few: of the set-prediction models only those on box queries or "
        return f"rcnn, recipe {recipe}", why + "COCO weights learn from them (custom/detr, custom/maskformer, …_coco)"
    return "rcnn, detr or maskformer", f"{facts['images']:,} training images are enough for each"
