"""What a split looks like in numbers, from its annotation file alone."""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypedDict

import numpy as np
from pycocotools import mask as coco_mask

from segcli.core.coco_json import Annotation, ImageEntry
from segcli.core.dataset_info import DatasetInfo
from segcli.data.annotations import area_of, encode

SMALL, MEDIUM = 32**2, 96**2  # COCO's limits of small and medium objects, in square pixels
SHARES = (5, 25, 50, 75, 95)  # percentiles


class ObjectsPerImage(TypedDict):
    """Crowd regions aside."""

    mean: float
    min: int
    max: int
    percentiles: list[float]


class Sizes(TypedDict):
    """Objects by their area, as COCO divides them."""

    small: int
    medium: int
    large: int


class SplitFacts(TypedDict):
    """A split in numbers; crowd regions are counted apart. Lists are percentiles at SHARES, empty without objects.

    without_objects: images without any annotation; without_mask: objects with a box alone; extent: √area in pixels;
    share: √area over the image's longest side; aspect: width over height.
    """

    images: int
    objects: int
    crowd: int
    without_objects: int
    without_mask: int
    per_class: dict[str, int]
    objects_per_image: ObjectsPerImage
    sizes: Sizes
    extent: list[float]
    share: list[float]
    aspect: list[float]
    image_width: list[float]
    image_height: list[float]


def measure(images: Iterable[tuple[ImageEntry, list[Annotation]]], info: DatasetInfo) -> SplitFacts:
    """The facts of one annotation file's images and their annotations. Numbers alone are held in memory. Where the file
    has no area or no box, the mask's is taken."""
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


def _percentiles(values: Sequence[float] | np.ndarray, digits: int = 1) -> list[float]:
    return [round(float(v), digits) for v in np.percentile(values, SHARES)] if len(values) else []
