"""Several sources as one: classes matched by name, every image in the split that it has, names of images kept apart."""

import dataclasses
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from segcli.core.coco_json import Annotation, SegmentInfo
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError
from segcli.core.files import digest
from segcli.core.formatting import count
from segcli.data.canonical import Draft, Entry, MaskFacts, Record
from segcli.sources.class_names import alike
from segcli.sources.files import some

Labelled = TypeVar("Labelled", Annotation, SegmentInfo)


@dataclasses.dataclass
class Part:
    """One of the sources, its images divided. name: it is called so in notes, and so is the folder of those of its
    images whose name another source has, too."""

    name: str
    draft: Draft
    splits: Mapping[str, Sequence[Entry]]
    ids: dict[int, int] = dataclasses.field(default_factory=dict)  # own source id -> the one of all


@dataclasses.dataclass
class _Image:
    """An image, and what it is called among all."""

    file_name: str
    part: Part
    entry: Entry


def merge(name: str, parts: Sequence[Part]) -> Draft:
    """The draft of all images of `parts`, which has the notes of all.

    One source has to declare the classes of all others, for an object of a class that a source does not know would be
    learned as background on its images. Of an image that is in several sources, byte for byte, the first one's split
    and the last one's labels count. Raises DataError where classes, maps, ranges of values or side files don't go
    together.
    """
    info = _info(name, parts)
    notes = [f"{part.name}: {note}" for part in parts for note in part.draft.notes]
    notes += _missing_classes(info, parts)
    splits = _images(parts, notes)
    lost = sum(part.draft.lost for part in parts)
    return Draft(
        info,
        splits,
        lambda images: _records(images, notes),
        None,
        notes,
        lost=lost,
        files=_side_files(parts),
        masks=_mask_facts(parts),
    )


def _info(name: str, parts: Sequence[Part]) -> DatasetInfo:
    """What all together are; sets the ids of each part."""
    for one, other in itertools.pairwise(parts):
        _refuse_other_maps(one, other)
    widest = max(parts, key=lambda part: len(part.draft.info.names))
    categories = {category.name: category for category in widest.draft.info.categories}
    for part in parts:
        for category in part.draft.info.categories:
            _refuse_different(widest, part, category, categories.get(category.name))
        part.ids = {c.source_id: categories[c.name].source_id for c in part.draft.info.categories}
    infos = [part.draft.info for part in parts]

    def joined(values: Sequence[str]) -> str:
        said = [f"{part.name}: {value}" for part, value in zip(parts, values, strict=True) if value]
        return values[0] if len(set(values)) == 1 else "; ".join(said)

    return dataclasses.replace(
        widest.draft.info,
        name=name,
        splits={},
        licence=joined([info.licence for info in infos]),
        citation=joined([info.citation for info in infos]),
        source=joined([info.source for info in infos]),
        image_root=None,
        fingerprint="",
        declared=_declared(parts),
    )


def _declared(parts: Sequence[Part]) -> dict[str, dict[str, object]]:
    """What all declare of their fields. Raises DataError where two declare a field otherwise."""
    out: dict[str, dict[str, object]] = {}
    for part in parts:
        for name, given in part.draft.info.declared.items():
            if out.setdefault(name, given) != given:
                raise DataError(f"{part.name} declares {name} otherwise than an earlier source, as its info.json says")
    return out


def _side_files(parts: Sequence[Part]) -> dict[str, Path | bytes]:
    """The side files of all. Raises DataError where two sources have different ones of one name."""
    out: dict[str, Path | bytes] = {}
    for part in parts:
        for name, content in part.draft.files.items():
            known = out.setdefault(name, content)
            if known != content and _content(known) != _content(content):
                raise DataError(
                    f"{part.name}: its side file {name} is another than that of an earlier source",
                    hint="rename it in the source, and where its annotations name it",
                )
    return out


def _content(file: Path | bytes) -> str:
    return digest(file) if isinstance(file, Path) else hashlib.sha256(file).hexdigest()


def _mask_facts(parts: Sequence[Part]) -> MaskFacts:
    """What the mask pictures of all were taken for; nothing where none has any."""
    out = MaskFacts()
    if said := [f"{part.name}: {part.draft.masks['said']}" for part in parts if "said" in part.draft.masks]:
        out["said"] = "; ".join(said)
    if ignored := {value for part in parts for value in part.draft.masks.get("ignored", [])}:
        out["ignored"] = sorted(ignored)
    return out


def _refuse_different(widest: Part, part: Part, category: Category, other: Category | None) -> None:
    """Raise DataError where a class is not declared by the source of the most classes, or as something else."""
    if other is None:
        names, its = part.draft.info.names, widest.draft.info.names
        own = [repr(name) for name in names if name not in its]
        lacking = [repr(name) for name in its if name not in names]
        hint = "where they were looked for on all images, declare them in both: labels.txt, data.yaml, categories"
        if near := next((pair for pair in alike([*its, *names]) if pair[0] != pair[1]), None):
            hint = f"if {near[0]!r} and {near[1]!r} are one class, give them one name"
        raise DataError(
            f"the classes of {widest.name} and {part.name} differ: {some(lacking, 3)} are of the first alone, "
            f"{some(own, 3)} of the second, and would be learned as background on the other's images",
            hint=hint,
        )
    if category.thing != other.thing or category.keypoints != other.keypoints:
        what = "other keypoints" if category.thing == other.thing else "things in one, stuff in the other"
        raise DataError(f"the class {category.name!r} is another in {widest.name} and in {part.name}: {what}")


def _refuse_other_maps(one: Part, other: Part) -> None:
    """Raise DataError where two sources are no one dataset: other kinds of maps, another range of values."""
    a, b = one.draft.info, other.draft.info
    for kind in ("semantic", "panoptic"):
        if getattr(a, kind) != getattr(b, kind):
            has, lacks = (one, other) if getattr(a, kind) else (other, one)
            raise DataError(f"{has.name} has {kind} maps and {lacks.name} has none")
    if a.semantic and a.names != b.names:
        raise DataError(
            f"{one.name} and {other.name} have semantic maps, and their classes differ or stand in another order",
            hint="declare the same classes in the same order in both",
        )
    if a.value_range != b.value_range:
        raise DataError(
            f"the images of {one.name} and {other.name} have other ranges of values ({a.value_range}, {b.value_range})",
            hint="put the images into one folder and prepare them together: they then get one range",
        )


def _missing_classes(info: DatasetInfo, parts: Sequence[Part]) -> Iterator[str]:
    for part in parts:
        if lacking := [name for name in info.names if name not in part.draft.info.names]:
            listed = some(lacking, 10)
            yield f"{part.name} does not declare {listed}: its images are taken to show no object of that"
        if lacking := [name for name in info.declared if name not in part.draft.info.declared]:
            yield f"{part.name} has no labels of {', '.join(lacking)}"


def _images(parts: Sequence[Part], notes: list[str]) -> dict[str, list[_Image]]:
    """split -> images, in the order of the sources; those that are in several are noted."""
    splits: dict[str, list[_Image]] = {}
    names: set[str] = set()
    first: dict[str, _Image] = {}  # by digest
    sizes = _common_sizes(parts)
    for part in parts:
        own: dict[str, _Image] = {}
        called: dict[str, str] = {}
        again: dict[str, list[str]] = {}  # name of the source that had the image before -> names there
        for split, entries in part.splits.items():
            for entry in entries:
                content = _digest(part, entry, sizes)
                if content is not None and content in first and content not in own:
                    known = own[content] = first[content]
                    again.setdefault(known.part.name, []).append(known.file_name)
                    known.part, known.entry = part, entry
                    continue
                if entry.file_name not in called:
                    called[entry.file_name] = _free(entry.file_name, part.name, names)
                image = _Image(called[entry.file_name], part, entry)
                splits.setdefault(split, []).append(image)
                if content is not None:
                    own.setdefault(content, image)
        names |= {*called.values()}
        first |= own
        if moved := [new for old, new in called.items() if new != old]:
            notes.append(f"{part.name}: {count(len(moved), 'image')} called as others are kept apart: {some(moved, 3)}")
        notes += [
            f"{count(len(files), 'image')} of {before} found again in {part.name}, whose labels replace the earlier "
            f"ones; the split stays: {some(files, 3)}"
            for before, files in again.items()
        ]
    return splits


def _free(file_name: str, folder: str, names: set[str]) -> str:
    """The name, below a folder of the source's name where another source has it, too."""
    tried = (f"{folder}{'' if n == 1 else f'-{n}'}/{file_name}" for n in itertools.count(1))
    return next(name for name in itertools.chain([file_name], tried) if name not in names)


def _path(part: Part, entry: Entry) -> Path | None:
    return None if part.draft.image_root is None else part.draft.image_root / PurePosixPath(entry.file_name)


def _size(path: Path | None) -> int | None:
    try:
        return None if path is None else path.stat().st_size
    except OSError:
        return None  # missing: the writer says so


def _common_sizes(parts: Sequence[Part]) -> set[int | None]:
    """Sizes in bytes that images of several sources have: only those can be the same."""
    each = Counter[int | None]()
    for part in parts:
        each.update({_size(_path(part, entry)) for entries in part.splits.values() for entry in entries})
    return {size for size, sources in each.items() if size is not None and sources > 1}


def _digest(part: Part, entry: Entry, sizes: set[int | None]) -> str | None:
    """Of the image's bytes, where it can be in another source, too."""
    path = _path(part, entry)
    return None if path is None or _size(path) not in sizes else digest(path)


def _records(images: Sequence[_Image], notes: list[str]) -> Iterator[Record]:
    """Ids of images and annotations are new: those of the sources need not differ. What reading notes is noted."""
    for part, group in itertools.groupby(images, key=lambda image: image.part):
        mine, noted = list(group), len(part.draft.notes)
        called = {image.entry.file_name: image.file_name for image in mine}
        for record in part.draft.records([image.entry for image in mine]):
            annotations = [_with_id(annotation, part.ids) for annotation in record.annotations]
            for annotation in annotations:
                annotation.pop("id", None)
            yield dataclasses.replace(
                record,
                file_name=called[record.file_name],
                id=None,
                annotations=annotations,
                segments=[_with_id(segment, part.ids) for segment in record.segments],
            )
        notes += [f"{part.name}: {note}" for note in part.draft.notes[noted:]]


def _with_id(labelled: Labelled, ids: Mapping[int, int]) -> Labelled:
    """A copy with the merged dataset's category id; one that no class has is left for the doctor."""
    out = labelled.copy()
    if isinstance(key := out.get("category_id"), int):
        out["category_id"] = ids.get(key, key)
    return out
