"""Write the canonical dataset folder (see `canonical.py`): whole or not at all."""

import contextlib
import dataclasses
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn, cast

from tqdm import tqdm

from segcli.core import folders
from segcli.core.building import building
from segcli.core.coco_json import Annotation, ImageEntry
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, SegcliError, UsageError
from segcli.core.files import resolve, why_not_written, write_json
from segcli.data import fingerprint
from segcli.data.annotations import area_of, whole
from segcli.data.canonical import (
    FILES,
    SEE_ALL,
    MaskFacts,
    Prepared,
    Record,
    as_json,
    coco_categories,
    existing,
    label_name,
    of_earlier,
    refuse_broken,
)
from segcli.data.index import Writer
from segcli.fields import declarable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def write_folder(
    out: Path,
    info: DatasetInfo,
    splits: Mapping[str, Iterable[Record]],
    *,
    settings: Mapping[str, object] | None = None,
    notes: list[str] | None = None,
    repairs: Sequence["DataclassInstance"] | None = None,
    masks: MaskFacts | None = None,
    link: bool = False,
    strict: bool = True,
    force: bool = False,
    total: int | None = None,
    files: Mapping[str, Path | bytes] = MappingProxyType({}),
    encoded: bool = False,
) -> DatasetInfo:
    """Write the folder `out` and return its description with splits and fingerprint filled in.

    Everything goes into a hidden folder beside `out`, which takes the name at the end. `settings` (JSON values) say
    what the dataset is made of: an `out` with equal settings is left alone, any other is replaced only with `force`.
    With `link`, info.image_root must be set and no image is copied. `notes` and `repairs` (dataclasses; what --fix did)
    are written last, so that they may still grow. total: how many images there are, where that is known. files: side
    files of the whole dataset, by name. encoded: as of `annotation_problems`.
    strict=False writes what can't be read later, too (missing images, broken annotations), for the doctor to list.
    Raises DataError where `out` is something else or a file name repeats; SegcliError where the disk refuses;
    UsageError for a link to images that are made.
    """
    made_of = as_json(settings or {})
    if there := existing(out, made_of, force):
        return there
    if not folders.is_empty(out):
        splits = {name: _elsewhere(records, out) for name, records in splits.items()}
    terminal = sys.stderr.isatty()
    try:
        with building(out) as root:
            with tqdm(
                total=total,
                desc=f"writing {out.name}",
                unit="image",
                file=sys.stderr,
                delay=2,
                leave=not terminal,
                mininterval=0.1 if terminal else 10,
            ) as bar:
                folder = _Folder(root, info, link=link, strict=strict, encoded=encoded, bar=bar)
                folder.write_files(files)
                counts = {split: folder.write_split(split, records) for split, records in splits.items()}
            declared = info.declared | {name: {} for name in sorted(folder.fields - {*info.declared})}
            info = dataclasses.replace(info, splits=counts, declared=declared)
            if strict:  # the doctor's copy goes at once
                state, mark = fingerprint.measure(root, info)
                info = dataclasses.replace(info, fingerprint=mark)
            write_json(root / "info.json", info.to_json(), indent=1)
            facts: Prepared = {"version": 1, "settings": made_of, "notes": [*(notes or []), *folder.ids.notes()]}
            if masks:
                facts["masks"] = masks
            if repairs is not None:
                facts["repairs"] = [dataclasses.asdict(repair) for repair in repairs]
            write_json(root / "prepared.json", facts, indent=1)
            folders.list_files(root)
            info = _publish(root, out, info, made_of, force)
            if strict:
                fingerprint.keep(out, state, mark)
            return info
    except OSError as error:
        place = out if error.filename2 else error.filename or out  # a copy names its source first
        raise SegcliError(f"{place}: can't be written: {error.strerror}", hint=why_not_written(error)) from error


def _elsewhere(records: Iterable[Record], out: Path) -> Iterator[Record]:
    """The records, none of whose images lies in `out`, which is about to be replaced."""
    place = folders.real(out)
    for record in records:
        if isinstance(record.image, Path) and Path(os.path.realpath(record.image)).is_relative_to(place):
            raise UsageError(f"--out {out}: holds the source's image {record.image}", hint="choose another --out")
        yield record


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

    def take(self, kind: str, value: int | None) -> int:
        if value is None or value in self.used[kind]:
            self.changed[kind] += value is not None
            value = self.highest[kind] + 1
        self.used[kind].add(value)
        self.highest[kind] = max(self.highest[kind], value)
        return value

    def notes(self) -> list[str]:
        return [f"{n} {kind} ids were used twice and are renumbered" for kind, n in self.changed.items() if n]


class _Folder:
    """A dataset's folder while it is written; names and ids are taken over all its splits. link: images stay where they
    are; strict: refuse what can't be read later; encoded: as of `annotation_problems`; bar: what counts the images for
    the user."""

    def __init__(
        self, root: Path, info: DatasetInfo, *, link: bool, strict: bool, encoded: bool, bar: "tqdm[NoReturn]"
    ):
        self.root, self.info, self.link, self.strict, self.bar = root, info, link, strict, bar
        self.encoded = encoded
        self.declared = set(info.source_ids)
        self.names, self.ids, self.fields = _Names(), _Ids(), set[str]()

    def write_split(self, split: str, records: Iterable[Record]) -> int:
        """Write the images and labels of a split. -> how many images it has."""
        images: list[ImageEntry] = []
        labels: dict[str, str] = {}  # label map -> the image it belongs to
        with contextlib.ExitStack() as stack:
            annotations = stack.enter_context(Writer(self.root / "annotations" / f"{split}.json", indexed=True))
            panoptic = None
            if self.info.panoptic:
                panoptic = stack.enter_context(Writer(self.root / "panoptic" / f"{split}.json", indexed=False))
            for record in records:
                image_id = self.ids.take("image", record.id)
                record = self._checked(record) if self.strict else record
                if self.link and isinstance(record.image, bytes):
                    raise UsageError(f"--link: {record.file_name} is no file of its own, there is nothing to link to")
                if self.names.add(record) and not self.link:
                    _write_file(self.root / "images" / record.file_name, record.image)
                annotations.add([{**a, "id": self._id(a), "image_id": image_id} for a in record.annotations])
                self.fields |= {name for a in record.annotations for name in declarable(a)}
                images.append(_entry(record, image_id))
                name = self._write_maps(split, record, images[-1], labels)
                if record.panoptic is not None and panoptic is not None:
                    panoptic.add([{"image_id": image_id, "file_name": name, "segments_info": record.segments}])
                self.bar.update()
            common = {"images": images, "categories": coco_categories(self.info)}
            annotations.close(common)
            if panoptic is not None:
                panoptic.close(common)
        listed = "".join(f"{image['file_name']}\n" for image in images)
        _write_file(self.root / "splits" / f"{split}.txt", listed.encode("utf-8"))
        return len(images)

    def write_files(self, files: Mapping[str, Path | bytes]) -> None:
        """Write side files. Raises DataError for a name that leads out."""
        for name, content in files.items():
            _write_file(resolve(self.root / FILES, name, f"{self.info.name}: a side file"), content)

    def _checked(self, record: Record) -> Record:
        """The record, every annotation with an area. Raises DataError for what can't be read later."""
        refuse_broken(record, self.declared, encoded=self.encoded)
        if isinstance(record.image, Path) and not os.path.isfile(record.image):  # or no possible name
            raise DataError(f"{record.image}: the image file is missing", hint=SEE_ALL)
        sized: list[Annotation] = [
            a if a.get("area") is not None else {**a, "area": area_of(a, record.size)} for a in record.annotations
        ]
        return dataclasses.replace(record, annotations=sized)

    def _id(self, annotation: Annotation) -> int:
        return self.ids.take("annotation", whole(annotation.get("id")))

    def _write_maps(self, split: str, record: Record, image: ImageEntry, labels: dict[str, str]) -> str:
        """Write an image's label maps. -> their name, entered into `image` where it is not the usual one."""
        name = label_name(image)
        if record.semantic is None and record.panoptic is None:
            return name
        if labels.get(name, record.file_name) != record.file_name:  # in another folder, an image is called alike
            name = image["label_map"] = PurePosixPath(record.file_name).with_suffix(".png").as_posix()
        other = labels.setdefault(name, record.file_name)
        if other != record.file_name:
            raise DataError(f"{split}: {other} and {record.file_name} would share the label map {name}")
        if record.semantic is not None:
            _write_file(self.root / "semantic" / split / name, record.semantic)
        if record.panoptic is not None and self.info.panoptic:
            _write_file(self.root / "panoptic" / split / name, record.panoptic)
        return name


def _entry(record: Record, image_id: int) -> ImageEntry:
    """What the annotation file says of an image."""
    h, w = record.size
    image = {"id": image_id, "file_name": record.file_name, "width": w, "height": h, **record.extra}
    image.pop("label_map", None)
    return cast(ImageEntry, image)


def _publish(building: Path, out: Path, info: DatasetInfo, settings: Mapping[str, object], force: bool) -> DatasetInfo:
    """Give the finished folder its name. Where another process was faster, its dataset counts if it is the same."""
    if force:
        if left := folders.publish(building, out, of_earlier(out)):
            print(f"note: what came into {out} meanwhile is kept in {left}", file=sys.stderr)
        return info
    try:
        place = folders.real(out)
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
        os.rename(building, place)
    except OSError:
        other = existing(out, settings)
        if other is None:
            raise
        return other
    return info


def _write_file(path: Path, content: Path | bytes) -> None:
    try:
        _put(path, content)
    except FileNotFoundError:  # the first of its folder
        path.parent.mkdir(parents=True, exist_ok=True)
        _put(path, content)


def _put(path: Path, content: Path | bytes) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        shutil.copyfile(content, path)
