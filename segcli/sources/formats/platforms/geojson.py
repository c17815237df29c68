"""GeoJSON in pixels, a file an image, as QuPath exports it and `predict --save geojson` writes it.

SOURCE is a file, or a folder of them with the images anywhere below, each called as its image (`a.geojson` or
`a.tif.geojson`). Polygons and multipolygons are objects, with their holes; an object's children are objects, too. Its
class is its `classification`, of several names joined by ": " as QuPath writes them; without one anywhere its property
`class`, `label` or `category`, else all are of one class. What has no area or no class, another plane of a stack, the
nuclei of cells, the cores of an array, images without a file and other json are left out, counted. Layout:
QuPathTypeAdapters, ROITypeAdapters and GsonTools below qupath-core/src/main/java/qupath/lib/io in
https://github.com/qupath/qupath; RFC 7946
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pydantic

from segcli.core.dataset_info import Category
from segcli.core.errors import DataError
from segcli.core.files import parsed, read_json
from segcli.data.canonical import Draft, Record
from segcli.data.image import image_size
from segcli.sources.draft import Entry, draft, each
from segcli.sources.files import LOOK, find_files, has_keys, note_bare, some, sort_out, split_of
from segcli.sources.images import by_name
from segcli.sources.shapes import of_rings

ENDS = (".geojson", ".json")
CLASS = ("class", "label", "category")
CORE = "tmaCore"
Point = Annotated[list[pydantic.FiniteFloat], pydantic.Field(min_length=2)]  # x, y, perhaps a height
Rings = list[list[Point]]


class Geometry(pydantic.BaseModel):
    type: str | None = None
    coordinates: list[object] = []
    plane: dict[str, int] = {}


class Feature(pydantic.BaseModel):
    geometry: Geometry | None = None
    nucleusGeometry: dict[str, object] | None = None
    properties: dict[str, object] | None = None


Found = tuple[str, Feature]  # place for messages, and what stands there


def detect(path: Path) -> bool:
    """Whether `path` is a file of GeoJSON, or a folder with one."""
    if path.is_file():
        return _is_geojson(path)
    files = (file for ending in ENDS for file in itertools.islice(find_files(path, ending), LOOK))
    return path.is_dir() and any(_is_geojson(file) for file in files)


def build(*, path: Path, attribute: str | None = None, category: str | None = None) -> Draft:
    """Read the GeoJSON of `path`. attribute: of the properties, the one that is an object's class; category: the class
    of all objects. Images are found by their name.

    Raises DataError for what is no GeoJSON, coordinates of a map, and images that are nowhere.
    """
    root = path if path.is_dir() else path.parent
    notes: list[str] = []
    files = sort_out(find_files(path, *ENDS), _is_geojson, notes, "json files are no GeoJSON and are left aside")
    if not files:
        raise DataError(f"{path}: no GeoJSON (features with a geometry) is there")
    places = by_name([file.stem for file in files], root, files[0])
    if len(places) < len(files):
        twice = next(f for f in files if sum(f.stem == other.stem for other in files) > 1)
        raise DataError(f"{path}: several files are called {twice.stem}, as one image is", hint="keep one")
    properties = [feature.properties or {} for file in files for _, feature in _features(file)]
    if attribute is None and category is None and not any(_named(one, None) for one in properties):
        attribute = next((key for key in CLASS if any(_named(one, key) for one in properties)), None)
        notes += [f"the class of an object is its property {attribute!r}"] if attribute else []
    used = {_named(one, attribute) for one in properties} - {""}
    if attribute is not None and not used:
        raise DataError(f"{files[0]}: no object has the property {attribute!r}")
    single = category or ("object" if not used else None)
    ids = {name: key for key, name in enumerate([single] if single else sorted(used), 1)}
    found = [(split_of(file, root), places[file.stem], file) for file in files]
    note_bare(notes, path, places.values(), "images have no GeoJSON and are left out")

    def records(entries: Sequence[Entry[Path]]) -> Iterator[Record]:
        left: dict[str, list[str]] = {}

        def read(entry: Entry[Path]) -> Record:
            size = image_size(entry.path)
            made = []
            for where, feature in _features(entry.label):
                name = single or _named(feature.properties or {}, attribute)
                if feature.nucleusGeometry is not None:
                    left.setdefault("nuclei of cells are left out, their cells are read", []).append(entry.file_name)
                if (why := _without(feature, name)) is not None:
                    left.setdefault(f"{why} are left out", []).append(entry.file_name)
                    continue
                made.append(of_rings(_polygons(feature, where), size, ids[name]))
            return Record(entry.file_name, size, entry.path, made)

        yield from each(entries, read)
        for what, names in left.items():
            notes.append(f"{len(names)} {what}: {some(list(dict.fromkeys(names)))}")

    return draft(path, found, [Category(name, key) for name, key in ids.items()], records, notes)


def _is_geojson(file: Path) -> bool:
    if file.suffix.lower() not in ENDS:
        return False
    return has_keys(file, "FeatureCollection", "features") or has_keys(file, "geometry", "coordinates", "properties")


def _features(file: Path) -> Iterator[Found]:
    """Everything in a file: a collection, a list, or a single feature, and the children of each. Raises DataError."""
    content = read_json(file)
    if isinstance(content, dict) and "crs" in content:
        raise DataError(f"{file}: has the coordinates of a map (crs)", hint="export it in pixels of the image")
    listed = content
    if isinstance(content, dict):
        listed = [content] if "geometry" in content else content.get("features")
    if not isinstance(listed, list):
        raise DataError(f"{file}: features is no list")
    waiting = [(f"{file}: feature {number}", one) for number, one in enumerate(listed)][::-1]
    while waiting:
        where, one = waiting.pop()
        feature = parsed(Feature, one, where)
        yield where, feature
        own = feature.properties or {}
        children = own.get("childObjects", own.get("children")) or []
        if not isinstance(children, list):
            raise DataError(f"{where}: its children are no list")
        waiting += [(f"{where}, child {number}", child) for number, child in enumerate(children)][::-1]


def _named(properties: dict[str, object], attribute: str | None) -> str:
    """The class that the properties give; empty where they give none."""
    value = properties.get(attribute) if attribute is not None else properties.get("classification")
    if isinstance(value, dict):
        names = value.get("names", value.get("name"))
        value = ": ".join(map(str, names)) if isinstance(names, list) else names
    return value.strip() if isinstance(value, str) else ""


def _without(feature: Feature, name: str) -> str | None:
    """Why a feature is no object; None where it is one."""
    geometry = feature.geometry
    if (feature.properties or {}).get("objectType") == CORE:
        return "cores of an array"
    if geometry is None or geometry.type is None:
        return "features without a geometry"
    if geometry.type not in ("Polygon", "MultiPolygon"):
        return f"geometries of the kind {geometry.type}"
    if any(geometry.plane.get(axis, 0) for axis in "zt"):
        return "objects in other planes than the first"
    return None if name else "objects without a class"


def _polygons(feature: Feature, where: str) -> list[list[np.ndarray]]:
    """Of each polygon its outline, then its holes [N,2], without the point that closes a ring."""
    assert feature.geometry is not None  # `_without` has seen it
    single = feature.geometry.type == "Polygon"
    given = [feature.geometry.coordinates] if single else feature.geometry.coordinates
    out = []
    for rings in parsed(list[Rings], given, f"{where}: coordinates"):
        made = [np.array([point[:2] for point in ring], float) for ring in rings]
        made = [ring[:-1] if len(ring) > 1 and (ring[0] == ring[-1]).all() else ring for ring in made]
        if not made or any(len(ring) < 3 for ring in made):
            raise DataError(f"{where}: a polygon has no outline, or one of fewer than three points")
        out.append(made)
    if not out:
        raise DataError(f"{where}: has no polygon")
    return out
