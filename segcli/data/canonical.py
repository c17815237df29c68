"""The canonical dataset folder, the only one that segcli reads: its layout, and what converters give to have one
written (see `write_folder`).

info.json                  DatasetInfo
prepared.json              what it was made from, with which settings, and what was left out
images/FILE_NAME           files as they were, byte by byte; with --link they stay below info.image_root instead
annotations/SPLIT.json     COCO: images (file_name is the path below images/), annotations, categories (source ids)
annotations/SPLIT.index.npz   where each image's annotations stand in it (see index.py)
splits/SPLIT.txt           its file names, one a line: what --split-by FILE takes
semantic/SPLIT/NAME.png    8-bit labels, 255 = ignore; for more than 254 classes 16-bit ones, 65535 = ignore. NAME is
                           the last part of file_name, no suffix; where an image before it has that, the whole path,
                           which is then the image's `label_map`
panoptic/SPLIT.json        COCO panoptic, with panoptic/SPLIT/NAME.png (id = R + 256 G + 65536 B, 0 = void)
files/NAME                 side files that annotations name: meshes, voxels, tables of info.declared
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from typing_extensions import TypedDict  # before Python 3.12, pydantic takes no other

from segcli.core import folders
from segcli.core.coco_json import Annotation, CategoryEntry, ImageEntry, SegmentInfo
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError
from segcli.core.files import parsed, read_json
from segcli.data.annotations import annotation_problems, image_problems, load, load_panoptic
from segcli.data.findings import Item

SEE_ALL = "segcli prepare SOURCE --check lists everything that is wrong, --fix mends what has one meaning"
FILES = "files"  # the folder of side files
UNDECIDED = "all"  # the one split of a source that has none


class MaskFacts(TypedDict, total=False):
    """What mask pictures were taken for. said: in one line; ignored: the values that were declared to mean nothing."""

    read_as: str
    said: str
    ignored: list[int]


class Prepared(TypedDict, total=False):
    """prepared.json. settings: what the dataset was made from; masks: only where labels were pictures; repairs: only
    after --fix, each a `doctor.repair.repair.Repair`."""

    version: int
    settings: dict[str, object]
    notes: list[str]
    masks: MaskFacts
    repairs: list[dict[str, object]]


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


def _nothing() -> None:
    pass


@dataclasses.dataclass
class Draft:
    """What a converter or a generator offers: a description, its images by split, and how to read them.

    The one split UNDECIDED means that the source has none. image_root: the folder that file names are relative to, None
    where images are made. notes: sentences on what was left out or changed; `records` may add to them. refused: images
    whose labels could not be read, as far as they were met. stored: whether some images stand inside label files or an
    archive, where no link can lead. measured: whether boxes were measured on masks as they were read, so that nothing
    in them can be written in another way. lost: annotations of the source that belong to none of its images. files:
    side files of the whole dataset. close: to be called once it is written.
    """

    info: DatasetInfo
    splits: dict[str, list[Any]]
    records: Callable[[Sequence[Any]], Iterator[Record]]
    image_root: Path | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    refused: list[Item] = dataclasses.field(default_factory=list)
    stored: bool = False
    measured: bool = False
    masks: MaskFacts = dataclasses.field(default_factory=MaskFacts)
    lost: int = 0
    files: dict[str, "Path | bytes"] = dataclasses.field(default_factory=dict)
    close: Callable[[], None] = _nothing


def existing(out: Path, settings: Mapping[str, object], force: bool = False) -> DatasetInfo | None:
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
        folders.refuse_foreign(out, of_earlier(out))
        return None
    before = prepared(out).get("settings", {})
    asked = as_json(settings)
    if before != asked:
        differing = sorted(k for k in before.keys() | asked.keys() if before.get(k) != asked.get(k))
        raise DataError(f"{out}: holds a dataset prepared differently ({', '.join(differing)})", hint=hint)
    return DatasetInfo.load(out)


def as_json(settings: Mapping[str, object]) -> dict[str, object]:
    """Settings as prepared.json gives them back: a tuple is a list there."""
    value: dict[str, object] = json.loads(json.dumps(dict(settings)))
    return value


def of_earlier(out: Path) -> set[str]:
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


def prepared(root: Path) -> Prepared:
    """The content of `prepared.json`; empty where there is none. Raises DataError."""
    path = root / "prepared.json"
    return parsed(Prepared, read_json(path), path) if os.path.lexists(path) else {}


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


def refuse_broken(record: Record, declared: set[int], *, encoded: bool = False) -> None:
    """Raise DataError for the first broken annotation; declared: the source ids of the categories; encoded: as of
    `annotation_problems`."""
    if isinstance(record.problem, DataError):
        raise record.problem
    # an id of 0 stands for the image here: the record has not been given its own yet
    listed = [{**a, "image_id": 0} for a in record.annotations]
    image = {"id": 0, "file_name": record.file_name or "-", "width": record.size[1], "height": record.size[0]}
    problem = next(image_problems([image]), None) or record.problem
    problem = problem or next(annotation_problems(listed, {0: record.size}, declared, encoded=encoded), None)
    if problem:
        raise DataError(f"{record.file_name}: {problem}", hint=SEE_ALL)
