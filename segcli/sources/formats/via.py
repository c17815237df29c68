"""VGG Image Annotator: one json or csv for a folder of images; polygons, rectangles, circles, ellipses, polylines.

SOURCE is the file, or the folder that holds it; folders called train, val, test with one each are splits. Files of VIA
1 and 2 (`regions` an object or a list, perhaps inside a saved project), of VIA 3 (a project of images), and the csv of
both are read: `_via_files.py`. The class of a region is its one attribute, or the one called class, label, category,
name or type; without attributes all are of one class. Polylines are closed; points and lines have no area and are left
out; all are counted.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pydantic

from segcli.core.dataset_info import Category
from segcli.core.errors import DataError
from segcli.core.files import parsed, read_json
from segcli.core.plugins import nearest
from segcli.data.canonical import Draft, Record
from segcli.data.image import image_size
from segcli.sources import shapes
from segcli.sources.draft import Entry, draft, each
from segcli.sources.files import in_folder, note_names, some, split_folders
from segcli.sources.folders import SPLITS
from segcli.sources.formats import _via_files
from segcli.sources.images import locate, refuse_outside

CLASS = ("class", "label", "category", "name", "type")  # attributes that name a class, the likeliest first
Number = pydantic.FiniteFloat


class Outline(pydantic.BaseModel):
    """shape_attributes; which of them are needed depends on the shape's name."""

    name: str
    all_points_x: list[Number] | None = None
    all_points_y: list[Number] | None = None
    x: Number | None = None
    y: Number | None = None
    width: Number | None = None
    height: Number | None = None
    cx: Number | None = None
    cy: Number | None = None
    r: Number | None = None
    rx: Number | None = None
    ry: Number | None = None
    theta: Number | None = None


class Region(pydantic.BaseModel):
    shape_attributes: Outline
    region_attributes: dict[str, object] = {}


class Image(pydantic.BaseModel):
    filename: str = pydantic.Field(min_length=1)
    regions: dict[str, Region] | list[Region]


class Project(pydantic.RootModel[dict[str, Image]]):
    """Key (file name and size) -> image."""


Labels = tuple[Path, str, Image]  # the json, the image's key in it, and what stands there
NO_AREA = ("point", "line")
NEEDS: dict[str, tuple[str, ...]] = {
    **_via_files.VALUES,
    **dict.fromkeys(("polygon", "polyline"), ("all_points_x", "all_points_y")),
    **dict.fromkeys(NO_AREA, ()),
}


def detect(path: Path) -> bool:
    """Whether `path` is a file of VIA or a folder with one."""
    return _via_files.is_via(path) if path.is_file() else bool(split_folders(path, lambda folder: bool(_files(folder))))


def build(*, path: Path, attribute: str | None = None, category: str | None = None, trusted: bool = False) -> Draft:
    """Read the VIA file of `path`. attribute: of the regions, the one that is their class; category: the class of
    regions without attributes; trusted: file names may lead anywhere.

    Raises DataError for what is no VIA file, images that are nowhere, and regions whose class is unclear.
    """
    folders = {"all": path} if path.is_file() else split_folders(path, lambda folder: bool(_files(folder)))
    if not folders:
        raise DataError(f"{path}: no file of VIA (with regions and file names) is there")
    notes = [f"left aside: {file.relative_to(path)}" for file in _lost(path, folders)]
    found: list[tuple[str, Path, Labels]] = []
    for split, folder in folders.items():
        files = [folder] if folder.is_file() else _files(folder)
        if len(files) > 1:
            raise DataError(f"{folder}: holds several VIA files: {some(files)}", hint="give one as SOURCE")
        images = parsed(Project, _via_files.read(files[0]), files[0]).root
        paths = (
            locate([image.filename for image in images.values()], [files[0].parent], files[0].parent, files[0], trusted)
            if images
            else []
        )
        found += [(split, p, (files[0], *item)) for p, item in zip(paths, images.items(), strict=True)]
    named = _classes(found, attribute, category, notes)
    ids = {name: key for key, name in enumerate(sorted(set(named.values())) or [category or "object"], 1)}
    categories = [Category(name, key) for name, key in ids.items()]
    chosen = {key: ids[name] for key, name in named.items()}
    return draft(path, found, categories, lambda entries: _records(entries, chosen, notes, trusted), notes)


def _files(folder: Path) -> list[Path]:
    files = [*in_folder(folder, ".json"), *in_folder(folder, ".csv")]
    return [file for file in files if _via_files.is_via(file)]


def _lost(path: Path, folders: dict[str, Path]) -> list[Path]:
    """Files of json and tables in folders of other splits, and tables beside those that are read, without what tells a
    VIA file. Raises DataError for a json that is none: one that was cut off has lost the keys that tell what it is."""
    others = [p for p in in_folder(path, "") if p.name.lower() in SPLITS and p.is_dir()]
    files = [file for folder in others if folder not in folders.values() for file in sorted(folder.iterdir())]
    lost = [f for f in files if f.is_file() and f.suffix.lower() in (".json", ".csv")]
    for file in lost:
        if file.suffix.lower() == ".json":
            read_json(file)
    tables = [file for folder in folders.values() for file in in_folder(folder, ".csv")]
    return lost + [f for f in tables if not _via_files.is_via(f)]


def _regions(image: Image) -> list[tuple[str, Region]]:
    regions = image.regions
    return [*regions.items()] if isinstance(regions, dict) else [(str(i), r) for i, r in enumerate(regions)]


def _classes(
    found: list[tuple[str, Path, Labels]],
    attribute: str | None,
    category: str | None,
    notes: list[str],
) -> dict[tuple[Path, str, str], str]:
    """(json, image, region) -> class."""
    listed = [
        ((file, key, number), region.region_attributes)
        for _, _, (file, key, image) in found
        for number, region in _regions(image)
        if region.shape_attributes.name not in NO_AREA
    ]
    there = list(dict.fromkeys(name for _, attributes in listed for name in attributes))
    if attribute is None and there and category is None:
        attribute = there[0] if len(there) == 1 else next((n for n in CLASS for t in there if t.lower() == n), None)
        attribute = next((t for t in there if attribute and t.lower() == attribute.lower()), None)
        if attribute is None:
            raise DataError(
                f"{found[0][2][0]}: which attribute of the regions is their class? They have {some(there)}",
                hint="call it class in VIA, or say it with --set attribute=NAME",
            )
        if len(there) > 1:
            notes.append(f"the class of a region is its attribute {attribute!r}; it also has {some(there)}")
    if attribute is None or category is not None:
        if category is None:
            notes.append("no region has a class: all are called object (--set category=NAME calls them otherwise)")
        return {where: category or "object" for where, _ in listed}
    if found and attribute not in there:
        raise DataError(f"{found[0][2][0]}: no region has the attribute {attribute!r}", hint=nearest(attribute, there))
    return {where: _class(where, attributes.get(attribute), attribute) for where, attributes in listed}


def _class(where: tuple[Path, str, str], value: object, attribute: str) -> str:
    if isinstance(value, dict):  # checkboxes
        ticked = [name for name, on in value.items() if on]
        value = ticked[0] if len(ticked) == 1 else None
    if isinstance(value, (str, int)) and str(value).strip():
        return str(value).strip()
    file, image, number = where
    raise DataError(f"{file}: {image}, region {number}: its attribute {attribute!r} names no class: {value!r:.60}")


def _records(
    entries: Sequence[Entry[Labels]],
    chosen: dict[tuple[Path, str, str], int],
    notes: list[str],
    trusted: bool,
) -> Iterator[Record]:
    left: dict[str, list[str]] = {}
    lines: list[str] = []

    def read(entry: Entry[Labels]) -> Record:
        file, key, image = entry.label
        refuse_outside(image.filename, entry.path, file, trusted)
        size = image_size(entry.path)
        annotations = []
        for number, region in _regions(image):
            outline = region.shape_attributes
            if outline.name in NO_AREA:
                left.setdefault(outline.name, []).append(f"{image.filename} {number}")
                continue
            if outline.name == "polyline":
                lines.append(f"{image.filename} {number}")
            part = _polygon(outline, f"{file}: {key}, region {number}")
            annotations.append(shapes.of_polygons([part], size, chosen[file, key, number]))
        return Record(entry.file_name, size, entry.path, annotations)

    yield from each(entries, read)
    note_names(notes, lines, "polylines are closed to polygons")
    for name, places in left.items():
        note_names(notes, places, f"{name}s have no area and are left out")


def _polygon(outline: Outline, where: str) -> list[float]:
    if outline.name not in NEEDS:
        raise DataError(f"{where}: no shape is called {outline.name!r}", hint=nearest(outline.name, list(NEEDS)))
    missing = [key for key in NEEDS[outline.name] if getattr(outline, key) is None]
    if missing:
        raise DataError(f"{where}: the {outline.name} has no {missing[0]}")
    values = outline.model_dump(exclude_none=True)
    if outline.name == "rect":
        x, y, w, h = (values[key] for key in NEEDS["rect"])
        return shapes.rectangle(x, y, x + w, y + h)
    if outline.name == "circle":
        return shapes.ellipse(values["cx"], values["cy"], values["r"], values["r"])
    if outline.name == "ellipse":
        cx, cy, rx, ry = (values[key] for key in NEEDS["ellipse"])
        return shapes.ellipse(cx, cy, rx, ry, values.get("theta", 0.0))
    xs, ys = values["all_points_x"], values["all_points_y"]
    if len(xs) != len(ys) or len(xs) < 3:
        raise DataError(f"{where}: a {outline.name} of {len(xs)} x and {len(ys)} y, which are not three points")
    return [v for point in zip(xs, ys, strict=True) for v in point]
