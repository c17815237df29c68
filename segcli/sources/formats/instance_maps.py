"""Pictures whose pixels say class and object at once: ADE20K in full, Mapillary Vistas, BDD100K.

| dataset | pictures | class | object |
|---|---|---|---|
| ADE20K of 2016, 2021 | NAME_seg.png beside NAME.jpg, a list of objects | R / 10 * 256 + G, named by the lists | B |
| Mapillary Vistas 1.1 to 2.0 | instances/NAME.png of 16 bits | value / 256, named by config….json | value % 256 |
| BDD100K | labels/ins_seg/bitmasks/SPLIT/NAME.png, RGBA | R | B * 256 + A; G: four flags |

Of a source that has several kinds of labels the one that says most is read, or that of the setting `labels`; the others
are noted. Sources: https://github.com/CSAILVision/ADE20K, utils/utils_ade20k.py; demo.py of Mapillary Vistas;
https://github.com/bdd100k/bdd100k, doc/source/format.rst.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pydantic

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import Category
from segcli.core.errors import DataError, UsageError
from segcli.core.files import parsed, read_json
from segcli.core.plugins import nearest
from segcli.data.canonical import Draft, Record
from segcli.data.image import SUFFIXES, image_size
from segcli.data.png import encode_map
from segcli.ops.map_values import distinct
from segcli.sources.class_legend import declared
from segcli.sources.draft import Entry, draft, each
from segcli.sources.files import find_files, has_keys, note_names, some, split_folders, split_of
from segcli.sources.formats import _ade20k, panoptic, semantic
from segcli.sources.mask_meaning.mask_files import check_size, objects, read_pixels
from segcli.sources.mask_meaning.meaning import Flags
from segcli.types import ignore_label, label_type

# https://github.com/bdd100k/bdd100k, doc/source/format.rst; ids of objects count from 1, of pixels from 0
BDD_THINGS = ("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
BDD_PIXELS = {
    "sem_seg": (
        *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
        *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    ),
    "drivable": ("direct", "alternative", "background"),
}
BDD = {"ins_seg": "bitmasks", "sem_seg": "masks", "drivable": "masks"}  # the likeliest first
BDD_MORE = ("pan_seg", "lane", "seg_track_20", "box_track_20", "det_20")
MAPILLARY = ("panoptic", "instances", "labels")  # what says most first
ABOUT = {
    "ade20k": "Zhou et al.: Scene Parsing through ADE20K Dataset, CVPR 2017",
    "mapillary": "Neuhold et al.: The Mapillary Vistas Dataset for Semantic Understanding of Street Scenes, ICCV 2017",
    "bdd100k": "Yu et al.: BDD100K: A Diverse Driving Dataset for Heterogeneous Multitask Learning, CVPR 2020",
}
UNSAID = {"licence": "see the dataset's own terms"}
Read = Callable[[np.ndarray, Path], tuple[np.ndarray, np.ndarray]]  # stored values -> classes, objects [H,W]


@dataclasses.dataclass(frozen=True)
class Coding:
    """How the pictures of a dataset are read. classes: class number -> category; ignored: class numbers that are none.
    flags: of a picture's objects, from (values, a place on one). maps: whether classes of pixels are read, too."""

    read: Read
    classes: dict[int, Category]
    ignored: frozenset[int] = frozenset({0})
    flags: Callable[[np.ndarray, tuple[int, int]], Annotation] | None = None
    maps: bool = True


def detect(path: Path) -> bool:
    """Whether `path` is a folder in the layout of one of the three."""
    return path.is_dir() and any(_kinds(path))


def build(*, path: Path, labels: str | None = None, version: str | None = None, trusted: bool = False) -> Draft:
    """Read the folder `path`. labels: which of several kinds (ins_seg, sem_seg, drivable; panoptic, instances, labels);
    version: of Mapillary Vistas (v1.2, v2.0). None: what says most, and the newest. trusted: as of panoptic files.

    Raises DataError where there is none, and for classes without a name; UsageError for a choice that there is not.
    """
    ade, mapillary, bdd = _kinds(path) if path.is_dir() else (False, False, False)
    if mapillary:
        return _mapillary(path, labels, version, trusted)
    if version is not None:
        raise UsageError(f"{path}: data.prepare.version: only Mapillary Vistas has versions", hint="leave it out")
    if bdd:
        return _bdd(path, labels)
    if not ade:
        raise DataError(f"{path}: no pictures of classes and objects as ADE20K, Mapillary Vistas or BDD100K have them")
    if labels is not None:
        raise UsageError(f"{path}: data.prepare.labels: ADE20K has one kind of labels", hint="leave it out")
    return _ade(path)


def _kinds(path: Path) -> tuple[bool, bool, bool]:
    """Whether a folder is laid out as ADE20K, Mapillary Vistas, BDD100K."""
    bdd = (path / "images").is_dir() and any((path / "labels" / kind / place).is_dir() for kind, place in BDD.items())
    return _ade20k.detect(path), bool(_configs(path)), bdd


def _pick(path: Path, what: str, there: list[str], wanted: str | None, notes: list[str]) -> str:
    """`wanted`, or the first of those that are there; the others are noted. Raises DataError for one that is not."""
    if wanted is not None and wanted not in there:
        raise DataError(f"{path}: has no {what} {wanted!r}", hint=nearest(wanted, there))
    chosen = wanted or there[0]
    if aside := [one for one in there if one != chosen]:
        notes.append(f"left aside: {some(aside)} (--set {what}={aside[0]} reads that in place of {chosen})")
    return chosen


# ADE20K


def _ade(path: Path) -> Draft:
    notes: list[str] = []
    found: list[tuple[str, Path, tuple[Path, int | None]]] = []
    names: _ade20k.Names = {}
    bare, parts, lone = [], [], []
    files = [*find_files(path, *SUFFIXES)]
    stems = {(file.parent, file.stem) for file in files}
    for file in files:
        if "_parts_" in file.stem:
            parts.append(file.name)
        if file.stem.endswith("_seg") and (file.parent, file.stem.removesuffix("_seg")) not in stems:
            lone.append(file.name)
        if file.stem.endswith("_seg") or "_parts_" in file.stem or file.stem.startswith("instance_"):
            continue
        picture = file.with_name(f"{file.stem}_seg.png")
        if not picture.is_file():
            bare.append(file.name)
            continue
        whole = _ade20k.note_objects(names, _ade20k.list_of(file), picture)
        found.append((split_of(file, path), file, (picture, whole)))
    note_names(notes, bare, "images have no _seg.png and are left out")
    note_names(notes, lone, "pictures of labels have no image and are left out")
    note_names(notes, parts, "pictures of parts are left aside, objects are read as a whole")
    short = {key: name.split(",")[0] for key, (name, _) in names.items()}
    times = Counter(short.values())
    called = {key: name if times[name] == 1 else f"{name} {key}" for key, name in short.items()}
    classes = {key: Category(called[key], key) for key in sorted(called)}
    return _draft(path, found, Coding(_ade20k.ade_values, classes), notes, "ade20k")


# Mapillary Vistas


class Label(pydantic.BaseModel):
    name: str
    readable: str = pydantic.Field(min_length=1)
    instances: bool
    evaluate: bool = True
    color: tuple[int, int, int] | None = None


class Config(pydantic.BaseModel):
    labels: list[Label] = pydantic.Field(min_length=1, max_length=255)


def _configs(path: Path) -> dict[str, Path]:
    """Version -> its list of classes. That of 1.1 has no number in its name, nor has the folder of its labels."""
    files = {file.stem.removeprefix("config").lstrip("_"): file for file in sorted(path.glob("config*.json"))}
    return {version: file for version, file in files.items() if has_keys(file, "labels", "instances", "readable")}


def _mapillary(path: Path, labels: str | None, version: str | None, trusted: bool) -> Draft:
    notes: list[str] = []
    configs = _configs(path)
    folders = split_folders(path, lambda folder: (folder / "images").is_dir())
    versions = [v for v in sorted(configs, reverse=True) if any(_has(f / v) for f in folders.values())]
    if not versions:
        raise DataError(f"{path}: no labels of a version that a config….json names are there")
    chosen = _pick(path, "version", versions, version, notes)
    roots = {split: folder / chosen for split, folder in folders.items() if _has(folder / chosen)}
    bare = [split for split in folders if split not in roots]
    note_names(notes, bare, "splits have no labels and are left out")
    kinds = [kind for kind in MAPILLARY if all(kind in _has(root) for root in roots.values())]
    if not kinds:
        raise DataError(f"{path}: its splits have different kinds of labels: {[*map(_has, roots.values())]}")
    some_only = [kind for kind in MAPILLARY if kind not in kinds and any(kind in _has(root) for root in roots.values())]
    note_names(notes, some_only, "kinds of labels are not there in every split, and are left aside")
    kind = _pick(path, "labels", kinds, labels, notes)
    if kind == "panoptic":
        files = {split: next((root / kind).glob("panoptic_*.json")) for split, root in roots.items()}
        return panoptic.read(path, files, notes, trusted=trusted)
    config = parsed(Config, read_json(configs[chosen]), configs[chosen]).labels
    readable = [label.readable for label in config]
    ignored = [label.readable for label in config if not label.evaluate]
    note_names(notes, ignored, "classes are not evaluated, as the config says, and left out")
    classes = {
        key: Category(
            label.readable if readable.count(label.readable) == 1 else label.name,
            key,
            thing=label.instances and kind == "instances",
            colour=label.color,
        )
        for key, label in enumerate(config)
        if label.evaluate
    }
    found: list[tuple[str, Path, tuple[Path, int | None]]] = []
    for split, root in roots.items():
        pairs = semantic.paired(folders[split] / "images", root / kind)
        found += [(split, image, (picture, None)) for image, picture in pairs]
    unread = frozenset(key for key, label in enumerate(config) if not label.evaluate)
    read = partial(_mapillary_values, kind == "instances")
    return _draft(path, found, Coding(read, classes, unread), notes, "mapillary")


def _has(root: Path) -> list[str]:
    """The kinds of labels that a folder of a version has."""
    kinds = [kind for kind in MAPILLARY if next(find_files(root / kind, ".png"), None) is not None]
    if "panoptic" in kinds and next((root / "panoptic").glob("panoptic_*.json"), None) is None:
        kinds.remove("panoptic")
    return kinds


def _mapillary_values(instances: bool, values: np.ndarray, file: Path) -> tuple[np.ndarray, np.ndarray]:
    if values.ndim != 2 or values.dtype.kind not in "ui" or values.min() < 0:
        raise DataError(f"{file}: is no picture of Mapillary Vistas: one channel of {'16' if instances else '8'} bits")
    wide = values.astype(np.int32)
    return (wide // 256, wide % 256) if instances else (wide, np.zeros_like(wide))


# BDD100K


def _bdd(path: Path, labels: str | None) -> Draft:
    notes: list[str] = []
    there = [kind for kind, place in BDD.items() if (path / "labels" / kind / place).is_dir()]
    kind = _pick(path, "labels", there, labels, notes)
    unread = [name for name in BDD_MORE if (path / "labels" / name).is_dir()]
    note_names(notes, unread, "kinds of labels are not read")
    package = path / "images" / ("100k" if kind == "drivable" else "10k")  # both have some images
    images = package if package.is_dir() else path / "images"
    pictures = {(split_of(f, path), f.stem): f for f in find_files(path / "labels" / kind / BDD[kind], ".png")}
    found: list[tuple[str, Path, Path]] = []
    bare, seen = [], set()
    for image in find_files(images, *SUFFIXES):
        key = split_of(image, path), image.stem
        if key in seen:
            raise DataError(f"{images}: two images are called {image.stem}")
        seen.add(key)
        if key in pictures:
            found.append((key[0], image, pictures[key]))
        else:
            bare.append(image.name)
    note_names(notes, bare, "images have no labels and are left out")
    note_names(notes, [f.name for key, f in pictures.items() if key not in seen], "label pictures have no image")
    if kind in BDD_PIXELS:
        return semantic.of_pictures(path, found, declared(BDD_PIXELS[kind], [255], "BDD100K"), Flags(), notes)
    classes = {key: Category(name, key) for key, name in enumerate(BDD_THINGS, 1)}
    coding = Coding(_bdd_values, classes, flags=_bdd_flags, maps=False)
    return _draft(path, [(split, image, (own, None)) for split, image, own in found], coding, notes, "bdd100k")


def _bdd_values(values: np.ndarray, file: Path) -> tuple[np.ndarray, np.ndarray]:
    if values.ndim != 3 or values.shape[2] != 4 or values.dtype != np.uint8:
        raise DataError(f"{file}: is no bitmask of BDD100K: RGBA of 8 bits")
    wide = values.astype(np.int32)
    return wide[:, :, 0], wide[:, :, 2] * 256 + wide[:, :, 3]


def _bdd_flags(values: np.ndarray, place: tuple[int, int]) -> Annotation:
    flags = int(values[place][1])  # truncated, occluded, crowd, ignore: the benchmark counts neither of the last two
    return {"truncated": flags >> 3 & 1, "occluded": flags >> 2 & 1, "iscrowd": int(flags & 3 > 0)}


# what all three share


def _draft(
    path: Path, found: list[tuple[str, Path, tuple[Path, int | None]]], coding: Coding, notes: list[str], about: str
) -> Draft:
    categories = sorted(coding.classes.values(), key=lambda c: (not c.thing, c.source_id))
    records = lambda entries: _records(entries, coding, categories, notes)
    said = {**UNSAID, "citation": ABOUT[about]}
    return draft(path, found, categories, records, notes, about=said, semantic=coding.maps, measured=True)


def _records(
    entries: list[Entry[tuple[Path, int | None]]], coding: Coding, categories: list[Category], notes: list[str]
) -> Iterator[Record]:
    hidden: list[str] = []
    counted: set[int] = set()  # classes that have no objects by the list of classes, and have by the pictures
    ignore = ignore_label(len(categories))
    table = np.full(2**14, ignore, label_type(len(categories)))
    is_thing = np.zeros(len(table), bool)
    for label, category in enumerate(categories):
        table[category.source_id] = label
        is_thing[category.source_id] = category.thing

    def read(entry: Entry[tuple[Path, int | None]]) -> Record:
        file, expected = entry.label
        size = image_size(entry.path)
        values = read_pixels(file)[0]
        check_size(file, values, entry.path, size)
        classes, numbers = coding.read(values, file)
        if unknown := sorted({*distinct(classes).tolist()} - coding.classes.keys() - coding.ignored):
            raise DataError(
                f"{file}: nothing names its class {unknown[0]}", hint="its list of classes has no such number"
            )
        on_object = is_thing[classes]
        if not all(category.thing for category in categories):
            counted.update(distinct(classes[~on_object & (numbers > 0)]).tolist())
        annotations: list[Annotation] = []
        for key, annotation in objects(np.where(on_object, classes + 1 << 16 | numbers, 0)):
            more: Annotation = {"category_id": (key >> 16) - 1, "source": f"{file.name}#{key & 0xFFFF}"}
            if coding.flags is not None:
                y = int(annotation["bbox"][1])
                x = np.argmax((classes[y] == (key >> 16) - 1) & (numbers[y] == key & 0xFFFF))
                more |= coding.flags(values, (y, int(x)))
            annotations.append({**annotation, **more})
        if expected is not None and len(annotations) < expected:
            hidden.extend([entry.file_name] * (expected - len(annotations)))
        maps = encode_map(table[classes]) if coding.maps else None
        return Record(entry.file_name, size, entry.path, annotations, semantic=maps)

    yield from each(entries, read)
    stuff = [category.name for key, category in coding.classes.items() if key in counted and not category.thing]
    note_names(notes, stuff, "classes have numbered objects in the pictures, and none by the list of classes")
    note_names(notes, hidden, "objects of the lists have no pixel of their own in the pictures")
