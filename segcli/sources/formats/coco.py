"""COCO json files: polygons in parts, both kinds of RLE, crowds, id gaps, images without annotations, keypoints.

SOURCE is a json file, or a folder that has such files in it, in `annotations/`, or in folders called train, val, test
(as Roboflow writes them). Files of one name but for the split (`instances_train2017.json`, `instances_val2017.json`)
are one dataset with these splits; of several such groups `instances…` is taken, and the others are noted. Annotations
are kept as they are: polygons stay polygons, RLE stays RLE, and every further field (keypoints, DensePose) stays.
"""

import contextlib
import dataclasses
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pycocotools import mask as coco_mask

from segcli.core.coco_json import Annotation, CocoFile
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError
from segcli.core.files import read_json, write_json
from segcli.data.annotations import LARGEST_ID, encode, number, whole
from segcli.data.canonical import UNDECIDED, Draft, Record
from segcli.sources.draft import Entry, draft, each
from segcli.sources.export_files import Exported
from segcli.sources.files import has_keys, in_folder, some, without_empty
from segcli.sources.folders import SPLITS
from segcli.sources.formats._coco_head import about, categories, copy_side_files, declared_fields, side_files
from segcli.sources.images import locate, refuse_outside, size_of
from segcli.sources.streamed import Streamed, require_lists

SPLIT_WORD = re.compile(rf"(?:^|(?<=[_\-. ]))({'|'.join(sorted(SPLITS, key=len, reverse=True))})(?=[\d_\-. ]|$)", re.I)
BESIDE = re.compile(r"ann|label|json|coco|gt|meta", re.I)  # what folders of annotation files are called
NAMED = 10  # ids that a note lists
OWN = {"id", "file_name", "width", "height"}  # fields of an image that a Record has by itself


class Image(NamedTuple):
    """One image as a COCO file lists it. size: (H, W), None where the file does not say it; extra: its other fields."""

    id: int | str
    file_name: str
    size: tuple[int, int] | None
    extra: dict[str, object]


def detect(path: Path) -> bool:
    """Whether `path` is a COCO file or a folder with one."""
    return any(_is_coco(file) for file in json_files(path))


def build(*, path: Path, images: str | None = None, labels: str = "instances", trusted: bool = False) -> Draft:
    """Read the COCO files of `path`. images: the folder that file names are relative to; None: look for it. labels: how
    the names of the files begin that are read where there are others, too. trusted: file names may lead anywhere.

    Raises DataError for what is no COCO file, contradictory categories, and images that are nowhere.
    """
    files, notes = _choose(path, labels)
    parsed = {split: Streamed(file) for split, file in files.items()}
    parsed = without_empty(parsed, lambda one: bool(one.head["images"]) or len(one.code) > 0, notes)
    for one in parsed.values():
        require_lists(one.path, one.head)
    used = set().union(*(one.categories for one in parsed.values()))
    declared = categories({one.path: one.head["categories"] for one in parsed.values()}, used, notes)
    credits = about(next(iter(parsed.values())).head)
    found: list[tuple[str, Path, tuple[Image, Streamed]]] = []
    lost = 0
    for split, one in parsed.items():
        listed = unique(one.path, one.head.pop("images"), notes)
        if renamed := one.adopt(listed):
            notes.append(
                f"{one.path.name}: {renamed} annotations name their image as text or as a number where the "
                "image's own id is the other: read as the same"
            )
        if texts := {key for key in one.categories if isinstance(key, str) and number(key) is not None}:
            notes.append(
                f"{one.path.name}: category ids that annotations give as text ({some(sorted(texts))}) are numbers"
            )
        if far := [key for key in listed if isinstance(key, int) and key > LARGEST_ID]:
            notes.append(f"{one.path.name}: {len(far)} image ids of more than 63 bits are replaced")
        lost += _note_lost(one, listed, notes)
        places = [Path(images)] if images else usual_places(one.path, path)
        names = [image.file_name for image in listed.values()]
        paths = locate(names, places, path if path.is_dir() else path.parent, one.path, trusted)
        found += [(split, p, (image, one)) for p, image in zip(paths, listed.values(), strict=True)]
    for category in declared:
        if len(category.keypoints) > 1 and not category.flip_pairs:
            notes.append(
                f"{category.name}: none of its {len(category.keypoints)} keypoints is called as the left or right of "
                "another: a flipped image keeps their names"
            )
    out = draft(path, found, declared, lambda entries: _records(entries, trusted), notes, about=credits)
    out.lost = lost
    out.info = dataclasses.replace(out.info, declared=declared_fields(parsed.values()))
    for one in parsed.values():
        out.files |= side_files(one, path if path.is_dir() else path.parent, trusted)
    return out


def _records(entries: Sequence[Entry[tuple[Image, Streamed]]], trusted: bool) -> Iterator[Record]:
    with contextlib.ExitStack() as stack:
        opened: dict[Path, BinaryIO] = {}

        def read(entry: Entry[tuple[Image, Streamed]]) -> Record:
            image, labels = entry.label
            refuse_outside(image.file_name, entry.path, labels.path, trusted)
            if labels.path not in opened:
                opened[labels.path] = stack.enter_context(open(labels.path, "rb"))
            own = labels.read(labels.positions(image.id), opened[labels.path])
            key = whole(image.id)
            return Record(
                file_name=entry.file_name,
                size=size_of(entry.path, image.size, labels.path),
                image=entry.path,
                annotations=[_numbered(annotation) for annotation in own],
                id=key if key is not None and 0 <= key <= LARGEST_ID else None,
                extra=image.extra,
            )

        yield from each(entries, read)


def _numbered(annotation: Annotation) -> Annotation:
    """An annotation with its ids as numbers, where they are written as text."""
    out: Annotation = {**annotation, "id": whole(annotation.get("id"))}
    key = out.get("category_id")
    if isinstance(key, str) and number(key) is not None:
        out["category_id"] = number(key)
    return out


def json_files(path: Path) -> list[Path]:
    """The json files of a source, where COCO and Roboflow put them; without any there those in folders in
    `annotations/`, where LIVECell has them."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" else []
    places = [path, path / "annotations", *(path / word for word in SPLITS)]
    found = [file for place in places for file in in_folder(place, ".json")]
    return found or [file for depth in ("*", "*/*") for file in sorted(path.glob(f"annotations/{depth}/*.json"))]


def _is_coco(file: Path) -> bool:
    """By its keys; panoptic files are another format, also where they are written as COCO detections."""
    if not has_keys(file, "images", "annotations", "categories") or has_keys(file, "segments_info"):
        return False
    return not (file.stem.startswith("panoptic") and any(has_keys(p, "segments_info") for p in _beside(file)))


def _beside(file: Path) -> list[Path]:
    return sorted(file.parent.glob("panoptic*.json"))


def _choose(path: Path, labels: str) -> tuple[dict[str, Path], list[str]]:
    """split -> file of the dataset that `path` holds, and notes on files left aside."""
    there = json_files(path)
    files = [file for file in there if _is_coco(file)]
    if not files:
        if path.suffix.lower() == ".json":
            load(path)  # names what is wrong with it
        raise DataError(f"{path}: no COCO file (a json with images, annotations and categories) is there")
    if path.is_file():
        return {UNDECIDED: path}, []
    kinds = dict.fromkeys(_kind(path, file) for file in files)
    groups = {kind: by_split(path, [file for file in files if _kind(path, file) == kind]) for kind in kinds}
    preferred = [kind for kind in groups if kind.startswith(labels)] if len(groups) > 1 else [*groups]
    if len(preferred) != 1:
        listed = ", ".join(str(file.relative_to(path)) for file in files)
        raise DataError(
            f"{path}: holds several COCO datasets: {listed}",
            hint=f"give the wanted json file itself as SOURCE, or --set labels={next(iter(groups)) or 'NAME'}",
        )
    aside = [
        str(f.relative_to(path)) for kind, group in groups.items() if kind not in preferred for f in group.values()
    ]
    aside += [
        f"{file.relative_to(path)} (panoptic; --format panoptic reads it)"
        for file in there
        if has_keys(file, "segments_info")
    ]
    for file in there:  # a file that was cut off has lost the keys that tell what it is: no split may vanish so
        if file not in files and _kind(path, file) == preferred[0] and not has_keys(file, "segments_info"):
            read_json(file)
            aside.append(str(file.relative_to(path)))
    return groups[preferred[0]], [f"left aside: {name}" for name in aside]


def _kind(path: Path, file: Path) -> str:
    """What files of one dataset have in common: their folder in `annotations/`, and their name without the split."""
    inner = file.parent.relative_to(path / "annotations") if file.is_relative_to(path / "annotations") else Path()
    return (inner / split_of(file)[1]).as_posix() if inner.parts else split_of(file)[1]


def by_split(path: Path, files: list[Path]) -> dict[str, Path]:
    """split -> file. Raises DataError where two `files` of the source `path` are one split."""
    out: dict[str, Path] = {}
    for file in files:
        split, _ = split_of(file)
        if split in out:
            raise DataError(
                f"{path}: {out[split].relative_to(path)} and {file.relative_to(path)} both seem to be the split "
                f"{split!r}",
                hint="give one json file as SOURCE",
            )
        out[split] = file
    return out


def split_of(file: Path) -> tuple[str, str]:
    """(split, the file's name without it); the split may also be the folder's name."""
    match = SPLIT_WORD.search(file.stem)
    if match:
        return SPLITS[match[1].lower()], file.stem[: match.start()] + file.stem[match.end() :]
    return SPLITS.get(file.parent.name.lower(), UNDECIDED), file.stem


def load(path: Path, *, empty: bool = False) -> CocoFile:
    """A file with its three lists of objects. Raises DataError where one is missing, or there is no image (`empty`:
    unless there is no annotation either)."""
    return require_lists(path, read_json(path), empty=empty)


def _note_lost(labels: Streamed, images: Iterable[int | str], notes: list[str]) -> int:
    """Note the annotations of images that are not listed, by id, and count them. Raises DataError where that is all."""
    lost = labels.without_image([*images])
    if not len(lost):
        return 0
    with open(labels.path, "rb") as file:
        named = labels.read(lost[:NAMED], file)
    ids = [annotation.get("id") for annotation in named]
    if len(lost) == len(labels.code):
        raise DataError(
            f"{labels.path}: none of its {len(lost)} annotations belongs to a listed image (image_id "
            f"{named[0].get('image_id')!r}; the images' ids are {some([repr(key) for key in images], 3)})",
            hint='they must be equal, also in kind: 7 and "7" are not',
        )
    notes.append(
        f"{labels.path.name}: {len(lost)} annotations of images that are not listed are left out: "
        f"{some([*ids, *lost[NAMED:]], NAMED)}"  # beyond NAMED they are counted, not shown
    )
    return len(lost)


def unique(path: Path, images: Iterable[Mapping[str, object]], notes: list[str]) -> dict[int | str, Image]:
    """id -> image. Images listed twice are noted; raises DataError for one without id or name."""
    out: dict[int | str, Image] = {}
    twice = []
    for image in images:
        key, name = image.get("id"), image.get("file_name") or _of_address(image.get("coco_url"))
        if isinstance(key, float) and key.is_integer():
            key = int(key)
        if not isinstance(key, (int, str)) or not isinstance(name, str) or not name:
            raise DataError(f"{path}: the image {image!r:.200} needs an id and a file_name")
        if key in out:
            twice.append(key)
            continue
        height, width = whole(image.get("height")), whole(image.get("width"))
        size = (height, width) if height and width and min(height, width) > 0 else None
        out[key] = Image(key, name, size, {field: value for field, value in image.items() if field not in OWN})
    if twice:
        notes.append(f"{path.name}: {len(twice)} image ids stand twice, the first is kept: {some(twice, 10)}")
    return out


def _of_address(url: object) -> object:
    """What an image is called that LVIS names by its address alone: `train2017/000000391895.jpg`."""
    return "/".join(url.split("/")[-2:]) if isinstance(url, str) else url


def usual_places(file: Path, source: Path) -> list[Path]:
    """Where the images of an annotation file lie, as a rule: in the source; where that is the file or its folder, also
    in a folder of images beside, or right there if the name of the file's folder speaks of annotations."""
    match = SPLIT_WORD.search(file.stem)
    words = [] if match is None else [file.stem[match.start() :], match[1]]  # val2017, val
    places = []
    for folder in (file.parent, file.parent.parent):
        for inner in (folder, folder / "images", folder / "JPEGImages"):
            bare = inner == file.parent.parent and source in (file, file.parent) and not BESIDE.search(file.parent.name)
            places += [*(inner / word for word in words), *([] if bare else [inner])]
    return places


def export(image: Exported, names: dict[int, str], out: Path) -> None:
    """Copy one image into the folder of its split."""
    image.copy(out / image.split)


def finish(root: Path, out: Path, info: DatasetInfo, notes: list[str]) -> None:
    """Write annotations/instances_SPLIT.json, every field as it is, and panoptic_SPLIT.json with its PNGs."""
    for split in info.splits:
        data = read_json(root / "annotations" / f"{split}.json")
        sizes = {image["id"]: (image["height"], image["width"]) for image in data["images"]}
        for one in data["annotations"]:
            of = one.get("segmentation")
            if of and ("area" not in one or "bbox" not in one):
                rle = encode(of, sizes[one["image_id"]])
                one |= {"bbox": coco_mask.toBbox(rle).tolist(), "area": int(coco_mask.area(rle)), **one}
            one |= {"iscrowd": 0, "area": one["bbox"][2] * one["bbox"][3], **one}
        once: dict[str, object] = {"info": {"description": info.citation}}
        if info.declared:
            once |= {"declared": info.declared, "files": copy_side_files(root, out)}
        write_json(out / "annotations" / f"instances_{split}.json", {**data, **once})
        if info.panoptic:
            shutil.copytree(root / "panoptic" / split, out / "annotations" / f"panoptic_{split}")
            shutil.copyfile(root / "panoptic" / f"{split}.json", out / "annotations" / f"panoptic_{split}.json")
    if info.semantic and not info.panoptic:
        notes.append("the semantic maps have no place in this format")
