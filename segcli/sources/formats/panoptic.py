"""COCO panoptic: a json of segments and a folder of PNGs with their ids (id = R + 256 G + 65536 B, 0 = void).

SOURCE is the json, or the folder that holds it. Files of one name but for the split are one dataset. The PNGs lie in a
folder called as the json. Things become instances, too, crowds among them; stuff is in the maps alone. A folder that
has COCO instances as well is read as those, unless --format says panoptic.
"""

from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pydantic

from segcli.core.coco_json import Annotation, SegmentInfo
from segcli.core.errors import DataError
from segcli.core.files import parsed, read_bytes, read_json, resolve
from segcli.data.annotations import whole
from segcli.data.canonical import UNDECIDED, Draft, Record
from segcli.data.image import image_size
from segcli.ops.map_values import distinct
from segcli.sources.draft import Entry, draft, each
from segcli.sources.files import empty_split, find_files, has_keys, some, without_empty
from segcli.sources.formats import coco
from segcli.sources.formats._coco_head import about
from segcli.sources.formats._coco_head import categories as categories_of
from segcli.sources.images import is_folder, is_there, locate, refuse_outside
from segcli.sources.mask_meaning.mask_files import check_size, read_pixels
from segcli.sources.shapes import of_pixels


class Segment(pydantic.BaseModel, extra="allow"):
    id: int = pydantic.Field(gt=0, lt=2**24)
    category_id: int
    iscrowd: int = pydantic.Field(0, ge=0, le=1)


class Labels(pydantic.BaseModel):
    """One entry of `annotations`."""

    image_id: int | str
    file_name: str = pydantic.Field(min_length=1)
    segments_info: list[Segment]


def detect(path: Path) -> bool:
    """Whether `path` is a panoptic json, or a folder with one and no COCO instances beside it."""
    return bool(_files(path)) and not coco.detect(path)


def build(*, path: Path, images: str | None = None, maps: str | None = None, trusted: bool = False) -> Draft:
    """Read the panoptic files of `path`. images, maps: the folders of images and of PNGs; None: look for them. trusted:
    file names may lead anywhere.

    Raises DataError for what is no panoptic file, and images or maps that are nowhere.
    """
    files = _choose(path)
    notes = [empty_split(split) if split else f"left aside: {file.name}" for file, split in _lost(path, files)]
    return read(path, files, notes, images=images, maps=maps, trusted=trusted)


def read(
    path: Path,
    files: dict[str, Path],
    notes: list[str],
    *,
    images: str | None = None,
    maps: str | None = None,
    trusted: bool = False,
) -> Draft:
    """The draft of the panoptic `files` (split -> json) of the source `path`; the rest as in `build`."""
    loaded = {split: coco.load(file, empty=True) for split, file in files.items()}
    loaded = without_empty(loaded, lambda data: bool(data["images"]), notes)
    categories = categories_of({files[split]: data["categories"] for split, data in loaded.items()})
    found: list[tuple[str, Path, tuple[coco.Image, Labels, Path]]] = []
    for split, data in loaded.items():
        file = files[split]
        labels = {}
        for number, entry in enumerate(data["annotations"]):
            label = parsed(Labels, entry, f"{file}: annotations.{number}")
            if label.image_id in labels:
                raise DataError(f"{file}: image {label.image_id} has two entries")
            labels[label.image_id] = label
        there = coco.unique(file, data["images"], notes)
        bare = [image.file_name for key, image in there.items() if key not in labels]
        lost = [key for key in labels if key not in there]
        if bare:
            notes.append(f"{file.name}: {len(bare)} images have no entry and are left out: {some(bare)}")
        if lost:
            notes.append(f"{file.name}: {len(lost)} entries belong to no image and are left out: {some(lost)}")
        listed = [image for key, image in there.items() if key in labels]
        if not listed:
            raise DataError(f"{file}: no image has an entry")
        base = path if path.is_dir() else path.parent
        usual = [Path(images)] if images else coco.usual_places(file, path)
        pngs = Path(maps) if maps else _maps(file)
        pictures = {pngs / label.file_name for label in labels.values()}
        paths = locate([image.file_name for image in listed], usual, base, file, trusted, pictures)
        found += [(split, p, (image, labels[image.id], pngs)) for p, image in zip(paths, listed, strict=True)]
    things = {category.source_id: category.thing for category in categories}
    read = partial(_record, things=things, trusted=trusted)
    records = lambda entries: each(entries, read)
    said = about(next(iter(loaded.values())))
    return draft(path, found, categories, records, notes, about=said, panoptic=True, measured=True)


def _files(path: Path) -> list[Path]:
    return [file for file in coco.json_files(path) if has_keys(file, "segments_info", "images", "categories")]


def _choose(path: Path) -> dict[str, Path]:
    """split -> file."""
    files = _files(path)
    if path.is_file():
        coco.load(path)
    if not files:
        raise DataError(f"{path}: no COCO panoptic json (with segments_info) is there")
    return {UNDECIDED: path} if path.is_file() else coco.by_split(path, files)


def _lost(path: Path, files: dict[str, Path]) -> list[tuple[Path, str]]:
    """Files called as those that are read, of other splits, without the keys of such files; each with its split where
    that has no image. Raises DataError for one that is no json: a file that was cut off has lost the keys that tell
    what it is, and no split may vanish so."""
    kinds = {coco.split_of(file)[1] for file in files.values()} if path.is_dir() else set()
    out = []
    for file in coco.json_files(path):
        if file not in files.values() and coco.split_of(file)[1] in kinds:
            content = read_json(file)
            empty = isinstance(content, dict) and content.get("images") == [] == content.get("annotations")
            out.append((file, coco.split_of(file)[0] if empty else ""))
    return out


def _maps(file: Path) -> Path:
    places = [file.with_suffix(""), file.parent / f"{file.stem}_masks", file.parent / "masks"]
    place = next((p for p in places if is_folder(p) and next(find_files(p, ".png"), None) is not None), None)
    if place is None and next(file.parent.glob("*.png"), None) is not None:
        place = file.parent
    if place is None:
        raise DataError(f"{file}: its PNGs are not there", hint=f"put them in {file.with_suffix('')}/")
    return place


def _record(entry: Entry[tuple[coco.Image, Labels, Path]], things: dict[int, bool], trusted: bool) -> Record:
    file_name, path, (image, label, maps) = entry.file_name, entry.path, entry.label
    refuse_outside(image.file_name, path, file_name, trusted)
    file = resolve(maps, label.file_name, f"{maps}: the map of {file_name}", trusted=trusted)
    if not is_there(file):
        raise DataError(f"{file}: there is no such panoptic PNG")
    values, mode = read_pixels(file)
    if values.ndim != 3 or values.shape[2] < 3 or values.dtype != np.uint8:
        raise DataError(f"{file}: a panoptic map is RGB with 8 bits (id = R + 256 G + 65536 B), not {mode}")
    ids = values[:, :, :3].astype(np.int32) @ np.array([1, 256, 65536], np.int32)
    size = image.size or image_size(path)
    check_size(file, ids, path, size)
    painted, declared = set(distinct(ids).tolist()) - {0}, [segment.id for segment in label.segments_info]
    problem = None
    for key in sorted(painted ^ set(declared)):
        where = ("the PNG", "the json") if key in painted else ("the json", "the PNG")
        problem = problem or f"segment {key} is in {where[0]}, but not in {where[1]} ({file})"
    if len(set(declared)) < len(declared):
        problem = problem or f"its json entry names a segment twice ({file})"
    annotations: list[Annotation] = []
    for segment in label.segments_info:
        if segment.category_id not in things:
            problem = problem or f"segment {segment.id}: category id {segment.category_id} is not declared ({file})"
        elif things[segment.category_id] and (found := of_pixels(ids == segment.id, segment.category_id)):
            annotations.append({**found, "iscrowd": segment.iscrowd, "segment_id": segment.id})
    return Record(
        file_name=file_name,
        size=size,
        image=path,
        annotations=annotations,
        id=whole(image.id),
        panoptic=read_bytes(file),
        segments=[cast(SegmentInfo, segment.model_dump()) for segment in label.segments_info],
        extra=image.extra,
        problem=problem,
    )
