"""Predictions as labels to correct, in the formats that `prepare` writes and reads; as GeoJSON, cut-outs and tables.

Masks become polygons of few points (`sources.shapes.simplified`: at most a pixel off, IoU with the mask at least
0.99), holes joined to their outline by bridges. The score goes along where a format has a place for it. Everything is
one split, train: who prepares it again divides it anew.
"""

import json
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
from pycocotools import mask as coco_mask

from segcli.commands.predict import crops, geojson
from segcli.commands.predict.journal import Entry
from segcli.commands.predict.tables import PixelSize, write_tables
from segcli.core import plugins
from segcli.core.coco_json import Annotation, ImageEntry, Result
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError
from segcli.core.files import inside
from segcli.data.annotations import crop_rle, encode
from segcli.data.canonical import coco_categories
from segcli.data.image import SUFFIXES
from segcli.predictions.coco_results import JsonStream
from segcli.sources import export_files
from segcli.sources.export_files import Exported
from segcli.sources.shapes import joined, simplified

FORMATS = {"labelme": "labelme", "yolo": "yolo", "coco_annotations": "coco", "cvat": "cvat"}  # --save -> plugin
FOLDERS = (*FORMATS, "geojson", "crops")
CHOICES = frozenset({*FOLDERS, "csv"})
SPLIT = "train"


def refuse(out: Path, save: Collection[str], files: Iterable[Path]) -> None:
    """Raise DataError for a folder that holds somebody's work, and for an image that would not be found again beside
    its labels."""
    wanted = [kind for kind in FOLDERS if kind in save]
    for kind in wanted:
        if not inside(out / kind, out):
            raise DataError(f"{out / kind}: is a link that leads out", hint="choose another --out, or remove the link")
        export_files.refuse(out / kind, force=True)
    for file in files if wanted else ():
        if file.suffix.lower() not in SUFFIXES or file.name.startswith("."):
            raise DataError(f"{file}: is no name of an image, and --save {wanted[0]} keeps it", hint="rename it")


def write(
    entries: Callable[[], Iterator[Entry]],
    info: DatasetInfo,
    out: Path,
    save: Collection[str],
    pixel_size: PixelSize | None = None,
) -> list[str]:
    """Write what `save` has of CHOICES, from the journal's entries. -> sentences on what has no place in a format.

    pixel_size: for areas in the tables. Raises DataError and SegcliError.
    """
    notes: list[str] = []
    if "csv" in save:
        write_tables(entries, info, out, pixel_size)
    own = {"geojson": geojson, "crops": crops}
    for kind in FOLDERS:
        if kind in save:
            module = plugins.find("format", FORMATS[kind], "--save") if kind in FORMATS else own[kind]
            notes += [f"--save {kind}: {note}" for note in _write_folder(out / kind, entries, info, module)]
    return notes


def _write_folder(
    out: Path, entries: Callable[[], Iterator[Entry]], info: DatasetInfo, module: ModuleType
) -> list[str]:
    names = dict(zip(info.source_ids, info.names, strict=True))
    described = replace(info, splits={SPLIT: 0}, semantic=False, panoptic=False)

    def build(folder: Path, notes: list[str]) -> None:
        used: dict[Path, str] = {}
        with tempfile.TemporaryDirectory(prefix="segcli-labels-") as place:
            file = Path(place) / "annotations" / f"{SPLIT}.json"
            with JsonStream(file, '{"annotations": [') as stream:
                images: list[ImageEntry] = []
                left: dict[str, list[int | None]] = {}
                export_files.write_images(_labelled(entries, used, stream, images), names, folder, module, left, file)
                notes += export_files.said(left)
                stream.tail = '],\n"images": ' + json.dumps(images, ensure_ascii=False)
                stream.tail += ',\n"categories": ' + json.dumps(coco_categories(info), ensure_ascii=False) + "}"
            module.finish(Path(place), folder, described, notes)

    return export_files.publish(out, build)


def _labelled(
    entries: Callable[[], Iterator[Entry]], used: dict[Path, str], stream: JsonStream, images: list[ImageEntry]
) -> Iterator[Exported]:
    """Every image with its labels, which also go into `stream` and `images`, COCO's file of all."""
    number = 0
    for entry in entries():
        path = Path(entry["file"])
        height, width = entry["size"]
        file_name = entry["name"] + path.suffix
        record: ImageEntry = {"id": entry["position"] + 1, "file_name": file_name, "width": width, "height": height}
        listed: list[Annotation] = []
        for result in cast(list[Result], entry["results"]):
            label = annotation(result, entry["size"])
            if label is not None:
                number += 1
                listed.append({"id": number, "image_id": record["id"], **label})
                stream.add(listed[-1])
        images.append(record)
        yield Exported(SPLIT, record, path, listed, used)


def annotation(result: Result, size: tuple[int, int]) -> Annotation | None:
    """A detection as a label on an image of `size` (H, W); None for a mask without a pixel."""
    out: Annotation = {"category_id": result["category_id"], "bbox": result["bbox"], "iscrowd": 0}
    out["area"] = result["bbox"][2] * result["bbox"][3]
    if "score" in result:
        out["score"] = round(result["score"], 4)
    if "keypoints" in result:  # whose third number is a confidence there, and whether it is seen here
        seen = [2 if i % 3 == 2 else round(value, 2) for i, value in enumerate(result["keypoints"])]
        out |= {"keypoints": seen, "num_keypoints": len(seen) // 3}
    if "segmentation" in result:
        rle = encode(result["segmentation"], size)
        x, y, w, h = (int(v) for v in coco_mask.toBbox(rle))
        if not w or not h:
            return None
        parts = [joined(part) + np.array([x, y]) for part in simplified(crop_rle(rle, x, y, x + w, y + h))]
        polygons = [[float(v) for v in part.ravel()] for part in parts]
        out |= {"bbox": [x, y, w, h], "area": int(coco_mask.area(rle)), "segmentation": polygons}
    return out
