"""Counts and areas as CSV: one table of objects, one of images and classes."""

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO, cast

import numpy as np
from pycocotools import mask as coco_mask

from segcli.commands.predict.journal import Entry
from segcli.core.coco_json import Result
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import UsageError
from segcli.core.files import write_atomic
from segcli.data.annotations import encode

OBJECTS, COUNTS = TABLES = ("objects.csv", "counts.csv")
BOX = ("x", "y", "width", "height")
UNITS = {"um": "um", "µm": "um", "μm": "um", "mm": "mm", "": "mm", "cm": "cm", "m": "m"}  # two letters look like µ


class PixelSize(NamedTuple):
    """The side of a pixel, and in which unit."""

    side: float
    unit: str


def read_pixel_size(text: str) -> PixelSize:
    """Of "0.25um", say; a number alone is in millimetres. Raises UsageError."""
    number = text.strip().rstrip("".join(UNITS))
    unit = text.strip().removeprefix(number)
    try:
        side = float(number)
    except ValueError:
        side = math.nan
    if unit not in UNITS or not 0 < side < math.inf:
        hint = "a number above 0, in millimetres, or with its unit: um, mm, cm or m, such as 0.25um"
        raise UsageError(f"--pixel-size {text}: is no length", hint=hint)
    return PixelSize(side, UNITS[unit])


def write_tables(
    entries: Callable[[], Iterator[Entry]], info: DatasetInfo, out: Path, pixel_size: PixelSize | None
) -> None:
    """objects.csv: a row an object (of maps a segment, or a class); counts.csv: a row an image and a class, also where
    there are none. Areas in pixels, of the mask or else the box, and in the unit of `pixel_size` squared; the share of
    the image is that of the pixels in any of the objects. Raises SegcliError."""
    names = dict(zip(info.source_ids, info.names, strict=True))
    physical = [f"area_{pixel_size.unit}2"] if pixel_size else []
    squared = lambda area: [f"{area * pixel_size.side**2:.6g}"] if pixel_size else []

    def write_objects(file: TextIO) -> None:
        table = csv.writer(file)
        table.writerow(["image", "object", "class", "score", *BOX, "area_pixels", *physical])
        for entry in entries():
            for number, result in enumerate(cast(list[Result], entry["results"]), 1):
                area = _area(result, entry["size"])
                box = [f"{v:g}" for v in result["bbox"]]
                score = f"{result['score']:.4f}" if "score" in result else ""
                name = names[result["category_id"]]
                table.writerow([entry["given"], number, name, score, *box, f"{area:g}", *squared(area)])

    def write_counts(file: TextIO) -> None:
        table = csv.writer(file)
        table.writerow(["image", "class", "objects", "area_pixels", "share_of_image", *physical])
        for entry in entries():
            found: dict[int, list[Result]] = {key: [] for key in names}
            for result in cast(list[Result], entry["results"]):
                found[result["category_id"]].append(result)
            for key, of in found.items():
                area = sum(_area(result, entry["size"]) for result in of)
                share = _share(of, entry["size"])
                table.writerow([entry["given"], names[key], len(of), f"{area:g}", f"{share:.4f}", *squared(area)])

    write_csv(out / OBJECTS, write_objects)
    write_csv(out / COUNTS, write_counts)


def write_csv(path: Path, fill: Callable[[TextIO], None]) -> None:
    """A table that `fill` writes, whole or not at all. Raises SegcliError."""

    def write(part: Path) -> None:
        with open(part, "w", encoding="utf-8-sig", newline="") as file:  # the mark tells spreadsheets that it is UTF-8
            fill(file)

    write_atomic(path, write, flush=False)


def _share(results: Sequence[Result], size: tuple[int, int]) -> float:
    """Of the image's pixels those in any of the objects: overlapping ones count once."""
    masks = [encode(one["segmentation"], size) for one in results if "segmentation" in one]
    boxes = [one["bbox"] for one in results if "segmentation" not in one]
    masks += coco_mask.frPyObjects(np.asarray(boxes, np.float64), *size) if boxes else []
    return float(coco_mask.area(coco_mask.merge(masks))) / (size[0] * size[1]) if masks else 0.0


def _area(result: Result, size: tuple[int, int]) -> float:
    if "segmentation" in result:
        return float(coco_mask.area(encode(result["segmentation"], size)))
    return float(result["bbox"][2] * result["bbox"][3])
