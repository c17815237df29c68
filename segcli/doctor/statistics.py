"""What a split looks like in numbers, from its annotation file alone; and what that advises, with reasons."""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from segcli.core.coco_json import Annotation, ImageEntry
from segcli.core.dataset_info import DatasetInfo
from segcli.data.annotations import area_of, encode

SMALL, MEDIUM = 32**2, 96**2  # COCO's limits of small and medium objects, in square pixels
SHARES = (5, 25, 50, 75, 95)  # percentiles that are told
CELLS = 16  # pixels that an object should be long after scaling: four cells of the finest map, which has stride 4
SIDES = (320, 1333)  # input sizes that are advised, longest side in pixels: quick enough, and the papers' own
LIMIT = 100  # detections and queries that recipes have by default
ANCHORS = (32, 512)  # side lengths in pixels of the standard R-CNN's anchors
LONG = 3.0  # sides of objects whose ratio those anchors (1:2 to 2:1) still meet with IoU about 0.5
FEW = 1000  # images under which a plain set-prediction model is hardly trained from ImageNet weights


def measure(images: Iterable[tuple[ImageEntry, list[Annotation]]], info: DatasetInfo) -> dict[str, Any]:
    """The facts of one annotation file's images and their annotations, as JSON values; crowd regions are counted apart.

    {"images", "objects", "crowd", "without_objects", "without_mask", "per_class": {name: count}, "objects_per_image":
    {"mean", "min", "max", "percentiles"}, "sizes": {"small", "medium", "large"} (COCO's, by area), "extent":
    percentiles of √area in pixels, "share": of √area over the image's longest side, "aspect": of width over height,
    "image_width", "image_height": percentiles at SHARES}. Lists are empty without objects. Numbers alone are held.
    Where the file has no area or no box, the mask's is taken.
    """
    names = dict(zip(info.source_ids, info.names, strict=True))
    classes = Counter[str]()
    per_image, widths, heights = array("q"), array("d"), array("d")
    areas, aspects, shares = array("d"), array("d"), array("d")
    crowd = bare = without_mask = 0
    for image, annotations in images:
        size = image["height"], image["width"]
        widths.append(size[1])
        heights.append(size[0])
        bare += not annotations
        single = [annotation for annotation in annotations if not annotation.get("iscrowd")]
        per_image.append(len(single))
        crowd += len(annotations) - len(single)
        classes.update(names.get(annotation["category_id"], "?") for annotation in annotations)
        for annotation in single:
            without_mask += not annotation.get("segmentation")
            area, w, h = _shape(annotation, size)
            areas.append(area)
            if area > 0:
                shares.append(math.sqrt(area) / max(size))
            if w > 0 and h > 0:
                aspects.append(w / h)
    sizes = np.array(areas)
    return {
        "images": len(widths),
        "objects": len(areas) + crowd,
        "crowd": crowd,
        "without_objects": bare,
        "without_mask": without_mask,
        "per_class": {name: classes[name] for name in info.names if classes[name]},
        "objects_per_image": {
            "mean": round(float(np.mean(per_image)), 2) if per_image else 0.0,
            "min": min(per_image, default=0),
            "max": max(per_image, default=0),
            "percentiles": _percentiles(per_image),
        },
        "sizes": {
            "small": int((sizes < SMALL).sum()),
            "medium": int(((sizes >= SMALL) & (sizes < MEDIUM)).sum()),
            "large": int((sizes >= MEDIUM).sum()),
        },
        "extent": _percentiles(np.sqrt(sizes)),
        "share": _percentiles(shares, 5),
        "aspect": _percentiles(aspects, 2),
        "image_width": _percentiles(widths),
        "image_height": _percentiles(heights),
    }


def _shape(annotation: Annotation, size: tuple[int, int]) -> tuple[float, float, float]:
    """(area, width, height) as the file has them, else of the mask, else of the box."""
    box, mask, rle = annotation.get("bbox"), annotation.get("segmentation"), None
    if mask and (annotation.get("area") is None or box is None):
        rle = encode(mask, size)
        box = box or coco_mask.toBbox(rle).tolist()
    _, _, w, h = box or (0, 0, 0, 0)
    return area_of({**annotation, "bbox": box or (0, 0, 0, 0)}, size, rle), w, h


def recipe_for(splits: Mapping[str, Mapping[str, Any]], info: DatasetInfo) -> str:
    """The recipe of recipes/custom that such data is trained with."""
    if not any(split["extent"] for split in splits.values()):
        return "custom/fcn" if info.semantic or info.panoptic else "custom/mask_rcnn"
    if not info.panoptic and all(category.keypoints for category in info.categories if category.thing):
        return "custom/keypoint_rcnn"
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


def families(splits: Mapping[str, Mapping[str, Any]], info: DatasetInfo) -> list[str]:
    """The recipes of recipes/custom, one a family, that such data can be compared with; `recipe_for` first."""
    first = recipe_for(splits, info)
    panoptic = ["custom/maskformer_panoptic"] if info.panoptic else []
    return [first, *SIBLINGS.get(first, []), *panoptic]


def advise(splits: Mapping[str, Mapping[str, Any]], info: DatasetInfo) -> list[dict[str, str]]:
    """[{"topic", "advice", "why"}]: input size, detections and queries, anchors, family; of the train split (the first
    one where none is called so). Label maps without objects get the family alone."""
    facts = splits.get("train") or next(iter(splits.values()), None)
    if facts is None:
        return []
    if not info.num_things or not facts["extent"]:
        why = "there are label maps and no objects: each pixel gets a class"
        advice = "per_pixel, recipe custom/fcn; or maskformer with task: semantic"
        return [_say("family", advice, why)] if info.semantic else []
    longest = max(facts["image_width"][2], facts["image_height"][2])
    size, why = _input_size(facts, longest)
    most = max(split["objects_per_image"]["max"] for split in splits.values())
    usual = facts["objects_per_image"]["percentiles"][4]
    limit = LIMIT if most <= LIMIT else math.ceil(1.2 * most / 50) * 50
    out = [
        _say("input size", f"data.size: {size}", why),
        _say("detections", f"eval.max_detections: {limit}", f"an image has up to {most} objects (crowds aside)"),
        _say(
            "queries",
            f"model.queries: {limit}",
            f"DETR and MaskFormer find no more objects than they have queries: {most} at most, {usual:g} in 95 % of "
            "images",
        ),
    ]
    scale = size / longest
    low, high = (round(facts["extent"][i] * scale) for i in (0, 4))
    tall = max(facts["aspect"][4], 1 / facts["aspect"][0]) if facts["aspect"] else 1.0
    fits = low >= ANCHORS[0] / 2 and high <= 2 * ANCHORS[1] and tall <= LONG
    out.append(
        _say(
            "anchors",
            "those of the standard R-CNN fit" if fits else "model.name: rcnn_lite, which has none",
            f"at that size 90 % of objects are {low} to {high} pixels long and up to {tall:.1f} : 1; the standard "
            f"anchors are {ANCHORS[0]} to {ANCHORS[1]} and 1 : 2 to 2 : 1",
        )
    )
    recipe = recipe_for(splits, info)
    if recipe == "custom/keypoint_rcnn":
        family = f"rcnn, recipe {recipe}", "there are keypoints, and R-CNN alone has a head for them"
    elif recipe == "custom/faster_rcnn":
        bare = sum(split["without_mask"] for split in splits.values())
        family = f"rcnn or detr with task: detection, recipe {recipe}", f"{bare:,} objects have a box and no mask"
    elif info.panoptic:
        family = "maskformer with task: panoptic", "there are panoptic maps: things and stuff in one answer"
    elif most > LIMIT:
        family = f"rcnn, recipe {recipe}", f"{most} objects an image are beyond {LIMIT} queries"
    elif facts["images"] < FEW:
        few = f"{facts['images']} training images are few: of the set-prediction models only those "
        family = (
            f"rcnn, recipe {recipe}",
            few + "on box queries or COCO weights learn from them (recipes …_lite, …_coco)",
        )
    else:
        family = "rcnn, detr or maskformer", f"{facts['images']:,} training images are enough for each"
    return [*out, _say("family", *family)]


def _input_size(facts: Mapping[str, Any], longest: float) -> tuple[int, str]:
    """The longest side in pixels at which nineteen of twenty objects are CELLS long, within SIDES."""
    smallest = facts["share"][0]
    wanted = CELLS / smallest if smallest else SIDES[1]
    bounded = min(max(wanted, SIDES[0]), SIDES[1])
    size = min(math.ceil(bounded / 32 - 0.05) * 32, SIDES[1])
    why = f"95 % of objects are longer than {100 * smallest:.1f} % of their image; at {size} that is "
    why += f"{smallest * size:.0f} pixels, and {CELLS} (four cells of stride 4) are needed"
    if wanted > SIDES[1]:
        why += f"; {wanted:.0f} would give them: cut the images into tiles (median side {longest:.0f})"
    return size, why


def _say(topic: str, advice: str, why: str) -> dict[str, str]:
    return {"topic": topic, "advice": advice, "why": why}


def _percentiles(values: Any, digits: int = 1) -> list[float]:
    return [round(float(v), digits) for v in np.percentile(values, SHARES)] if len(values) else []
