"""LabelMe: one json beside each image, with polygons, rectangles, circles and masks.

Shapes of one label and one `group_id` are one object. `__ignore__` and `_background_` are no objects; points and lines
have no area: all of these are left out and counted, but for lines where the setting `line_width` says how wide they
are. Classes are those of `labels.txt` in the folder, in its order; without it the labels in use, by name. Folders
called train, val, test are splits. An image that is no longer there is taken out of its json, where LabelMe stored it.
A json that is not UTF-8 is read where its encoding is certain (see `encodings.py`).
"""

import base64
import binascii
import contextlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
import pydantic

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError
from segcli.core.files import parse_json, parsed, read_bytes, resolve
from segcli.core.plugins import nearest
from segcli.data.annotations import encode
from segcli.data.canonical import Draft, Record
from segcli.data.decoders import FAILURES, open_image
from segcli.data.image import SUFFIXES
from segcli.data.png import encode_map
from segcli.sources import encodings, shapes
from segcli.sources.draft import Entry, draft, each
from segcli.sources.export_files import Exported, check_names, note_rest, without_pixel
from segcli.sources.files import LOOK, find_files, has_keys, lines, note_bare, note_names, some, split_of
from segcli.sources.images import by_last_parts, is_there, refuse_outside, size_of

UTF8 = "utf-8-sig"  # with or without a byte order mark
NO_OBJECT = ("__ignore__", "_background_")
LINES = ("line", "linestrip")
NO_AREA = ("point", "points", *LINES)
# rectangles of four corners, as X-AnyLabeling and LabelMe call them; X-AnyLabeling writes plain ones so, too
TURNED = ("rotation", "oriented_rectangle")
Number = pydantic.FiniteFloat
Width = Annotated[float, pydantic.Field(gt=0, le=1000)]  # pixels
BLOB = re.compile(rb'"[A-Za-z0-9+/=]{999,}"')  # an image or a mask: nothing that tells an encoding


class Shape(pydantic.BaseModel, coerce_numbers_to_str=True):
    """One outline. mask: a base64 PNG of the pixels in the box that `points` are two corners of."""

    label: str
    points: list[tuple[Number, Number]] = []
    shape_type: str | None = "polygon"
    group_id: int | str | None = None
    mask: str | None = None
    flags: dict[str, object] | None = None


class File(pydantic.BaseModel):
    """What is read of one json."""

    imagePath: str
    shapes: list[Shape]
    imageHeight: pydantic.NonNegativeInt | None = None
    imageWidth: pydantic.NonNegativeInt | None = None
    stored: bool = False  # whether the image is read out of the json
    encoding: str = UTF8


def detect(path: Path) -> bool:
    """Whether `path` is a LabelMe json, or the first ones in the folder are."""
    return any(has_keys(file, "shapes", "imagePath") for file in itertools.islice(find_files(path, ".json"), LOOK))


def build(
    *,
    path: Path,
    classes: list[str] | None = None,
    encoding: str | None = None,
    line_width: Width | None = None,
    trusted: bool = False,
) -> Draft:
    """Read every LabelMe json below `path`. classes: all labels, in order; None: labels.txt, else the labels in use.
    encoding: of files that are not UTF-8; None: found out. line_width: of lines and linestrips, in pixels; None: they
    are left out. trusted: imagePath may lead anywhere.

    Raises DataError for a json that is none, and labels that are not declared.
    """
    notes: list[str] = []
    root = path if path.is_dir() else path.parent
    places = {file: place for place, file in enumerate(find_files(path, ".json"))}
    read: dict[Path, File] = {}
    aside, foreign = [], []
    for file in places:
        content = _content(file, UTF8)
        if content is None:
            foreign.append(file)
        elif (label := _label(file, content)) is None:
            aside.append(file.name)
        else:
            read[file] = label
    if foreign:
        found_out = (
            encodings.checked(encoding, "data.prepare.encoding") if encoding else _encoding(path, foreign, classes)
        )
        for file in foreign:
            if (content := _content(file, found_out)) is None:
                raise DataError(f"{file}: is neither UTF-8 nor {found_out}")
            label = _label(file, content)
            if label is None:
                aside.append(file.name)
            else:
                read[file] = label.model_copy(update={"encoding": found_out})
        note_names(notes, [file.name for file in foreign], f"json files are not UTF-8 and read as {found_out}")
    found: list[tuple[str, Path, tuple[Path, File]]] = []
    first: dict[tuple[str, Path], File] = {}
    copies = []
    for file in sorted(read, key=places.__getitem__):
        label = read[file]
        image = _image(file, label, root, trusted)
        label.stored = label.stored and not is_there(image)
        before = first.setdefault((split_of(file, path), image.resolve()), label)
        if before is not label and before.shapes == label.shapes and is_there(image):
            copies.append(file.name)
            continue
        found.append((split_of(file, path), image, (file, label)))
    note_names(notes, copies, "json files say of their image what another one says, and are left aside")
    note_names(notes, aside, "json files are no LabelMe files and left aside")
    note_bare(notes, path, [image for _, image, _ in found])
    if line_width is None:
        _refuse_lines(path, [label for _, _, (_, label) in found])
    ids = _ids(path, classes, [label for _, _, label in found])
    categories = [Category(name, key) for name, key in ids.items()]
    records = lambda entries: _records(entries, ids, notes, trusted, line_width)
    out = draft(path, found, categories, records, notes)
    out.stored = any(label.stored for _, _, (_, label) in found)
    return out


def _content(file: Path, encoding: str) -> object:
    """A json; None where that is not its encoding. Raises DataError."""
    try:
        text = read_bytes(file).decode(encoding)
    except UnicodeDecodeError:
        return None
    return parse_json(text, str(file))


def _label(file: Path, content: object) -> File | None:
    """None for a json that is no LabelMe file. Raises DataError for a broken one."""
    if not isinstance(content, dict) or not {"shapes", "imagePath"} & content.keys():
        return None
    label = parsed(File, content, file)
    label.stored = bool(content.get("imageData"))
    return label


def _encoding(path: Path, files: list[Path], classes: list[str] | None) -> str:
    """The encoding of all `files`, which are not UTF-8. Raises DataError where it is not certain."""
    known = {p.name for p in find_files(path, *SUFFIXES)} | {*(classes or ())}
    if (path / "labels.txt").is_file():
        known |= {*lines(path / "labels.txt")}

    def says(file: Path, text: str) -> tuple[list[str], list[str]]:
        label = _label(file, parse_json(text, str(file)))
        name = "" if label is None else PurePosixPath(label.imagePath.replace("\\", "/")).name
        return [shape.label for shape in label.shapes] if label is not None else [], [name]

    return encodings.certain({file: BLOB.sub(b'""', read_bytes(file)) for file in files}, says, known)


def export(image: Exported, names: dict[int, str], out: Path) -> None:
    """Write one image and its json into the folder of its split. Polygons stay polygons, an RLE becomes polygons of few
    points (see `shapes.simplified`), which can be edited; what LabelMe has no place for (crowd) is a flag of the shape,
    which stays a mask."""
    listed: list[dict[str, object]] = []
    for group, annotation in enumerate(image.annotations):
        segmentation = annotation.get("segmentation")
        flags = {"iscrowd": True} if annotation.get("iscrowd") else {}
        common: dict[str, object] = {"label": names[annotation["category_id"]], "flags": flags}
        if "score" in annotation:  # LabelMe shows descriptions; other programs read the number
            common |= {"description": f"score {annotation['score']:.2f}", "score": annotation["score"]}
        if not segmentation:
            x, y, w, h = annotation["bbox"]
            listed.append({**common, "shape_type": "rectangle", "points": [[x, y], [x + w, y + h]], "group_id": None})
        elif isinstance(segmentation, list):
            parts = [part for part in segmentation if len(part) >= 6]
            for part in parts:
                points = np.reshape(part, (-1, 2)).tolist()
                listed.append({**common, "shape_type": "polygon", "points": points})
                listed[-1]["group_id"] = group if len(parts) > 1 else None
        else:
            x, y, crop = image.crop(encode(segmentation, image.size))
            if annotation.get("iscrowd"):  # very many parts, which nobody corrects point by point
                corners = [[x, y], [x + crop.shape[1] - 1, y + crop.shape[0] - 1]]
                text = base64.b64encode(encode_map(crop.astype(np.uint8) * 255)).decode("ascii")
                listed.append({**common, "shape_type": "mask", "points": corners, "mask": text, "group_id": None})
                continue
            loops = [shapes.joined(part) + np.array([x, y]) for part in shapes.simplified(crop)]
            for loop in loops:
                listed.append({**common, "shape_type": "polygon", "points": loop.tolist()})
                listed[-1]["group_id"] = group if len(loops) > 1 else None
    file = image.copy(out / image.split)
    content: dict[str, object] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": listed,
        "imagePath": file.name,
        "imageData": None,
    }
    content |= {"imageHeight": image.size[0], "imageWidth": image.size[1]}
    image.claim(file.with_suffix(".json")).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def left_out(annotation: Annotation, size: tuple[int, int]) -> str | None:
    """Why the format has no place for an annotation; None where it has: polygons stay, however small."""
    return None if isinstance(annotation.get("segmentation"), list) else without_pixel(annotation, size)


def finish(root: Path, out: Path, info: DatasetInfo, notes: list[str]) -> None:
    """Write the list of classes."""
    (out / "labels.txt").write_text("".join(f"{name}\n" for name in info.names), encoding="utf-8")
    check_names(out / "labels.txt", info.names, [*_ids(out, None, [])])
    note_rest(info, notes)


def _image(file: Path, label: File, source: Path, trusted: bool) -> Path:
    """The image of a json: where it says, as far as that is in the source, by its last parts there, or as the json is
    called."""
    name = label.imagePath.replace("\\", "/")
    if "\0" in name or not PurePosixPath(name).name:
        raise DataError(f"{file}: imagePath: {label.imagePath!r} names no file")
    beside = [*by_last_parts(name, [file.parent, source])]
    with contextlib.suppress(DataError):  # it is then looked for by its last parts, and refused where nothing is found
        beside.insert(0, resolve(source, name, str(file), base=file.parent, trusted=trusted))
    called = [file.with_suffix(suffix) for suffix in sorted(SUFFIXES)]
    return next((place for place in [*beside, *called] if is_there(place)), file.parent / PurePosixPath(name).name)


def _refuse_lines(path: Path, files: list[File]) -> None:
    """Raise DataError where no shape at all has an area, but some are drawn."""
    kinds = Counter(shape.shape_type for label in files for shape in label.shapes if shape.label not in NO_OBJECT)
    if kinds and not kinds.keys() - {*NO_AREA}:
        listed = ", ".join(f"{count} of type {kind}" for kind, count in kinds.items())
        raise DataError(
            f"{path}: all of its shapes are points or lines ({listed}), which have no area: nothing is left to learn",
            hint="--set line_width=3 reads lines as masks 3 pixels wide; or draw polygons around what is to be found",
        )


def _ids(path: Path, classes: list[str] | None, found: list[tuple[Path, File]]) -> dict[str, int]:
    """label -> source id."""
    used = {shape.label: file for file, label in found for shape in label.shapes}
    listed, where = classes, "data.prepare.classes"
    if listed is None and (path / "labels.txt").is_file():
        listed, where = [line for line in lines(path / "labels.txt") if line], "labels.txt"
    names = list(dict.fromkeys(sorted(used) if listed is None else listed))
    ids = {name: key for key, name in enumerate((n for n in names if n not in NO_OBJECT), 1)}
    unknown = next((name for name in used if name not in ids and name not in NO_OBJECT), None)
    if unknown is not None:
        raise DataError(f"{used[unknown]}: the label {unknown!r} is not in {where}", hint=nearest(unknown, list(ids)))
    return ids


def _is_object(shape: Shape, line_width: float | None) -> bool:
    kind = shape.shape_type
    return shape.label not in NO_OBJECT and (kind not in NO_AREA or (kind in LINES and line_width is not None))


def _records(
    entries: Sequence[Entry[tuple[Path, File]]],
    ids: dict[str, int],
    notes: list[str],
    trusted: bool,
    line_width: float | None,
) -> Iterator[Record]:
    left: dict[str, list[str]] = {}

    def read(entry: Entry[tuple[Path, File]]) -> Record:
        file, label = entry.label
        content = _stored(file, label.encoding) if label.stored else None
        if content is None:
            refuse_outside(label.imagePath, entry.path, file, trusted)
        else:
            notes.append(f"{entry.file_name}: taken out of {file.name}")
        height, width = label.imageHeight, label.imageWidth
        claimed = (height, width) if height and width else None
        size = size_of(entry.path if content is None else file, claimed, file, content)
        objects: dict[int | tuple[str, int | str], list[tuple[int, Shape]]] = {}
        for i, shape in enumerate(label.shapes):
            if not _is_object(shape, line_width):
                reason = shape.label if shape.label in NO_OBJECT else f"shapes of type {shape.shape_type}"
                left.setdefault(reason, []).append(file.name)
            else:
                key = i if shape.group_id is None else (shape.label, shape.group_id)
                objects.setdefault(key, []).append((i, shape))
        annotations: list[Annotation] = []
        for group in objects.values():
            made = _object(file, group, size, ids, line_width)
            if made is None:
                left.setdefault("masks and lines without a pixel in their image", []).append(file.name)
            else:
                annotations.append(made)
        return Record(entry.file_name, size, entry.path if content is None else content, annotations)

    yield from each(entries, read)
    notes += [f"{reason}: {len(files)} left out ({some(files)})" for reason, files in left.items()]


def _object(
    file: Path, group: list[tuple[int, Shape]], size: tuple[int, int], ids: dict[str, int], line_width: float | None
) -> Annotation | None:
    """The annotation of the shapes of one object; None where a mask or line is empty."""
    category = ids[group[0][1].label]
    parts: list[list[float]] = []
    pixels: np.ndarray | None = None
    for i, shape in group:
        where = f"{file}: shapes.{i} ({shape.label})"
        if shape.shape_type == "mask":
            pixels = np.zeros(size, bool) if pixels is None else pixels
            _paint(pixels, shape, where)
        elif shape.shape_type in LINES and line_width is not None:
            if len(shape.points) < 2:
                raise DataError(f"{where}: a line needs two points, not {len(shape.points)}")
            line = shapes.drawn(shapes.stroke(shape.points, line_width), size, where)
            pixels = line if pixels is None else pixels | line
        else:
            parts.append(_outline(shape, where))
    out: Annotation | None = shapes.of_polygons(parts, size, category)
    if pixels is not None:
        if parts:
            pixels |= shapes.drawn(parts, size, file)
        out = shapes.of_pixels(pixels, category)
    if out is not None and any((shape.flags or {}).get("iscrowd") for _, shape in group):
        out["iscrowd"] = 1
    return out


def _outline(shape: Shape, where: str) -> list[float]:
    points = shape.points
    if shape.shape_type in ("rectangle", *TURNED) and len(points) == 4:
        return [v for point in points for v in point]
    if shape.shape_type in ("rectangle", "circle"):
        if len(points) != 2:
            raise DataError(f"{where}: a {shape.shape_type} has two points, not {len(points)}")
        (x1, y1), (x2, y2) = points
        if shape.shape_type == "rectangle":
            return shapes.rectangle(x1, y1, x2, y2)
        radius = float(np.hypot(x2 - x1, y2 - y1))
        return shapes.ellipse(x1, y1, radius, radius)
    if shape.shape_type not in ("polygon", None):
        raise DataError(
            f"{where}: shapes of type {shape.shape_type!r} are not read",
            hint="polygon, rectangle (also turned), circle and mask are; remove it, or label it __ignore__",
        )
    if len(points) < 3:
        raise DataError(f"{where}: a polygon needs three points, not {len(points)}")
    return [v for point in points for v in point]


def _paint(pixels: np.ndarray, shape: Shape, where: str) -> None:
    """Add a mask shape to bool [H,W]; what reaches outside the image is cut."""
    try:
        with open_image(base64.b64decode(shape.mask or "", validate=True)) as image:
            mask = np.asarray(image.convert("L")) > 0
    except (binascii.Error, *FAILURES) as error:
        raise DataError(f"{where}: its mask can't be decoded: {error}") from error
    if not shape.points:
        raise DataError(f"{where}: a mask needs the two corners that it lies between")
    x, y = (round(min(max(v, -1e6), 1e6)) for v in shape.points[0])
    shapes.paint(pixels, mask, x, y)


def _stored(file: Path, encoding: str) -> bytes:
    content = _content(file, encoding)
    try:
        return base64.b64decode(content["imageData"] if isinstance(content, dict) else "", validate=True)
    except (binascii.Error, TypeError, ValueError, KeyError) as error:
        raise DataError(f"{file}: its imageData can't be decoded: {error}") from error
