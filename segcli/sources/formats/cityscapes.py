"""Cityscapes: `leftImg8bit/SPLIT/CITY/` with `gtFine/SPLIT/CITY/`: labelIds, instanceIds, or polygons.

The class of every pixel is that of labelIds.png, else the polygons drawn in their order; objects are those of
instanceIds.png, else the polygons of things, as far as later ones leave them visible. A group (`cargroup`, or an
instance id without a number) is a crowd. The 19 classes of the benchmark are kept; all others are ignored.
"""

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pydantic
from PIL import Image, ImageDraw

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import Category
from segcli.core.errors import DataError
from segcli.core.files import parsed, read_json
from segcli.data.canonical import Draft, Record
from segcli.data.image import SUFFIXES, image_size
from segcli.data.png import encode_map
from segcli.sources.draft import Entry, draft, each
from segcli.sources.files import LOOK, find_files, note_names, some, split_of
from segcli.sources.formats.semantic import translate
from segcli.sources.mask_meaning.mask_files import check_size, objects, read_ids
from segcli.sources.shapes import of_pixels
from segcli.types import IGNORE  # its classes are far fewer than 254

# name: labelId, colour; https://github.com/mcordts/cityscapesScripts, helpers/labels.py
THINGS = {
    **{"person": (24, (220, 20, 60)), "rider": (25, (255, 0, 0)), "car": (26, (0, 0, 142)), "truck": (27, (0, 0, 70))},
    **{"bus": (28, (0, 60, 100)), "train": (31, (0, 80, 100)), "motorcycle": (32, (0, 0, 230))},
    "bicycle": (33, (119, 11, 32)),
}
STUFF = {
    **{"road": (7, (128, 64, 128)), "sidewalk": (8, (244, 35, 232)), "building": (11, (70, 70, 70))},
    **{"wall": (12, (102, 102, 156)), "fence": (13, (190, 153, 153)), "pole": (17, (153, 153, 153))},
    **{"traffic light": (19, (250, 170, 30)), "traffic sign": (20, (220, 220, 0)), "vegetation": (21, (107, 142, 35))},
    **{"terrain": (22, (152, 251, 152)), "sky": (23, (70, 130, 180))},
}
NO_CLASS = (  # labels that the benchmark ignores; any other name is a mistake
    *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "parking"),
    *("rail track", "guard rail", "bridge", "tunnel", "polegroup", "caravan", "trailer", "license plate"),
)
MOST = 33  # the highest labelId
ABOUT = {
    "licence": "Cityscapes terms of use (non-commercial)",
    "citation": "Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016",
    "source": "https://www.cityscapes-dataset.com",
}
KINDS = ("labelIds.png", "instanceIds.png", "polygons.json")
GROUP = "group"
MARK = "_leftImg8bit"
Number = pydantic.FiniteFloat


class Polygon(pydantic.BaseModel):
    label: str
    polygon: list[tuple[Number, Number]] = []
    deleted: int = 0


class Scene(pydantic.BaseModel):
    imgHeight: int = pydantic.Field(gt=0, le=2**16)
    imgWidth: int = pydantic.Field(gt=0, le=2**16)
    objects: list[Polygon]


def detect(path: Path) -> bool:
    """Whether `path` holds pictures or polygons called as in gtFine or gtCoarse."""
    files = find_files(path, ".png", ".json") if path.is_dir() else iter(())
    return any(_kind(file) is not None for file in itertools.islice(files, LOOK * 100))


def build(*, path: Path) -> Draft:
    """Read the folder `path`. Raises DataError for labels without an image, broken files, and unknown names."""
    notes: list[str] = []
    labels: dict[str, dict[str, Path]] = {}
    for file in find_files(path, ".png", ".json"):
        if kind := _kind(file):
            labels.setdefault(_key(file), {})[kind] = file
    found, bare = [], []
    for image in find_files(path, *SUFFIXES):
        if not image.stem.endswith(MARK):
            continue
        own = labels.pop(image.stem.removesuffix(MARK), None)
        if own is None:
            bare.append(image.name)
        else:
            found.append((split_of(image, path), image, own))
    if labels:
        raise DataError(f"{path}: {len(labels)} labelled images are not in leftImg8bit: {some([*labels])}")
    note_names(notes, bare, "images have no labels and are left out")
    instances = all(own.keys() & {"instanceIds.png", "polygons.json"} for _, _, own in found)
    if not instances:
        notes.append("some images have neither instanceIds nor polygons: all classes are stuff, without objects")
    things = [Category(name, key, instances, colour) for name, (key, colour) in THINGS.items()]
    stuff = [Category(name, key, False, colour) for name, (key, colour) in STUFF.items()]
    categories = (*things, *stuff)
    labels_of = {category.source_id: label for label, category in enumerate(categories)}
    records = lambda entries: _records(entries, labels_of, instances, notes)
    return draft(path, found, categories, records, notes, about=ABOUT, semantic=True, measured=True)


def _kind(file: Path) -> str | None:
    return next((k for k in KINDS if file.name.endswith((f"_gtFine_{k}", f"_gtCoarse_{k}"))), None)


def _key(file: Path) -> str:
    return file.name.rsplit("_gt", 1)[0]


def _records(
    entries: list[Entry[dict[str, Path]]], labels: dict[int, int], instances: bool, notes: list[str]
) -> Iterator[Record]:
    hidden: list[str] = []
    yield from each(entries, partial(_record, labels=labels, instances=instances, hidden=hidden))
    note_names(notes, hidden, "objects lie wholly under those drawn after them, and are left out")


def _record(entry: Entry[dict[str, Path]], labels: dict[int, int], instances: bool, hidden: list[str]) -> Record:
    files, size = entry.label, image_size(entry.path)
    drawn = None
    if "polygons.json" in files and (len(files) == 1 or (instances and "instanceIds.png" not in files)):
        drawn = _draw(files["polygons.json"], size, entry.path, hidden)
    source = files.get("labelIds.png") or files.get("instanceIds.png")
    if source is None:
        assert drawn is not None  # an entry has one of the three files
        values = drawn[0]
    else:
        values = read_ids(source)
        check_size(source, values, entry.path, size)
        values = values if values.dtype == np.uint8 else np.where(values >= 1000, values // 1000, values)
    meaning = {key: labels.get(key, IGNORE) for key in range(MOST + 1)}
    semantic = translate(values, meaning, partial(_refuse, source), len(labels))
    annotations: list[Annotation] = []
    if instances and "instanceIds.png" in files:
        annotations = _instances(files["instanceIds.png"], size, entry.path)
    elif drawn is not None:
        annotations = drawn[1]
    return Record(entry.file_name, size, entry.path, annotations, semantic=encode_map(semantic))


def _refuse(file: Path | None, value: int, pixels: int) -> int:
    if value in (IGNORE, -1):  # labelId -1, the licence plate, is 255 in some files
        return IGNORE
    raise DataError(f"{file}: {value} is no labelId (0 to {MOST})", hint="labelTrainIds pictures are read as semantic")


def _instances(file: Path, size: tuple[int, int], image: Path) -> list[Annotation]:
    ids = read_ids(file)
    check_size(file, ids, image, size)
    things = {key for key, _ in THINGS.values()}
    out: list[Annotation] = []
    for value, annotation in objects(ids):
        key = value // 1000 if value >= 1000 else value
        if key in things:
            out.append({**annotation, "category_id": key, "iscrowd": int(value < 1000), "source": f"instance {value}"})
    return out


def _draw(file: Path, size: tuple[int, int], image: Path, hidden: list[str]) -> tuple[np.ndarray, list[Annotation]]:
    """(labelIds [H,W], annotations) of a polygon file; objects of which nothing is seen are added to `hidden`."""
    scene = parsed(Scene, read_json(file), file)
    if (scene.imgHeight, scene.imgWidth) != size:
        raise DataError(
            f"{file}: says {scene.imgWidth} x {scene.imgHeight}, its image {image} is {size[1]} x {size[0]} pixels"
        )
    canvas = Image.new("I", (size[1], size[0]))
    pen = ImageDraw.Draw(canvas)
    keys = {**{n: k for n, (k, _) in THINGS.items()}, **{n: k for n, (k, _) in STUFF.items()}}
    drawn: list[tuple[int, int]] = []  # class, crowd; the number on the canvas is the position + 1
    for number, one in enumerate(scene.objects):
        name = one.label.removesuffix(GROUP) if one.label.removesuffix(GROUP) in THINGS else one.label
        if one.deleted:
            continue
        if name not in keys and name not in NO_CLASS:
            raise DataError(f"{file}: objects.{number}: {one.label!r} is no label of Cityscapes")
        if len(one.polygon) < 3 or max(abs(v) for point in one.polygon for v in point) > 16 * max(size):
            raise DataError(f"{file}: objects.{number} ({one.label}): its polygon can't be drawn")
        drawn.append((keys.get(name, 0), int(name != one.label)))
        pen.polygon([(float(x), float(y)) for x, y in one.polygon], fill=len(drawn))
    numbers = np.asarray(canvas)
    table = np.array([0, *(key for key, _ in drawn)], np.int32)
    things = {key for key, _ in THINGS.values()}
    annotations: list[Annotation] = []
    for number, (key, crowd) in enumerate(drawn, 1):
        if key not in things:
            continue
        if found := of_pixels(numbers == number, key):
            annotations.append({**found, "iscrowd": crowd})
        else:
            hidden.append(f"{file.name}#{number}")
    return table[numbers], annotations
