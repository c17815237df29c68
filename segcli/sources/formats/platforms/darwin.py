"""Darwin JSON 2.0 of V7: a json an image, with its name and folder in `item`.

SOURCE is a json or a folder of them (an export, or what V7's command line pulls), with the images in `images/` or
beside. Polygons (of several paths: what an odd number of them covers), ellipses, masks (pixels of a raster layer, row
by row) and bounding boxes without a polygon are objects. Tags, key points, lines, skeletons and all else without an
area are left out and counted, by kind, and so are images without a json and other json. Classes are the names in use.
Videos and items of several slots are refused. Layout: https://docs.v7labs.com/reference/darwin-json; masks:
darwin/exporter/formats/{mask,nifti}.py in https://github.com/v7labs/darwin-py
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
import pydantic

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import Category
from segcli.core.errors import DataError
from segcli.core.files import parsed, read_json
from segcli.data.canonical import UNDECIDED, Draft, Record
from segcli.sources import shapes
from segcli.sources.draft import Entry, draft, each
from segcli.sources.files import LOOK, find_files, has_keys, note_bare, note_names, sort_out
from segcli.sources.images import locate, refuse_outside, size_of

AREA = ("polygon", "ellipse", "bounding_box", "mask")
ABOUT = {  # fields of an annotation that say nothing of its shape
    *("id", "name", "slot_names", "annotators", "reviewers", "attributes", "instance_id", "properties", "inference"),
    *("text", "directional_vector", "measures", "auto_annotate", "updated_at", "ranges"),
}
VIDEO = ("frames", "only_keyframes")
Number = pydantic.FiniteFloat
Whole = Annotated[int, pydantic.Field(ge=0, le=2**31)]


class Point(pydantic.BaseModel):
    x: Number
    y: Number


class Polygon(pydantic.BaseModel):
    paths: list[list[Point]] | None = None
    path: list[Point] | None = None


class Ellipse(pydantic.BaseModel):
    center: Point
    radius: Point
    angle: Number = 0.0


class Box(pydantic.BaseModel):
    x: Number
    y: Number
    w: Number
    h: Number


class Layer(pydantic.BaseModel):
    """Runs of a value and its length, row by row, and the value of each mask."""

    dense_rle: list[Whole]
    mask_annotation_ids_mapping: dict[str, int]


class Shape(pydantic.BaseModel):
    """One annotation; which of its fields stands there tells its kind."""

    model_config = pydantic.ConfigDict(extra="allow")

    name: str
    id: str | None = None
    polygon: Polygon | None = None
    ellipse: Ellipse | None = None
    bounding_box: Box | None = None
    mask: dict[str, object] | None = None
    raster_layer: Layer | None = None

    def kind(self) -> str:
        """The kind of shape: the field that says where it is."""
        return next((key for key in AREA if getattr(self, key) is not None), "") or next(
            (key for key in self.model_extra or {} if key not in ABOUT), "without a place"
        )


class Source(pydantic.BaseModel):
    file_name: str = ""


class Slot(pydantic.BaseModel):
    type: str = "image"
    width: int | None = None
    height: int | None = None
    source_files: list[Source] = []


class Item(pydantic.BaseModel):
    name: str
    path: str = "/"
    slots: list[Slot] = []


class Export(pydantic.BaseModel):
    item: Item
    annotations: list[Shape]


def detect(path: Path) -> bool:
    """Whether `path` is a Darwin JSON, or a folder with one."""
    if path.is_file():
        return _is_darwin(path)
    return path.is_dir() and any(map(_is_darwin, itertools.islice(find_files(path, ".json"), LOOK)))


def build(*, path: Path, trusted: bool = False) -> Draft:
    """Read the Darwin JSON of `path`. trusted: names of images may lead anywhere.

    Raises DataError for videos, items of several slots, broken shapes, and images that are nowhere.
    """
    root = path if path.is_dir() else path.parent
    notes: list[str] = []
    files = sort_out(find_files(path, ".json"), _is_darwin, notes, "json files are no Darwin JSON and are left aside")
    if not files:
        raise DataError(f"{path}: no Darwin JSON 2.0 (with item and annotations) is there")
    names: list[str] = []
    used: set[str] = set()
    for file in files:
        export = _read(file)
        item = export.item
        original = item.slots[0].source_files[0].file_name if item.slots and item.slots[0].source_files else ""
        last = PurePosixPath(item.name).stem + (PurePosixPath(original).suffix or PurePosixPath(item.name).suffix)
        names.append(f"{item.path.strip('/')}/{last}".lstrip("/"))
        used |= {shape.name for shape in export.annotations if shape.kind() in AREA}
    ids = {name: key for key, name in enumerate(sorted(used) or ["object"], 1)}
    paths = locate(names, [root / "images", root], root, files[0], trusted)
    note_bare(notes, path, paths)
    found = [(UNDECIDED, place, (file, name)) for place, file, name in zip(paths, files, names, strict=True)]
    categories = [Category(name, key) for name, key in ids.items()]
    return draft(path, found, categories, lambda entries: _records(entries, ids, notes, trusted), notes)


def _is_darwin(file: Path) -> bool:
    return file.suffix.lower() == ".json" and has_keys(file, "item", "annotations", "slots", "slot_name")


def _read(file: Path) -> Export:
    """Raises DataError, for a video and an item of several slots, too."""
    export = parsed(Export, read_json(file), file)
    slots = export.item.slots
    if len(slots) > 1:
        raise DataError(f"{file}: its item has {len(slots)} slots, and an image is one")
    video = any(key in (shape.model_extra or {}) for shape in export.annotations for key in VIDEO)
    if video or (slots and slots[0].type != "image"):
        raise DataError(f"{file}: its item is a {slots[0].type if slots else 'video'}, and images are read")
    return export


def _records(
    entries: Sequence[Entry[tuple[Path, str]]], ids: Mapping[str, int], notes: list[str], trusted: bool
) -> Iterator[Record]:
    left: dict[str, list[str]] = {}

    def read(entry: Entry[tuple[Path, str]]) -> Record:
        file, name = entry.label
        refuse_outside(name, entry.path, file, trusted)
        export = _read(file)
        slot = export.item.slots[0] if export.item.slots else Slot()
        sides = slot.height or 0, slot.width or 0
        size = size_of(entry.path, sides if min(sides) > 0 else None, file)
        masks: dict[str, np.ndarray] = {}
        for number, shape in enumerate(export.annotations):
            if shape.raster_layer is not None:
                masks |= _masks(shape.raster_layer, size, f"{file}: annotation {number}")
        made = []
        for number, shape in enumerate(export.annotations):
            kind = shape.kind()
            if kind in AREA:
                where = f"{file}: annotation {number} ({shape.name}, {kind})"
                one = _object(shape, size, ids[shape.name], masks, where)
                if one is None:
                    left.setdefault("masks have no pixel and are left out", []).append(entry.file_name)
                else:
                    made.append(one)
            elif shape.raster_layer is None:
                left.setdefault(f"annotations of the kind {kind} are left out", []).append(entry.file_name)
        return Record(entry.file_name, size, entry.path, made)

    yield from each(entries, read)
    for what, names in left.items():
        note_names(notes, names, what)


def _object(
    shape: Shape, size: tuple[int, int], category: int, masks: Mapping[str, np.ndarray], where: str
) -> Annotation | None:
    """The annotation of one shape; None for a mask without a pixel."""
    if shape.polygon is not None:
        paths = shape.polygon.paths or ([shape.polygon.path] if shape.polygon.path else [])
        if not paths or any(len(path) < 3 for path in paths):
            raise DataError(f"{where}: has no path, or one of fewer than three points")
        return shapes.of_rings([[np.array([(p.x, p.y) for p in path]) for path in paths]], size, category)
    if shape.ellipse is not None:
        one = shape.ellipse
        if one.angle and one.radius.x != one.radius.y:
            raise DataError(
                f"{where}: is turned, and whether its angle is in degrees or radians is not documented",
                hint="export it as a polygon",
            )
        outline = shapes.ellipse(one.center.x, one.center.y, one.radius.x, one.radius.y)
        return shapes.of_polygons([outline], size, category)
    if shape.bounding_box is not None:
        box = shape.bounding_box
        return shapes.of_box(box.x, box.y, box.w, box.h, category)
    mask = masks.get(shape.id or "")
    return None if mask is None else shapes.of_pixels(mask, category)


def _masks(layer: Layer, size: tuple[int, int], where: str) -> dict[str, np.ndarray]:
    """id of a mask -> its pixels, bool [H,W]."""
    runs = np.array(layer.dense_rle, np.int64)
    if len(runs) % 2 or runs[1::2].sum() != size[0] * size[1]:
        raise DataError(f"{where}: its runs have {runs[1::2].sum()} pixels, and the image {size[1]} x {size[0]}")
    values = np.repeat(runs[::2], runs[1::2]).reshape(size)
    return {key: values == value for key, value in layer.mask_annotation_ids_mapping.items()}
