"""The files that VIA has, as one: its json of versions 1 and 2, the project of version 3, and both versions' csv.

Each becomes key -> {filename, regions}, as the json of VIA 2 has it, yet unchecked. Layouts: `pack_via_metadata` in
via-2.x.y/src/via.js, and _via_data.js, _via_metadata.js, _via_attribute.js and _via_import_export.js below
via-3.x.y/src/js, of https://gitlab.com/vgg/via
"""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pydantic

from segcli.core.errors import DataError
from segcli.core.files import open_regular, parse_json, parsed, read_json, read_text
from segcli.sources.files import cells_of, has_keys

METADATA = "_via_img_metadata"  # the key of a saved project of VIA 2
HEADING = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
COLUMNS = "metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata"  # of VIA 3
VIDEO, REMOTE = 4, (2, 3)  # a kind of file, and places of files that their src names: an address, a path
CHECKBOX = 2  # a kind of attribute
KINDS = ("point", "rect", "circle", "ellipse", "line", "polyline", "polygon", "extreme rect", "extreme circle")
VALUES = {"rect": ("x", "y", "width", "height"), "circle": ("cx", "cy", "r"), "ellipse": ("cx", "cy", "rx", "ry")}
Via = dict[str, dict[str, object]]


class Attribute(pydantic.BaseModel):
    aname: str
    type: int | None = None
    options: dict[str, str] = {}


class File(pydantic.BaseModel):
    fname: str
    type: int | None = None
    loc: int | None = None
    src: str = ""


class View(pydantic.BaseModel):
    fid_list: list[str | int]


class Metadata(pydantic.BaseModel):
    """One region, where xy is not empty: its kind, counted from 1, and its numbers."""

    vid: str | int
    z: list[float] = []
    xy: list[pydantic.FiniteFloat] = []
    av: dict[str, object] = {}


class Project(pydantic.BaseModel):
    attribute: dict[str, Attribute] = {}
    file: dict[str, File]
    view: dict[str, View]
    metadata: dict[str, Metadata]


def is_via(file: Path) -> bool:
    """Whether a json or csv is one of VIA's."""
    if file.suffix.lower() == ".json":
        return has_keys(file, "regions", "filename") or has_keys(file, "metadata", "view", "vid_list", "fname")
    if file.suffix.lower() != ".csv" or not file.is_file():
        return False
    with open_regular(file) as stream:
        head = stream.read(65_536).decode("utf-8-sig", "replace")
    return head.removeprefix("#").startswith(HEADING) or (head.startswith("#") and COLUMNS in head)


def read(file: Path) -> object:
    """The content of a file of VIA in the layout of VIA 2's json. Raises DataError."""
    if file.suffix.lower() == ".csv":
        text = read_text(file)
        return _old_table(file, text) if text.removeprefix("#").startswith(HEADING) else _new_table(file, text)
    content = read_json(file)
    if not isinstance(content, dict):
        return content
    if "metadata" in content and "view" in content:
        return _project(file, parsed(Project, content, file))
    return content.get(METADATA, content)


def _project(file: Path, project: Project) -> Via:
    """A project of VIA 3: every view is an image."""
    out: Via = {}
    for key, view in project.view.items():
        if len(view.fid_list) != 1:
            raise DataError(f"{file}: view {key} shows {len(view.fid_list)} files, and an image is one")
        one = project.file.get(str(view.fid_list[0]))
        if one is None:
            raise DataError(f"{file}: view {key}: no file has the number {view.fid_list[0]!r:.40}")
        if one.type == VIDEO:
            raise DataError(f"{file}: {one.fname} is a video", hint="save its frames as images, and label these")
        out[key] = {"filename": one.src if one.loc in REMOTE and one.src else one.fname, "regions": {}}
    for mid, metadata in project.metadata.items():
        if not metadata.xy:
            continue  # of the whole file, or of a time
        if str(metadata.vid) not in out:
            raise DataError(f"{file}: region {mid}: no view has the number {metadata.vid!r:.40}")
        regions = out[str(metadata.vid)]["regions"]
        assert isinstance(regions, dict)
        attributes = {}
        for key, value in metadata.av.items():
            kind = project.attribute.get(key, Attribute(aname=key))
            chosen = str(value).split(",") if kind.type == CHECKBOX else [str(value)]
            words = [kind.options.get(option, option) for option in chosen]
            attributes[kind.aname] = dict.fromkeys(words, True) if kind.type == CHECKBOX else words[0]
        regions[mid] = {
            "shape_attributes": _shape(metadata.xy, f"{file}: region {mid}"),
            "region_attributes": attributes,
        }
    return out


def _shape(xy: list[float], where: str) -> dict[str, object]:
    """[kind, number, …] of VIA 3 as VIA 2 has it."""
    number, values = xy[0], xy[1:]
    if number not in range(1, len(KINDS) + 1):
        raise DataError(f"{where}: no shape has the number {number:g}")
    name = KINDS[int(number) - 1]
    if name in VALUES:
        if len(values) != len(VALUES[name]):
            raise DataError(f"{where}: the {name} has {len(values)} numbers, not {len(VALUES[name])}")
        return {"name": name, **dict(zip(VALUES[name], values, strict=True))}
    if len(values) % 2 or not values:
        raise DataError(f"{where}: the {name} has {len(values)} numbers, which are not pairs of x and y")
    xs, ys = values[::2], values[1::2]
    if name == "extreme rect":  # four points, each on a side
        return {"name": "rect", "x": min(xs), "y": min(ys), "width": max(xs) - min(xs), "height": max(ys) - min(ys)}
    if name == "extreme circle":  # three points on it: all are as far from its centre
        points = np.array([xs, ys], float).T
        sides = 2 * (points[1:] - points[:1])
        if sides.shape != (2, 2) or abs(np.linalg.det(sides)) < 1e-9:
            raise DataError(f"{where}: no circle goes through its {len(xs)} points")
        centre = np.linalg.solve(sides, (points[1:] ** 2).sum(1) - (points[0] ** 2).sum())
        cx, cy, r = float(centre[0]), float(centre[1]), float(np.hypot(*(points[0] - centre)))
        return {"name": "circle", "cx": cx, "cy": cy, "r": r}
    return {"name": name, "all_points_x": xs, "all_points_y": ys}


def _lines(file: Path, text: Iterable[str], columns: int) -> Iterator[tuple[str, list[str]]]:
    """(place for messages, cells) of every line."""
    for where, cells in cells_of(text, file):
        if len(cells) < columns:
            raise DataError(f"{where}: has {len(cells)} cells, and the heading {columns}")
        yield where, cells


def _old_table(file: Path, text: str) -> Via:
    """A csv of VIA 1 and 2: a line a region, and one without a region for an image that has none."""
    out: Via = {}
    for where, cells in itertools.islice(_lines(file, text.splitlines(), len(HEADING.split(","))), 1, None):
        name, size, number, shape = cells[0], cells[1], cells[4], parse_json(cells[5], where)
        image = out.setdefault(f"{name}{size}", {"filename": name, "regions": {}})
        regions = image["regions"]
        assert isinstance(regions, dict)
        if shape:
            if number in regions:
                raise DataError(f"{where}: {name} has a region {number} already")
            regions[number] = {"shape_attributes": shape, "region_attributes": parse_json(cells[6], where)}
    return out


def _new_table(file: Path, text: str) -> Via:
    """A csv of VIA 3: comments with the attributes, then a line a region."""
    content: dict[str, dict[str, object]] = {"attribute": {}, "file": {}, "view": {}, "metadata": {}}
    for line in text.splitlines():
        if line.startswith("# ATTRIBUTE"):
            given = parse_json(line.partition("=")[2], f"{file}: {line[:20]}")
            names = given.items() if isinstance(given, dict) else ()
            content["attribute"] = {key: {"aname": one} if isinstance(one, str) else one for key, one in names}
    body = ("" if line.startswith("#") else line for line in text.splitlines())
    for where, cells in _lines(file, body, len(COLUMNS.split(","))):
        listed = parse_json(cells[1], where)
        if not isinstance(listed, list) or len(listed) != 1 or not isinstance(listed[0], str):
            raise DataError(f"{where}: its files {cells[1]!r:.60} are not one image")
        content["file"][listed[0]] = {"fname": listed[0]}
        content["view"][listed[0]] = {"fid_list": listed}
        z, xy, av = (parse_json(cell, where) for cell in cells[3:6])
        if z:
            raise DataError(f"{where}: is a time of a video", hint="save its frames as images, and label these")
        content["metadata"][cells[0]] = {"vid": listed[0], "xy": xy, "av": av}
    return _project(file, parsed(Project, content, file))
