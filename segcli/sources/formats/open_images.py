"""Open Images and exports in its form (CVAT, FiftyOne): tables of boxes and of masks, with the masks as PNGs.

SOURCE is a folder with the tables (`…-annotations-bbox.csv`, `…-annotations-object-segmentation.csv`, or called
otherwise: the headings tell), images and masks anywhere below. What is on the disk is read: rows of other images are
counted and left aside, as are images that no row names. A mask and a box of one class with the same corners are one
object; coordinates are fractions of the image, and masks, often smaller than it, are enlarged to its size. A group is a
crowd region; occluded and truncated stay. Names of classes are those of `class-descriptions….csv`. Splits are in the
names of the tables or their folders. Layout: https://storage.googleapis.com/openimages/web/download_v7.html (data
formats); corners of masks have six digits (src/datumaro/plugins/data_formats/open_images.py in
https://github.com/open-edge-platform/datumaro)
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import Category
from segcli.core.errors import DataError
from segcli.data.canonical import Draft, Record
from segcli.data.image import SUFFIXES, image_size
from segcli.sources import shapes
from segcli.sources.draft import Entry, draft, each
from segcli.sources.files import find_files, heading, note_names, some, split_of, table
from segcli.sources.folders import SPLITS
from segcli.sources.images import by_name, is_there
from segcli.sources.label_pictures import holds_labels
from segcli.sources.mask_meaning.mask_files import read_ids

Table = Literal["boxes", "masks", "classes"]
CORNERS = ("XMin", "XMax", "YMin", "YMax")
FLAGS = {"IsOccluded": "occluded", "IsTruncated": "truncated", "IsGroupOf": "iscrowd"}
MID = re.compile(r"/[a-z]/[0-9a-z_]+")  # first in a line of classes without a heading: /m/0cmf2,Airplane
CLOSE = 2e-6  # of an image's side: corners of a mask's box have six digits
SHAPE = 0.02  # by which share a mask's sides may have another proportion than the image's
Row = dict[str, str]
Label = tuple[list[tuple[str, Row]], list[tuple[str, Row]], dict[str, Path]]
"""Boxes and masks, each with its place for messages; name -> mask file."""


def detect(path: Path) -> bool:
    """Whether `path` is a folder with a table of boxes or of masks as Open Images has them."""
    return path.is_dir() and any(_kind(file) in ("boxes", "masks") for file in find_files(path, ".csv"))


def build(*, path: Path) -> Draft:
    """Read the tables below `path`. Images and masks are found by their names.

    Raises DataError for what is no such folder, broken rows, masks that are nowhere, and where no image is there.
    """
    tables = {file: _kind(file) for file in find_files(path, ".csv")}
    labels = [file for file, kind in tables.items() if kind in ("boxes", "masks")]
    if not labels:
        raise DataError(f"{path}: no table of boxes or masks of Open Images is there")
    notes: list[str] = []
    aside = [file.name for file, kind in tables.items() if kind is None]
    note_names(notes, aside, "tables are of another kind and are left aside")
    names: dict[str, str] = {}
    for file in (file for file, kind in tables.items() if kind == "classes"):
        names |= _classes(file)
    boxes: dict[str, list[tuple[str, Row]]] = {}
    masks: dict[str, list[tuple[str, Row]]] = {}
    splits: dict[str, str] = {}
    pictures = {file.name: file for file in find_files(path, *SUFFIXES)}
    there = pictures.keys() | {Path(name).stem for name in pictures}
    files: dict[str, Path] = {}
    away = Counter[str]()  # the tables have millions of rows, and of the images few may be here
    for file in labels:
        split = _split(file, path)
        for where, row in _rows(file):
            name, drawn = row["ImageID"], _last(row.get("MaskPath", ""))
            if drawn in pictures:
                files[drawn] = pictures[drawn]
            if _last(name) not in there:
                away[name] += 1
                continue
            (boxes if tables[file] == "boxes" else masks).setdefault(name, []).append((where, row))
            splits.setdefault(name, split)
    if not splits and not away:
        raise DataError(f"{labels[0]}: lists no image")
    images = by_name([*splits] or [*away], path, labels[0])
    here = {name: place for name, place in images.items() if is_there(place)}
    for name in splits.keys() - here.keys():  # a label picture is called so
        away[name] += len(boxes.get(name, [])) + len(masks.get(name, []))
    note_names(notes, [*away], f"images with {away.total()} rows are not in the folder")
    taken = {*here.values()}
    rest = (file for file in find_files(path, *SUFFIXES) if file not in taken and file.name not in files)
    bare = [file.name for file in rest if not holds_labels(file.parent, path)]
    note_names(notes, bare, "images that no row names are left out")
    used = {row["LabelName"] for name in here for _, row in [*boxes.get(name, []), *masks.get(name, [])]}
    note_names(notes, sorted(used - names.keys()) if names else [], "classes have no name in the table of classes")
    called = {label: names.get(label, label) for label in used}
    ids = {name: key for key, name in enumerate(sorted({*called.values()}), 1)}
    numbers = {label: ids[name] for label, name in called.items()}
    found: list[tuple[str, Path, Label]] = []
    for name, place in here.items():
        own = {_last(row["MaskPath"]) for _, row in masks.get(name, [])}
        label = boxes.get(name, []), masks.get(name, []), {mask: files[mask] for mask in own & files.keys()}
        found.append((splits[name], place, label))
    categories = [Category(name, key) for name, key in ids.items()]
    return draft(path, found, categories, lambda entries: _records(entries, numbers), notes)


def _last(name: str) -> str:
    """The last part of a name, by which its file is found."""
    return name.replace("\\", "/").rpartition("/")[2]


def _kind(file: Path) -> Table | None:
    cells = heading(file)
    if {"ImageID", "LabelName", *CORNERS} <= {*cells}:
        return "boxes"
    if {"ImageID", "LabelName", "MaskPath"} <= {*cells}:
        return "masks"
    described = {*cells} == {"LabelName", "DisplayName"} or (cells and MID.fullmatch(cells[0]))
    return "classes" if described else None


def _rows(file: Path) -> Iterator[tuple[str, Row]]:
    lines = table(file)
    _, names = next(lines)
    for where, cells in lines:
        if len(cells) < len(names):
            raise DataError(f"{where}: has {len(cells)} cells, and the heading {len(names)}")
        row = dict(zip(names, cells, strict=False))
        if not row["ImageID"] or not row["LabelName"]:
            raise DataError(f"{where}: names no image or no class")
        yield where, row


def _classes(file: Path) -> dict[str, str]:
    out = {}
    for where, cells in table(file):
        if len(cells) != 2:
            raise DataError(f"{where}: has {len(cells)} cells, and a class has two: its number and its name")
        out[cells[0]] = cells[1]
    out.pop("LabelName", None)
    return out


def _split(file: Path, root: Path) -> str:
    """The split in the name of a table (`oidv6-train-annotations-bbox.csv`), else of its folders."""
    parts = re.split(r"[-_.]", file.name.lower())
    return next((SPLITS[part] for part in parts if part in SPLITS), split_of(file, root))


def _records(entries: Sequence[Entry[Label]], numbers: Mapping[str, int]) -> Iterator[Record]:
    def read(entry: Entry[Label]) -> Record:
        boxes, masks, files = entry.label
        h, w = image_size(entry.path)
        made: list[Annotation] = []
        free = [(where, row, _corners(row, "", where)) for where, row in boxes]
        for where, row in masks:
            one = shapes.of_pixels(_mask(row["MaskPath"], files, (h, w), entry.path, where), numbers[row["LabelName"]])
            if one is None:
                raise DataError(f"{where}: the mask {row['MaskPath']} has no pixel")
            if all(row.get(f"Box{key}") for key in CORNERS):
                own = _corners(row, "Box", where)
                same = [k for k, (_, box, _) in enumerate(free) if box["LabelName"] == row["LabelName"]]
                fits = [k for k in same if np.allclose(own, free[k][2], rtol=0, atol=CLOSE)]
                if fits:
                    _flag(one, free.pop(fits[0])[1])
            made.append(one)
        for _, row, (x1, x2, y1, y2) in free:
            box = shapes.of_box(x1 * w, y1 * h, (x2 - x1) * w, (y2 - y1) * h, numbers[row["LabelName"]])
            made.append(_flag(box, row))
        return Record(entry.file_name, (h, w), entry.path, made)

    yield from each(entries, read)


def _corners(row: Row, prefix: str, where: str) -> list[float]:
    """XMin, XMax, YMin, YMax, as fractions. Raises DataError."""
    texts = [row[prefix + key] for key in CORNERS]
    try:
        values = [float(text) for text in texts]
    except ValueError:
        values = [math.nan]
    if not all(-0.01 <= value <= 1.01 for value in values) or values[0] > values[1] or values[2] > values[3]:
        raise DataError(f"{where}: its corners {some(texts)} are no fractions of the image in order")
    return values


def _flag(annotation: Annotation, row: Row) -> Annotation:
    """Add the flags of a box that are set."""
    for key, name in FLAGS.items():
        if row.get(key) == "1":
            annotation[name] = 1  # type: ignore[literal-required]
    return annotation


def _mask(name: str, files: Mapping[str, Path], size: tuple[int, int], image: Path, where: str) -> np.ndarray:
    """A mask picture as bool [H,W] of its image's size. Raises DataError."""
    file = files.get(_last(name))
    if file is None:
        raise DataError(f"{where}: the mask {name!r:.100} is nowhere below the folder")
    pixels = (read_ids(file) != 0).astype(np.uint8)
    (h, w), (height, width) = pixels.shape, size
    if abs(h * width / (w * height) - 1) > SHAPE + 2 / min(h, w):
        raise DataError(f"{where}: the mask {name} has {w} x {h} pixels, and {image.name} {width} x {height}")
    if (h, w) != size:
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return pixels.astype(bool)
