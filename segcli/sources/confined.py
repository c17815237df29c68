"""The last check of a draft: every file that its converter means to read lies in the source."""

import dataclasses
import functools
import os
from collections.abc import Iterator
from pathlib import Path

from segcli.core.errors import DataError
from segcli.core.files import TRUST, inside
from segcli.data.canonical import Draft


def confine(draft: Draft, source: Path) -> None:
    """Raise DataError for an image or label file of `draft` that lies outside of `source`, by name or through a link.

    Converters resolve the names that they read (core/files.py) and skip links that lead out; this holds for every
    converter, also those of other packages. A source that is a file stands for its folder. Folders beside count, too,
    where a converter looked there by itself (`annotations/` with `images/` beside it): each for its own files.
    """
    rooms = _Rooms(source)
    for entries in draft.splits.values():
        for entry in entries:
            for path in _files(entry):
                if not rooms.holds(path):
                    raise DataError(f"{path}: lies outside of {source}, or is a link that leads out", hint=TRUST)


class _Rooms:
    """Where the files of a source may lie. Folders are followed once each: a source has many files in few of them."""

    def __init__(self, source: Path):
        self.folder = Path(os.path.abspath(source if source.is_dir() else source.parent))
        self.met: dict[str, tuple[str, bool]] = {}  # folder -> the room of its files, and whether it lies there

    def holds(self, path: Path) -> bool:
        text = os.fspath(path)
        if "\0" in text:  # there is no such file, which its reader says
            return True
        folder = os.path.dirname(os.path.abspath(text))
        if folder not in self.met:
            room = self._room(folder)
            self.met[folder] = room, Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(room))
        room, lies_there = self.met[folder]
        return inside(path, Path(room)) if os.path.islink(text) else lies_there

    def _room(self, folder: str) -> str:
        """The folder that a file in `folder` may not leave."""
        beside = self.folder.parent
        if not Path(folder).is_relative_to(self.folder) and Path(folder).is_relative_to(beside):
            parts = Path(folder).relative_to(beside).parts
            return str(beside / parts[0]) if parts else str(beside)
        return str(self.folder)


def _files(value: object, depth: int = 3) -> Iterator[Path]:
    """The paths that an entry holds: its own `path`, and those in its `label` or, of a dataclass, in any field; in
    tuples, lists of paths, and mappings inside these."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        inner = value.values() if isinstance(value, dict) else value
        if depth and (not isinstance(value, list) or (value and isinstance(value[0], Path))):
            for one in inner:
                yield from _files(one, depth - 1)
    elif depth:
        for name in _fields(type(value)):  # type: ignore[arg-type]  # every class can be a key
            yield from _files(getattr(value, name, None), depth - 1)


@functools.cache
def _fields(kind: type) -> list[str]:
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    return [*dict.fromkeys(["path", "label", *(field.name for field in fields)])]
