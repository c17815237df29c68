"""What every format does in the end: its images, with their labels yet to be read, become a draft."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError
from segcli.data.canonical import Draft, Record
from segcli.data.image import image_size
from segcli.sources.images import below

Label = TypeVar("Label")


class Image(Protocol):
    """What every format's images have: a name below the image root, and a file."""

    @property
    def file_name(self) -> str: ...
    @property
    def path(self) -> Path: ...


AnyImage = TypeVar("AnyImage", bound=Image)


@dataclasses.dataclass(frozen=True)
class Entry(Generic[Label]):
    """One image: its name below the image root, its file, and what the format knows of its labels."""

    file_name: str
    path: Path
    label: Label


def draft(
    path: Path,
    found: Sequence[tuple[str, Path, Label]],
    categories: Iterable[Category],
    records: Callable[[Sequence[Entry[Label]]], Iterator[Record]],
    notes: list[str],
    *,
    about: Mapping[str, str] = MappingProxyType({}),
    semantic: bool = False,
    panoptic: bool = False,
    measured: bool = False,
) -> Draft:
    """The draft of a source `path`, of which (split, image file, label) of every image were `found`.

    records: reads entries, and may add to the notes. about: licence, citation and source. measured: whether it measures
    every box on the pixels that it makes an RLE of. Raises DataError where no image was found.
    """
    root, splits = arrange(found, path)
    info = DatasetInfo(
        name=path.stem,
        categories=tuple(categories),
        splits={split: len(entries) for split, entries in splits.items()},
        semantic=semantic,
        panoptic=panoptic,
        licence=about.get("licence", "unknown"),
        citation=about.get("citation", ""),
        source=about.get("source", ""),
    )
    return Draft(info, splits, records, root, notes, measured=measured)


def arrange(found: Sequence[tuple[str, Path, Label]], where: Path) -> tuple[Path, dict[str, list[Entry[Label]]]]:
    """(split, image file, label) of every image -> the folder that holds them all, and split -> entries.

    Raises DataError where there is none. where: the source, for the message.
    """
    if not found:
        raise DataError(f"{where}: holds no image with labels")
    root, names = below([Path(os.path.normpath(path)) for _, path, _ in found])
    splits: dict[str, list[Entry[Label]]] = {}
    for (split, path, label), name in zip(found, names, strict=True):
        splits.setdefault(split, []).append(Entry(name, path, label))
    return root, splits


def each(entries: Iterable[AnyImage], read: Callable[[AnyImage], Record]) -> Iterator[Record]:
    """`read` of every entry. One that can't be read becomes a record that carries the error: the doctor then lists all
    of them, --fix leaves them out by name, and a writer raises the first."""
    for entry in entries:
        try:
            record = read(entry)
        except DataError as error:
            record = Record(entry.file_name, _size(entry.path), entry.path, [], problem=error)
        yield record


def _size(path: Path) -> tuple[int, int]:
    """(H, W), or the placeholder (1, 1) if unreadable."""
    try:
        return image_size(path)
    except DataError:
        return 1, 1
