"""Counts and areas as CSV: one table of objects, one of images and classes."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO, cast

from pycocotools import mask as coco_mask

from segcli.commands.predict.journal import Entry
from segcli.core.coco_json import Result
from segcli.core.dataset_info import DatasetInfo
from segcli.core.files import write_atomic
from segcli.data.annotations import encode

OBJECTS, COUNTS = TABLES = ("objects.csv", "counts.csv")
BOX = ("x", "y", "width", "height")


def write_tables(
    entries: Callable[[], Iterator[Entry]], info: DatasetInfo, out: Path, pixel_size: float | None
) -> None:
    """objects.csv: a row an object (of maps a segment, or a class); counts.csv: a row an image and a class, also where
    there are none. Areas in pixels, of the mask or else the box; with `pixel_size` (the side of a pixel in millimetres)
    also in mm². Raises SegcliError."""
    names = dict(zip(info.source_ids, info.names, strict=True))
    physical = ["area_mm2"] if pixel_size else []
    in_mm2 = lambda area: [f"{area * pixel_size**2:.6g}"] if pixel_size else []

    def write_objects(file: TextIO) -> None:
        table = csv.writer(file)
        table.writerow(["image", "object", "class", "score", *BOX, "area_pixels", *physical])
        for entry in entries():
            for number, result in enumerate(cast(list[Result], entry["results"]), 1):
                area = _area(result, entry["size"])
                box = [f"{v:g}" for v in result["bbox"]]
                score = f"{result['score']:.4f}" if "score" in result else ""
                name = names[result["category_id"]]
                table.writerow([entry["given"], number, name, score, *box, f"{area:g}", *in_mm2(area)])

    def write_counts(file: TextIO) -> None:
        table = csv.writer(file)
        table.writerow(["image", "class", "objects", "area_pixels", "share_of_image", *physical])
        for entry in entries():
            areas: dict[int, list[float]] = {key: [] for key in names}
            for result in cast(list[Result], entry["results"]):
                areas[result["category_id"]].append(_area(result, entry["size"]))
            for key, of in areas.items():
                share = sum(of) / (entry["size"][0] * entry["size"][1])
                row = [entry["given"], names[key], len(of), f"{sum(of):g}", f"{share:.4f}"]
                table.writerow([*row, *in_mm2(sum(of))])

    write_csv(out / OBJECTS, write_objects)
    write_csv(out / COUNTS, write_counts)


def write_csv(path: Path, fill: Callable[[TextIO], None]) -> None:
    """A table that `fill` writes, whole or not at all. Raises SegcliError."""

    def write(part: Path) -> None:
        with open(part, "w", encoding="utf-8-sig", newline="") as file:  # the mark tells spreadsheets that it is UTF-8
            fill(file)

    write_atomic(path, write, flush=False)


def _area(result: Result, size: tuple[int, int]) -> float:
    if "segmentation" in result:
        return float(coco_mask.area(encode(result["segmentation"], size)))
    return float(result["bbox"][2] * result["bbox"][3])
