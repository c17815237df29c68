"""Label Studio's JSON and JSON-MIN exports: rectangles, polygons, ellipses and brush masks in per cent of the image.

SOURCE is the json, or the folder that holds it, with the images in it or beside. Where a task has several annotations
the first that was not cancelled counts. Plain rectangles are boxes; turned ones, about their upper left corner, are
outlines. Key points stand alone: they are left out and counted, as are tasks without annotation. Classes are the labels
in use, by name. An uploaded image may also be called without the eight digits that Label Studio puts before its name.
Layout: https://labelstud.io/guide/export; brush masks: RGBA values in runs of bits, as decode_rle reads them in
label_studio_sdk/converter/brush.py of https://github.com/HumanSignal/label-studio-sdk
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pydantic

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import Category
from segcli.core.errors import DataError
from segcli.core.files import parsed, read_json
from segcli.data.canonical import UNDECIDED, Draft, Record
from segcli.data.image import SUFFIXES
from segcli.sources import shapes
from segcli.sources.draft import Entry, draft, each
from segcli.sources.files import find_files, has_keys, in_folder, note_names, some
from segcli.sources.images import locate, refuse_outside, size_of

KINDS = ("rectangle", "polygon", "ellipse", "brush", "keypoint")
LABELS = (*(f"{kind}labels" for kind in KINDS), "labels")
UPLOADED = re.compile(r"[0-9a-f]{8}-")  # before the name of an uploaded file
Number = pydantic.FiniteFloat
Side = pydantic.PositiveInt


class Value(pydantic.BaseModel):
    """Where a region is, in per cent; which keys it has tells its kind."""

    model_config = pydantic.ConfigDict(extra="allow")

    x: Number | None = None
    y: Number | None = None
    width: Number | None = None
    height: Number | None = None
    radiusX: Number | None = None
    radiusY: Number | None = None
    rotation: Number = 0.0
    points: list[tuple[Number, Number]] | None = None
    format: str | None = None
    rle: list[pydantic.NonNegativeInt] | None = None

    def labels(self) -> list[str]:
        found = [(self.model_extra or {}).get(key) for key in LABELS]
        return [str(name) for names in found if isinstance(names, list) for name in names]


class Region(pydantic.BaseModel):
    value: Value
    id: str | None = None
    type: str | None = None
    original_width: Side | None = None
    original_height: Side | None = None


class Work(pydantic.BaseModel):
    """One annotation of a task."""

    result: list[dict[str, object]]
    was_cancelled: bool = False


Label = tuple[Path, str, list[Region]]  # the json, the image as it names it, its regions


def detect(path: Path) -> bool:
    """Whether `path` is a json of Label Studio, or a folder with one."""
    return bool(_files(path))


def build(*, path: Path, trusted: bool = False) -> Draft:
    """Read the json of `path`. trusted: names of images may lead anywhere.

    Raises DataError for what is no export of Label Studio, broken regions, and images that are nowhere.
    """
    files = _files(path)
    if len(files) != 1:
        raise DataError(f"{path}: holds {len(files)} json files of Label Studio", hint="give one as SOURCE")
    file, root = files[0], path if path.is_dir() else path.parent
    content = read_json(file)
    if not isinstance(content, list):
        raise DataError(f"{file}: no list of tasks")
    notes: list[str] = []
    tasks: list[tuple[str, list[Region]]] = []
    empty: list[str] = []
    several: list[str] = []
    other: list[str] = []
    for number, task in enumerate(content):
        where = f"{file}: task {number}"
        image, results = _task(task, where, several)
        if results is None:
            empty.append(_name(image))
            continue
        kept = [one for one in results if _placed(one.get("value"))]
        other += [str(one.get("type")) for one in results if not _placed(one.get("value"))]
        tasks.append((image, [parsed(Region, one, f"{where}, region {i}") for i, one in enumerate(kept)]))
    note_names(notes, empty, "tasks have no annotation and are left out")
    note_names(notes, several, "tasks have several annotations, of which the first is read")
    note_names(notes, sorted({*other}), "kinds of results are no regions of an image and are left aside")
    if not tasks:
        raise DataError(f"{file}: no task has an annotation")
    there = {image.name for image in find_files(root, *SUFFIXES)}
    names = [_name(image) for image, _ in tasks]
    names = [name if name.rpartition("/")[2] in there else _shorter(name, there) for name in names]
    paths = locate(names, [file.parent, file.parent / "images"], root, file, trusted)
    found = [(UNDECIDED, p, (file, *task)) for p, task in zip(paths, tasks, strict=True)]
    used = {name for _, regions in tasks for region in regions for name in region.value.labels()}
    ids = {name: key for key, name in enumerate(sorted(used) or ["object"], 1)}
    categories = [Category(name, key) for name, key in ids.items()]
    return draft(path, found, categories, lambda entries: _records(entries, ids, notes, trusted), notes)


def _files(path: Path) -> list[Path]:
    files = [path] if path.is_file() else in_folder(path, ".json")
    return [file for file in files if file.suffix.lower() == ".json" and _is_export(file)]


def _is_export(file: Path) -> bool:
    whole = has_keys(file, "annotations", "data", "result") and not has_keys(file, "categories")
    small = has_keys(file, "annotator", "annotation_id", "lead_time")
    return whole or small


def _task(task: object, where: str, several: list[str]) -> tuple[str, list[dict[str, object]] | None]:
    """(the image as it is named, its results) of a task; None where nobody annotated it."""
    if not isinstance(task, dict):
        raise DataError(f"{where}: is no task")
    data = task.get("data", task)
    texts = [text for text in data.values() if isinstance(text, str)] if isinstance(data, dict) else []
    image = next((text for text in texts if Path(_name(text)).suffix.lower() in SUFFIXES), None)
    if image is None:
        raise DataError(f"{where}: names no image")
    if "data" not in task:  # JSON-MIN: the regions stand under the names of their tags
        lists = [value for value in task.values() if isinstance(value, list)]
        return image, [{"value": v, **v} for listed in lists for v in listed if isinstance(v, dict)] or None
    works = parsed(list[Work], task.get("annotations", []), f"{where}: annotations")
    done = [work for work in works if not work.was_cancelled]
    several += [_name(image)] if len(done) > 1 else []
    return image, done[0].result if done else None


def _name(image: str) -> str:
    """The path of an image out of its address: of local files what stands behind ?d=."""
    return unquote(image.partition("?d=")[2] or image.partition("?")[0]).replace("\\", "/")


def _shorter(name: str, there: set[str]) -> str:
    """The name without the digits of an upload, where an image is called so."""
    folder, _, last = name.rpartition("/")
    short = UPLOADED.sub("", last, count=1)
    return f"{folder}/{short}".lstrip("/") if short in there else name


def _placed(value: object) -> bool:
    return isinstance(value, dict) and bool({"x", "points", "rle"} & value.keys())


def _records(
    entries: Sequence[Entry[Label]], ids: Mapping[str, int], notes: list[str], trusted: bool
) -> Iterator[Record]:
    points: list[str] = []
    unnamed: list[str] = []

    def read(entry: Entry[Label]) -> Record:
        file, image, regions = entry.label
        refuse_outside(_name(image), entry.path, file, trusted)
        sizes = [(r.original_height, r.original_width) for r in regions if r.original_height and r.original_width]
        size = size_of(entry.path, (sizes[0][0] or 1, sizes[0][1] or 1) if sizes else None, file)
        named = {region.id for region in regions if region.id and region.value.labels()}
        annotations = []
        for number, region in enumerate(regions):
            where = f"{file}: {_name(image)}, region {region.id or number}"
            labels = region.value.labels()
            if not labels:
                unnamed.extend([entry.file_name] if region.id not in named else [])
            elif "keypointlabels" in (region.value.model_extra or {}) or region.type == "keypoint":
                points.append(entry.file_name)
            elif len(labels) > 1:
                raise DataError(f"{where}: has the labels {some(labels)}, and an object is of one class")
            elif (one := _object(region.value, size, ids[labels[0]], where)) is not None:
                annotations.append(one)
        return Record(entry.file_name, size, entry.path, annotations)

    yield from each(entries, read)
    note_names(notes, points, "key points stand alone and are left out")
    note_names(notes, unnamed, "regions have no label and are left out")


def _object(value: Value, size: tuple[int, int], category: int, where: str) -> Annotation | None:
    """The annotation of one region; None where its mask is empty."""
    h, w = size
    if value.rle is not None:
        return shapes.of_pixels(_brush(value.rle, size, where), category)
    if value.points is not None:
        if len(value.points) < 3:
            raise DataError(f"{where}: a polygon of {len(value.points)} points")
        return shapes.of_polygons([[v for x, y in value.points for v in (x * w / 100, y * h / 100)]], size, category)
    x, y, angle = (value.x or 0) * w / 100, (value.y or 0) * h / 100, math.radians(value.rotation)
    if value.radiusX is not None and value.radiusY is not None:
        ellipse = shapes.ellipse(x, y, value.radiusX * w / 100, value.radiusY * h / 100, angle)
        return shapes.of_polygons([ellipse], size, category)
    if value.width is None or value.height is None:
        raise DataError(f"{where}: no rectangle, polygon, ellipse or brush mask")
    bw, bh = value.width * w / 100, value.height * h / 100
    if not angle:
        return shapes.of_box(x, y, bw, bh, category)
    return shapes.of_polygons([shapes.turned(shapes.rectangle(x, y, x + bw, y + bh), angle, (x, y))], size, category)


def _brush(rle: list[int], size: tuple[int, int], where: str) -> np.ndarray:
    """The pixels of a brush mask as bool [H,W]: where its alpha value is not 0."""
    wanted = size[0] * size[1] * 4
    try:
        packed = bytes(rle)
        bits = format(int.from_bytes(packed, "big"), f"0{8 * len(packed)}b")
        place = 0

        def read(count: int) -> int:
            nonlocal place
            place += count
            return int(bits[place - count : place], 2)

        total, word = read(32), read(5) + 1
        widths = [read(4) + 1 for _ in range(4)]
        if total != wanted:
            raise DataError(f"{where}: its brush mask has {total} values, and the image {size[1]} x {size[0]} x 4")
        out = np.zeros(total, np.uint8)
        at = 0
        while at < total:
            repeats, end = read(1), at + 1 + read(widths[read(2)])
            if end > total or place > len(bits):
                raise ValueError(f"a run ends at {end}")
            out[at:end] = read(word) if repeats else [read(word) for _ in range(at, end)]
            at = end
    except DataError:
        raise
    except (ValueError, OverflowError) as error:
        raise DataError(f"{where}: its brush mask can't be read: {error}") from None
    return out.reshape(*size, 4)[:, :, 3] > 0
