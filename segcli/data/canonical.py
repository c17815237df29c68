"""Write the canonical dataset folder, the only one that segcli reads. It appears whole or not at all.

info.json                  DatasetInfo
prepared.json              what it was made from, with which settings, and what was left out
images/FILE_NAME           files as they were, byte by byte; with --link they stay below info.image_root instead
annotations/SPLIT.json     COCO: images (file_name is the path below images/), annotations, categories (source ids)
annotations/SPLIT.index.npz   where each image's annotations stand in it (see index.py)
splits/SPLIT.txt           its file names, one a line: what --split-by FILE takes
semantic/SPLIT/NAME.png    8-bit labels, 255 = ignore; for more than 254 classes 16-bit ones, 65535 = ignore. NAME is
                           the last part of file_name, no suffix; where an image before it has that, the whole path,
                           which is then said as the image's `label_map`
panoptic/SPLIT.json        COCO panoptic, with panoptic/SPLIT/NAME.png (id = R + 256 G + 65536 B, 0 = void)
"""

import contextlib
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, cast

import pydantic
from tqdm import tqdm

from segcli.core import folders
from segcli.core.building import building
from segcli.core.coco_json import Annotation, CategoryEntry, ImageEntry, SegmentInfo
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, SegcliError, UsageError
from segcli.core.files import parsed, read_json
from segcli.data import fingerprint
from segcli.data.annotations import annotation_problems, area_of, image_problems, load, load_panoptic
from segcli.data.findings import Item
from segcli.data.index import Writer

SEE_ALL = "segcli prepare SOURCE --check lists everything that is wrong, --fix mends what has one meaning"
UNDECIDED = "all"  # the one split of a source that has none


class Prepared(pydantic.BaseModel):
    """prepared.json, as far as it is read again."""

    settings: dict[str, Any] = {}
    notes: list[str] = []
    repairs: list[dict[str, Any]] = []


class Entry(Protocol):
    """One image that a source has, before it is read. `file_name`: its path below the image root, "/" between parts."""

    @property
    def file_name(self) -> str: ...


@dataclasses.dataclass
class Record:
    """One image with its labels, ready to be written.

    size: (H, W). image: the file to copy or to link, or the content of a new file. annotations: COCO dicts whose
    category_id is a source id; `id` is kept where it is unique in the dataset. semantic, panoptic: PNG content;
    segments: COCO's segments_info. extra: further fields of the COCO image. problem: what is wrong with the maps, where
    that is known, or the error that kept its labels from being read; such a record is written for the doctor alone.
    """

    file_name: str
    size: tuple[int, int]
    image: Path | bytes
    annotations: list[Annotation]
    id: int | None = None
    semantic: bytes | None = None
    panoptic: bytes | None = None
    segments: list[SegmentInfo] = dataclasses.field(default_factory=list)
    extra: dict[str, object] = dataclasses.field(default_factory=dict)
    problem: str | DataError | None = None


@dataclasses.dataclass
class Draft:
    """What a converter or a generator offers: a description, its images by split, and how to read them.

    The one split UNDECIDED means that the source has none. image_root: the folder that file names are relative to, None
    where images are made. notes: sentences on what was left out or changed; `records` may add to them. refused: images
    whose labels could not be read, as far as they were met. stored: whether some images stand inside label files.
    masks: what mask pictures were taken for: {"read_as", "said": in one line, "ignored": values that mean nothing}.
    lost: annotations of the source that belong to none of its images.
    """

    info: DatasetInfo
    splits: dict[str, list[Any]]
    records: Callable[[Sequence[Any]], Iterator[Record]]
    image_root: Path | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    refused: list[Item] = dataclasses.field(default_factory=list)
    stored: bool = False
    masks: dict[str, Any] = dataclasses.field(default_factory=dict)
    lost: int = 0


def write(
    out: Path,
    info: DatasetInfo,
    splits: Mapping[str, Iterable[Record]],
    *,
    settings: Mapping[str, Any] | None = None,
    notes: list[str] | None = None,
    repairs: list[Any] | None = None,
    masks: Mapping[str, Any] | None = None,
    link: bool = False,
    strict: bool = True,
    force: bool = False,
    total: int | None = None,
) -> DatasetInfo:
    """Write the folder `out` and return its description with splits and fingerprint filled in.

    Everything goes into a hidden folder beside `out`, which takes the name at the end. `settings` (JSON values) say
    what the dataset is made of: an `out` with equal settings is left alone, any other is replaced only with `force`.
    With `link`, info.image_root must be set and no image is copied. `notes` and
    `repairs` (dataclasses; what --fix did) are written last, so that they may still grow. masks: see `Draft`.
    strict=False writes what can't be read later, too (missing images, broken annotations), for the doctor to list.
    Raises DataError where `out` is something else or a file name repeats; SegcliError where the disk refuses;
    UsageError for a link to images that are made.
    """
    wanted: dict[str, Any] = json.loads(json.dumps(dict(settings or {})))
    if found := existing(out, wanted, force):
        return found
    if not folders.is_empty(out):
        splits = {name: _elsewhere(records, out) for name, records in splits.items()}
    try:
        with building(out) as folder:
            counts, names, ids = {}, _Names(), _Ids()
            with tqdm(total=total, desc=f"writing {out.name}", unit="image", **_pace()) as bar:
                for split, records in splits.items():
                    with contextlib.ExitStack() as kept:
                        counts[split] = _write_split(folder, split, info, records, names, ids, link, strict, bar, kept)
            info = dataclasses.replace(info, splits=counts)
            if strict:  # the doctor's copy goes at once
                state, mark = fingerprint.measure(folder, info)
                info = dataclasses.replace(info, fingerprint=mark)
            said = [*(notes or []), *ids.notes()]
            write_json(folder / "info.json", info.to_json(), indent=1)
            facts: dict[str, Any] = {"version": 1, "settings": wanted, "notes": said}
            if masks:
                facts["masks"] = dict(masks)
            if repairs is not None:
                facts["repairs"] = [dataclasses.asdict(repair) for repair in repairs]
            write_json(folder / "prepared.json", facts, indent=1)
            folders.list_files(folder)
            info = _publish(folder, out, info, wanted, force)
            if strict:
                fingerprint.keep(out, state, mark)
            return info
    except OSError as error:
        raise SegcliError(f"{error.filename or out}: can't be written: {error.strerror}") from error


def existing(out: Path, settings: Mapping[str, Any], force: bool = False) -> DatasetInfo | None:
    """The description of `out` where it was made with these settings; None where it is to be written.

    Raises DataError where `out` holds another dataset, which only `force` replaces, or anything else, such as a file
    of the user's in it: nothing does.
    """
    if folders.is_empty(out):
        return None
    hint = "choose another --out, or replace it with --force"
    if not (out / "info.json").is_file():
        raise DataError(f"{out}: exists and is not a prepared dataset", hint="choose another --out")
    if force:
        folders.refuse_foreign(out, _of_earlier(out))
        return None
    before = prepared(out).get("settings", {})
    wanted = json.loads(json.dumps(dict(settings)))
    if before != wanted:
        differing = sorted(k for k in before.keys() | wanted.keys() if before.get(k) != wanted.get(k))
        raise DataError(f"{out}: holds a dataset prepared differently ({', '.join(differing)})", hint=hint)
    return DatasetInfo.load(out)


def _of_earlier(out: Path) -> set[str]:
    """The names of what an earlier version wrote, which kept no list: what info.json and the annotations speak of."""
    if not (out / "prepared.json").is_file():
        return set()
    info = DatasetInfo.load(out)
    names = {"info.json", "prepared.json", "checked.json"}
    for split in info.splits:
        names |= {f"annotations/{split}.json", f"annotations/{split}.index.npz", f"splits/{split}.txt"}
        for image in load(out / "annotations" / f"{split}.json")[0]:
            if isinstance(image.get("file_name"), str):
                names |= {f"images/{image['file_name']}", f"semantic/{split}/{label_name(image)}"}
        maps = out / "panoptic" / f"{split}.json"
        names |= {f"panoptic/{split}.json"} if info.panoptic else set()
        names |= {f"panoptic/{split}/{e.get('file_name')}" for e in (load_panoptic(maps) if info.panoptic else ())}
    return names


def _elsewhere(records: Iterable[Record], out: Path) -> Iterator[Record]:
    """The records, none of whose images lies in `out`, which is about to be replaced."""
    place = folders.real(out)
    for record in records:
        if isinstance(record.image, Path) and Path(os.path.realpath(record.image)).is_relative_to(place):
            raise UsageError(f"--out {out}: holds the source's image {record.image}", hint="choose another --out")
        yield record


def prepared(root: Path) -> dict[str, Any]:
    """The content of `prepared.json`: {"version", "settings", "notes", "masks" where labels were pictures, "repairs"
    after --fix}, or empty."""
    path = root / "prepared.json"
    if not os.path.lexists(path):
        return {}
    found = read_json(path)
    parsed(Prepared, found, path)
    return dict(found)


def masks_read(root: Path) -> dict[str, Any]:
    """What prepared.json says of mask pictures (see `Draft`); empty where it says nothing."""
    facts = prepared(root).get("masks")
    return facts if isinstance(facts, dict) else {}


def label_name(image: ImageEntry) -> str:
    """The name of a COCO image's semantic PNG inside the folder of its split."""
    return str(image.get("label_map") or PurePosixPath(str(image["file_name"])).stem + ".png")


def coco_categories(info: DatasetInfo) -> list[CategoryEntry]:
    """info's categories as COCO declares them."""
    out = []
    for category, colour in zip(info.categories, info.colours(), strict=True):
        entry: CategoryEntry = {"id": category.source_id, "name": category.name, "isthing": int(category.thing)}
        entry["color"] = list(colour)
        if category.keypoints:
            entry["keypoints"] = list(category.keypoints)
            entry["skeleton"] = [[a + 1, b + 1] for a, b in category.skeleton]  # COCO counts from 1
        out.append(entry)
    return out


def _pace() -> dict[str, Any]:
    """How tqdm reports: on stderr, after two seconds; in a log (no terminal) a line now and then."""
    terminal = sys.stderr.isatty()
    return {"file": sys.stderr, "delay": 2, "leave": not terminal, "mininterval": 0.1 if terminal else 10}


class _Names:
    """File names used so far, and what each stands for."""

    def __init__(self) -> None:
        self.sources: dict[str, Path | None] = {}

    def add(self, record: Record) -> bool:
        """True where the file is new; DataError where the name already stands for another file, or leads outside."""
        name = PurePosixPath(record.file_name)
        if name.is_absolute() or ".." in name.parts or not name.parts:
            raise DataError(f"{record.file_name!r}: not a path below the image folder")
        source = record.image if isinstance(record.image, Path) else None
        if record.file_name in self.sources:
            if source is None or self.sources[record.file_name] != source:
                raise DataError(
                    f"{record.file_name}: two images have this name: {self.sources[record.file_name]} and {source}"
                )
            return False
        self.sources[record.file_name] = source
        return True


class _Ids:
    """Image and annotation ids, unique over all splits: the source's own where that is free, else the next one."""

    def __init__(self) -> None:
        self.used: dict[str, set[int]] = {"image": set(), "annotation": set()}
        self.highest = {"image": 0, "annotation": 0}
        self.changed = {"image": 0, "annotation": 0}

    def take(self, kind: str, wanted: int | None) -> int:
        value = wanted
        if value is None or value in self.used[kind]:
            self.changed[kind] += value is not None
            value = self.highest[kind] + 1
        self.used[kind].add(value)
        self.highest[kind] = max(self.highest[kind], value)
        return value

    def notes(self) -> list[str]:
        return [f"{n} {kind} ids were used twice and are renumbered" for kind, n in self.changed.items() if n]


def _write_split(
    root: Path,
    split: str,
    info: DatasetInfo,
    records: Iterable[Record],
    names: _Names,
    ids: _Ids,
    link: bool,
    strict: bool,
    bar: Any,
    kept: contextlib.ExitStack,
) -> int:
    images: list[ImageEntry] = []
    labels: dict[str, str] = {}
    declared = set(info.source_ids)
    annotations = kept.enter_context(Writer(root / "annotations" / f"{split}.json", indexed=True))
    panoptic = None
    if info.panoptic:
        panoptic = kept.enter_context(Writer(root / "panoptic" / f"{split}.json", indexed=False))
    for record in records:
        h, w = record.size
        image_id = ids.take("image", record.id)
        if link and isinstance(record.image, bytes):
            raise UsageError(f"--link: {record.file_name} is no file of its own, there is nothing to link to")
        if strict:
            refuse_broken(record, declared)
            if isinstance(record.image, Path) and not os.path.isfile(record.image):  # or no possible name
                raise DataError(f"{record.image}: the image file is missing", hint=SEE_ALL)
            sized: list[Annotation] = [
                a if a.get("area") is not None else {**a, "area": area_of(a, (h, w))} for a in record.annotations
            ]
            record = dataclasses.replace(record, annotations=sized)
        if names.add(record) and not link:
            _write_file(root / "images" / record.file_name, record.image)
        image = cast(
            ImageEntry, {"id": image_id, "file_name": record.file_name, "width": w, "height": h, **record.extra}
        )
        image.pop("label_map", None)
        images.append(image)
        keys = [ids.take("annotation", annotation.get("id")) for annotation in record.annotations]
        annotations.add(
            [{**a, "id": key, "image_id": image_id} for a, key in zip(record.annotations, keys, strict=True)]
        )
        name = label_name(image)
        if record.semantic is not None or record.panoptic is not None:
            if labels.get(name, record.file_name) != record.file_name:  # in another folder, an image is called alike
                name = image["label_map"] = PurePosixPath(record.file_name).with_suffix(".png").as_posix()
            other = labels.setdefault(name, record.file_name)
            if other != record.file_name:
                raise DataError(f"{split}: {other} and {record.file_name} would share the label map {name}")
        if record.semantic is not None:
            _write_file(root / "semantic" / split / name, record.semantic)
        if record.panoptic is not None and panoptic is not None:
            _write_file(root / "panoptic" / split / name, record.panoptic)
            panoptic.add([{"image_id": image_id, "file_name": name, "segments_info": record.segments}])
        bar.update()
    common = {"images": images, "categories": coco_categories(info)}
    annotations.close(common)
    if panoptic is not None:
        panoptic.close(common)
    listed = "".join(f"{image['file_name']}\n" for image in images)
    _write_file(root / "splits" / f"{split}.txt", listed.encode("utf-8"))
    return len(images)


def refuse_broken(record: Record, declared: set[int]) -> None:
    """Raise DataError for the first broken annotation; `declared`: the source ids of the categories."""
    if isinstance(record.problem, DataError):
        raise record.problem
    # an id of 0 stands for the image here: the record has not been given its own yet
    listed = [{**a, "image_id": 0} for a in record.annotations]
    image = {"id": 0, "file_name": record.file_name or "-", "width": record.size[1], "height": record.size[0]}
    problem = next(image_problems([image]), None) or record.problem
    problem = problem or next(annotation_problems(listed, {0: record.size}, declared), None)
    if problem:
        raise DataError(f"{record.file_name}: {problem}", hint=SEE_ALL)


def _write_file(path: Path, content: Path | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        shutil.copyfile(content, path)


def write_json(path: Path, data: Any, indent: int | None = None) -> None:
    """Write JSON values, folder and all. Raises DataError for text that is none (half of a surrogate pair)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    separators = (",", ":") if indent is None else None
    text = json.dumps(data, ensure_ascii=False, indent=indent, separators=separators)
    try:
        path.write_text(text, encoding="utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{path.name}: {text[max(0, error.start - 40) : error.start]}… is no valid text") from error


def _publish(building: Path, out: Path, info: DatasetInfo, settings: dict[str, Any], force: bool) -> DatasetInfo:
    """Give the finished folder its name. Where another process was faster, its dataset counts if it is the same."""
    if force:
        if left := folders.publish(building, out, _of_earlier(out)):
            print(f"note: what came into {out} meanwhile is kept in {left}", file=sys.stderr)
        return info
    try:
        place = folders.real(out)
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
        os.rename(building, place)
    except OSError:
        found = existing(out, settings)
        if found is None:
            raise
        return found
    return info
