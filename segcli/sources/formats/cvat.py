"""CVAT for images 1.1: one annotations.xml; polygons, masks, boxes, ellipses, skeletons, with attributes and groups.

SOURCE is the xml, or the folder that holds it, with the images in `images/`, where a project's are in folders of
subsets, or beside it. Shapes of one label and one group of an image are one object. A mask is a row-by-row run-length
encoding of its box. A skeleton's points are keypoints: outside ones are not labelled, occluded ones not visible.
Polylines, points, cuboids and tags have no area: left out and counted. Layout and attributes as CVAT writes them:
cvat/apps/dataset_manager/formats/cvat.py in https://github.com/cvat-ai/cvat
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, fromstring
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError
from segcli.core.files import open_regular
from segcli.core.xml_tree import read_xml
from segcli.data.annotations import encode
from segcli.data.canonical import UNDECIDED, Draft, Record
from segcli.sources.draft import Entry, draft, each
from segcli.sources.export_files import Exported, check_names, note_rest, without_pixel
from segcli.sources.files import in_folder, note_names, some, split_folders
from segcli.sources.folders import SPLITS
from segcli.sources.formats._coco_head import category
from segcli.sources.formats._cvat_shapes import AREA, CROWD, NO_AREA, as_coco
from segcli.sources.images import is_there, locate, refuse_outside, size_of

MARK = re.compile(rb"<annotations>\s*<version>\s*1\.")  # near the beginning of every CVAT xml
XML, TAIL = "annotations.xml", "</annotations>\n"
Label = tuple[Path, Element]  # the xml, and the element of the image in it


def detect(path: Path) -> bool:
    """Whether `path` is an xml of CVAT, or a folder with one."""
    return _is_cvat(path) if path.is_file() else bool(split_folders(path, lambda folder: bool(_files(folder))))


def build(*, path: Path, trusted: bool = False) -> Draft:
    """Read the CVAT xml of `path`. trusted: names of images may lead anywhere.

    Raises DataError for a xml of a video, for broken shapes, and for images that are nowhere.
    """
    folders = {UNDECIDED: path} if path.is_file() else split_folders(path, lambda folder: bool(_files(folder)))
    if not folders:
        raise DataError(f"{path}: no annotations.xml of CVAT is there")
    notes: list[str] = []
    found: list[tuple[str, Path, Label]] = []
    categories: dict[str, Category] = {}
    for split, folder in folders.items():
        files = [folder] if folder.is_file() else _files(folder)
        if len(files) > 1:
            raise DataError(f"{folder}: holds several xml files of CVAT: {some(files)}", hint="give one as SOURCE")
        file, root = files[0], read_xml(files[0])
        if root.find("track") is not None:
            raise DataError(
                f"{file}: holds tracks of a video (CVAT for video 1.1), which are not read",
                hint='export it as "CVAT for images 1.1", with images',
            )
        declared = _declared(file, root, categories)
        if declared:
            notes.append(f"{file.name}: labels that its head does not declare: {some(declared)}")
        images = root.findall("image")
        names = [_name(file, image, number) for number, image in enumerate(images, 1)]
        places = [file.parent / "images", file.parent]
        paths = locate(names, places, file.parent, file, trusted) if images else []
        for image, place in zip(images, paths, strict=True):
            subset = (image.get("subset") or "").lower()
            found.append((SPLITS.get(subset, split), place, (file, image)))
    points = {name: one.keypoints for name, one in categories.items()}
    ids = {name: one.source_id for name, one in categories.items()}
    records = lambda entries: _records(entries, ids, points, notes, trusted)
    return draft(path, found, categories.values(), records, notes)


def _files(folder: Path) -> list[Path]:
    return [file for file in in_folder(folder, ".xml") if _is_cvat(file)]


def _is_cvat(file: Path) -> bool:
    if not file.is_file() or file.suffix.lower() != ".xml":
        return False
    with open_regular(file) as stream:
        return MARK.search(stream.read(4096)) is not None


def _name(file: Path, image: Element, number: int) -> str:
    """Where an image lies below images/: of a project in the folder of its subset."""
    name, subset = image.get("name"), image.get("subset")
    if not name:
        raise DataError(f"{file}: image {number} has no name")
    inner = f"{subset}/{name}" if subset else name
    return inner if subset and is_there(file.parent / "images" / inner) else name


def _declared(file: Path, root: Element, categories: dict[str, Category]) -> list[str]:
    """Add the labels of one file; -> those that shapes have and its head does not declare."""
    listed = [label for label in root.iter("label") if label.findtext("name")]
    parents = [(label.findtext("parent"), label.findtext("name")) for label in listed]
    names = [name or "" for parent, name in parents if not parent]
    used = {shape.get("label") or "" for image in root.findall("image") for shape in image if shape.tag in AREA}
    undeclared = sorted(name for name in used if name and name not in names)
    for name in (*names, *undeclared):
        keypoints = [child or "" for parent, child in parents if parent == name]
        svg = next((label.findtext("svg") or "" for label in listed if label.findtext("name") == name), "")
        entry = {"keypoints": keypoints, "skeleton": _edges(svg, keypoints)}
        one = category(file, len(categories) + 1, name, entry)
        if categories.setdefault(name, one).keypoints != one.keypoints:
            raise DataError(f"{file}: the skeleton {name!r} has other points than in another of the files")
    return undeclared if names else []


def _edges(svg: str, keypoints: list[str]) -> list[list[int]]:
    """The edges of a skeleton, counted from 1, out of the drawing that its label has."""
    tags = [dict(re.findall(r'([\w-]+)="([^"]*)"', tag)) for tag in re.findall(r"<(?:line|circle)\b[^>]*>", svg)]
    nodes = {tag.get("data-node-id"): tag.get("data-label-name") for tag in tags}
    places = {node: keypoints.index(name) + 1 for node, name in nodes.items() if name in keypoints}
    ends = [(tag.get("data-node-from"), tag.get("data-node-to")) for tag in tags if "data-node-from" in tag]
    return [[places[a], places[b]] for a, b in ends if a in places and b in places]


def _records(
    entries: Sequence[Entry[Label]],
    ids: Mapping[str, int],
    points: Mapping[str, Sequence[str]],
    notes: list[str],
    trusted: bool,
) -> Iterator[Record]:
    left: dict[str, list[str]] = {}

    def read(entry: Entry[Label]) -> Record:
        file, image = entry.label
        refuse_outside(image.get("name") or "", entry.path, file, trusted)
        where = f"{file}: {image.get('name')}"
        sides = image.get("height"), image.get("width")
        claimed = (int(sides[0] or 0), int(sides[1] or 0)) if all((s or "").isdecimal() for s in sides) else (0, 0)
        size = size_of(entry.path, claimed if min(claimed) > 0 else None, file)
        groups: dict[object, list[tuple[str, Element]]] = {}
        for number, shape in enumerate(image, 1):
            label = shape.get("label") or ""
            if shape.tag in NO_AREA:
                left.setdefault(shape.tag, []).append(entry.file_name)
                continue
            if shape.tag not in AREA:
                raise DataError(f"{where}: shape {number}: no shape of CVAT is called {shape.tag!r:.40}")
            if label not in ids:
                raise DataError(f"{where}: shape {number} ({shape.tag}) has no label")
            group = shape.get("group_id", "0")
            key = number if group == "0" else (label, group)
            groups.setdefault(key, []).append((f"{where}: shape {number} ({shape.tag}, {label})", shape))
        made = [as_coco(group, size, ids, points) for group in groups.values()]
        return Record(entry.file_name, size, entry.path, [one for one in made if one is not None])

    yield from each(entries, read)
    for tag, names in left.items():
        plural = tag if tag.endswith("s") else f"{tag}s"
        note_names(notes, names, f"{plural} have no area and are left out")


def export(image: Exported, names: dict[int, str], out: Path) -> None:
    """Copy one image into images/SPLIT and add it to annotations.xml: boxes as they are, polygons as polygons, of
    several parts in a group, RLE as masks; crowd is the attribute is_crowd, a predicted label's score is score."""
    file = out / XML
    if not file.is_file():
        file.write_text(_head(names.values()), encoding="utf-8")
    listed: list[str] = []
    for number, annotation in enumerate(image.annotations, 1):
        segmentation = annotation.get("segmentation")
        common = f'label={quoteattr(names[annotation["category_id"]])} source="manual" occluded="0"'
        inner = f'<attribute name="{CROWD}">true</attribute>' if annotation.get("iscrowd") else ""
        inner += f'<attribute name="score">{annotation["score"]:.4f}</attribute>' if "score" in annotation else ""
        if not segmentation:
            x, y, w, h = annotation["bbox"]
            sides = f'xtl="{x:.9g}" ytl="{y:.9g}" xbr="{x + w:.9g}" ybr="{y + h:.9g}"'
            listed.append(f'<box {common} {sides} z_order="0">{inner}</box>')
        elif isinstance(segmentation, list):
            parts = [part for part in segmentation if len(part) >= 6]
            group = f' group_id="{number}"' if len(parts) > 1 else ""
            for part in parts:
                points = ";".join(f"{x:.9g},{y:.9g}" for x, y in np.reshape(part, (-1, 2)).tolist())
                listed.append(f'<polygon {common} points="{points}" z_order="0"{group}>{inner}</polygon>')
        else:
            left, top, crop = image.crop(encode(segmentation, image.size))
            place = f'left="{left}" top="{top}" width="{crop.shape[1]}" height="{crop.shape[0]}"'
            listed.append(f'<mask {common} rle="{_runs(crop)}" {place} z_order="0">{inner}</mask>')
    folder = out / "images" / image.split
    name = quoteattr(image.copy(folder).relative_to(folder).as_posix())
    size = f'width="{image.size[1]}" height="{image.size[0]}"'
    opening = f'<image id="{len(image.used) - 1}" name={name} subset={quoteattr(image.split)} {size}>'
    with file.open("a", encoding="utf-8") as stream:
        stream.write("\n".join([f"  {opening}", *(f"    {one}" for one in listed), "  </image>\n"]))


left_out = without_pixel


def finish(root: Path, out: Path, info: DatasetInfo, notes: list[str]) -> None:
    """Close annotations.xml."""
    with (out / XML).open("a", encoding="utf-8") as stream:
        stream.write(TAIL)
    note_rest(info, notes)


def _head(names: Iterable[str]) -> str:
    """The beginning of annotations.xml. Raises DataError for a class that it can't name."""
    attribute = f"<attributes><attribute><name>{CROWD}</name><mutable>False</mutable><input_type>checkbox</input_type>"
    attribute += "<default_value>false</default_value><values></values></attribute>"
    attribute += "<attribute><name>score</name><mutable>False</mutable><input_type>text</input_type>"
    attribute += "<default_value></default_value><values></values></attribute></attributes>"
    labels = "\n".join(f"<label><name>{escape(name)}</name><type>any</type>{attribute}</label>" for name in names)
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
    head += f"  <meta><project><labels>\n{labels}\n  </labels></project></meta>\n"
    try:
        back = [label.findtext("name") or "" for label in fromstring(head + TAIL).iter("label")]
    except ParseError:
        back = []
    check_names(Path(XML), [*names], back)
    return head


def _runs(mask: np.ndarray) -> str:
    """The run lengths of a bool mask [h,w], row by row, beginning with those of nothing."""
    flat = mask.ravel()
    ends = np.flatnonzero(np.diff(flat, prepend=~flat[:1])).tolist()
    runs = np.diff([*ends, flat.size]).tolist()
    return ", ".join(map(str, [0, *runs] if flat[0] else runs))
