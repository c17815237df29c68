"""A project of Supervisely: meta.json, and folders of datasets with `img/` and `ann/`, a json an image.

SOURCE is the project's folder; datasets called train, val, test are splits. Bitmaps (a PNG, deflated, in base64, at its
origin), polygons with holes, multipolygons and rectangles are objects; points, lines, keypoint graphs, cuboids, turned
boxes and alpha masks are left out and counted. Classes are those of meta.json, in its order. Whole coordinates name
pixels, as Supervisely's own tools read them: rectangles and polygons include those on their borders, and polygons
become masks; where an image has a fraction anywhere, all its coordinates are continuous. Layout:
getting-started/supervisely-annotation-format in https://github.com/supervisely/developer-portal; pixels:
supervisely/geometry/{bitmap,rectangle,polygon,geometry}.py in https://github.com/supervisely/supervisely
"""

import base64
import binascii
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pydantic

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import Category
from segcli.core.errors import DataError
from segcli.core.files import parsed, read_json
from segcli.core.plugins import nearest
from segcli.data.canonical import Draft, Record
from segcli.data.decoders import FAILURES, open_image
from segcli.sources import shapes
from segcli.sources.draft import Entry, draft, each
from segcli.sources.files import has_keys, note_names, some, split_of
from segcli.sources.folders import walk
from segcli.sources.images import is_image, size_of

META = "meta.json"
NO_OBJECT = ("point", "line", "polyline", "graph", "cuboid", "cuboid_2d", "oriented_bbox", "alpha_mask")
LARGEST = 2**28  # bytes that a bitmap may have when it is unpacked
FARTHEST = 10**6  # pixels from the image's corner at which a bitmap may begin
Path2 = list[tuple[pydantic.FiniteFloat, pydantic.FiniteFloat]]


class Ring(pydantic.BaseModel):
    exterior: Path2
    interior: list[Path2] = []


class Bitmap(pydantic.BaseModel):
    data: str
    origin: tuple[pydantic.FiniteFloat, pydantic.FiniteFloat]


class Figure(pydantic.BaseModel):
    """One object; which fields it has depends on geometryType."""

    classTitle: str
    geometryType: str
    points: Ring | None = None
    parts: list[Ring] | None = None
    bitmap: Bitmap | None = None


class Image(pydantic.BaseModel):
    size: dict[str, pydantic.PositiveInt] | None = None
    objects: list[dict[str, object]]


class Title(pydantic.BaseModel):
    title: str = pydantic.Field(min_length=1)


class Meta(pydantic.BaseModel):
    classes: list[Title]


def detect(path: Path) -> bool:
    """Whether `path` is a project's folder, or its meta.json."""
    meta = path if path.is_file() else path / META
    return meta.name == META and has_keys(meta, "classes", "tags") and bool(_folders(meta.parent))


def build(*, path: Path) -> Draft:
    """Read the project at `path`, in which every file has its place.

    Raises DataError for what is no project, objects of undeclared classes, and broken shapes.
    """
    root = path if path.is_dir() else path.parent
    folders = _folders(root)
    if not folders:
        raise DataError(f"{root}: no folder of it has ann/ and img/, as datasets of Supervisely have")
    titles = [one.title for one in parsed(Meta, read_json(root / META), root / META).classes]
    if len({*titles}) < len(titles):
        raise DataError(f"{root / META}: a class stands there twice: {some(sorted(titles))}")
    ids = {title: key for key, title in enumerate(titles, 1)}
    notes: list[str] = []
    found: list[tuple[str, Path, Path]] = []
    bare: list[str] = []
    for folder in folders:
        labels = {file.name.removesuffix(".json"): file for file in sorted((folder / "ann").glob("*.json"))}
        images = {file.name: file for file in sorted((folder / "img").iterdir()) if is_image(file)}
        stems = {Path(name).stem: name for name in images}
        for name, file in labels.items():  # old projects name them without the image's suffix
            place = images.pop(name if name in images else stems.get(name, ""), folder / "img" / name)
            found.append((split_of(place, root), place, file))
        bare += images
    note_names(notes, bare, "images have no json in ann/ and are left out")
    categories = [Category(title, key) for title, key in ids.items()]
    return draft(path, found, categories, lambda entries: _records(entries, ids, notes), notes)


def _folders(root: Path) -> list[Path]:
    """The datasets of a project, those inside others among them."""
    return [folder for folder, inner, _ in walk(root) if {"ann", "img"} <= {*inner}] if root.is_dir() else []


def _records(entries: Sequence[Entry[Path]], ids: Mapping[str, int], notes: list[str]) -> Iterator[Record]:
    left: dict[str, list[str]] = {}

    def read(entry: Entry[Path]) -> Record:
        file = entry.label
        image = parsed(Image, read_json(file), file)
        sides = image.size or {}
        size = size_of(entry.path, (sides["height"], sides["width"]) if {"height", "width"} <= {*sides} else None, file)
        figures = [parsed(Figure, one, f"{file}: object {number}") for number, one in enumerate(image.objects)]
        paths = [path for figure in figures for ring in _rings(figure) for path in (ring.exterior, *ring.interior)]
        fraction = any(value % 1 for path in paths for point in path for value in point)
        made = []
        for number, figure in enumerate(figures):
            where = f"{file}: object {number} ({figure.classTitle}, {figure.geometryType})"
            if figure.geometryType in NO_OBJECT:
                left.setdefault(f"objects of the kind {figure.geometryType} are left out", []).append(entry.file_name)
                continue
            if figure.classTitle not in ids:
                raise DataError(f"{where}: its class is not in {META}", hint=nearest(figure.classTitle, list(ids)))
            one = _object(figure, size, ids[figure.classTitle], not fraction, where)
            if one is None:
                left.setdefault("objects have no pixel in the image and are left out", []).append(entry.file_name)
            else:
                made.append(one)
        return Record(entry.file_name, size, entry.path, made)

    yield from each(entries, read)
    for what, names in left.items():
        note_names(notes, names, what)


def _rings(figure: Figure) -> list[Ring]:
    return figure.parts or ([figure.points] if figure.points is not None else [])


def _object(figure: Figure, size: tuple[int, int], category: int, whole: bool, where: str) -> Annotation | None:
    """The annotation of one figure; None where it has no pixel. whole: its coordinates name pixels."""
    kind, rings = figure.geometryType, _rings(figure)
    if kind == "bitmap" and figure.bitmap is not None:
        x, y = (int(np.floor(value)) for value in figure.bitmap.origin)
        if max(abs(x), abs(y)) > FARTHEST:
            raise DataError(f"{where}: its bitmap begins at {x}, {y}")
        pixels = np.zeros(size, bool)
        shapes.paint(pixels, _unpacked(figure.bitmap.data, where), x, y)
        return shapes.of_pixels(pixels, category)
    if kind == "rectangle" and rings and len(rings[0].exterior) == 2:
        (x1, x2), (y1, y2) = (sorted(values) for values in zip(*rings[0].exterior, strict=True))
        return shapes.of_box(x1, y1, x2 - x1 + whole, y2 - y1 + whole, category)
    if kind in ("polygon", "multipolygon") and rings:
        polygons = [[np.array(path) for path in (ring.exterior, *ring.interior)] for ring in rings]
        if any(len(path) < 3 for polygon in polygons for path in polygon):
            raise DataError(f"{where}: a polygon of fewer than three points")
        return (
            shapes.of_pixels(_drawn(polygons, size, where), category)
            if whole
            else shapes.of_rings(polygons, size, category)
        )
    raise DataError(f"{where}: is no bitmap, polygon, multipolygon or rectangle of two corners")


def _drawn(polygons: list[list[np.ndarray]], size: tuple[int, int], where: str) -> np.ndarray:
    """Polygons whose corners are pixels as bool [H,W], their borders included, as Supervisely draws them."""
    pixels = np.zeros(size, bool)
    for outline, *holes in polygons:
        if max(np.abs(path).max() for path in (outline, *holes)) > FARTHEST:
            raise DataError(f"{where}: a polygon reaches far outside its image of {size[1]} x {size[0]}")
        part = np.zeros(size, np.uint8)
        cv2.fillPoly(part, [outline.astype(np.int32)], 1)
        cv2.fillPoly(part, [hole.astype(np.int32) for hole in holes], 0)
        pixels |= part.astype(bool)
    return pixels


def _unpacked(data: str, where: str) -> np.ndarray:
    """A bitmap as bool [h,w]: where its alpha is not 0; without one, where its value is not."""
    try:
        packed = base64.b64decode(data, validate=True)
        if not packed.startswith(b"\x89PNG"):
            stream = zlib.decompressobj()
            packed = stream.decompress(packed, LARGEST)
            if stream.unconsumed_tail:
                raise DataError(f"{where}: its bitmap has more than {LARGEST:,} bytes")
        with open_image(packed) as image:
            clear = "A" in image.mode or "transparency" in image.info
            values = np.asarray(image.convert("RGBA"))[..., 3] if clear else np.asarray(image)
    except (binascii.Error, zlib.error, *FAILURES) as error:
        raise DataError(f"{where}: its bitmap can't be read: {error}") from None
    return (values if values.ndim == 2 else values.any(-1)) != 0
