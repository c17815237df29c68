"""Unpack zip and tar archives that somebody else made: nothing may leave the folder, link, or fill the disk."""

import functools
import os
import re
import shutil
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from tqdm import tqdm

from segcli.core.errors import DataError, SegcliError

RATIO = 200  # label PNGs shrink a hundredfold at most; a bomb, a thousandfold and more
FREE = 64 * 2**20  # bytes that an archive may hold whatever its ratio
MOST = 3_000_000  # entries; COCO has 123,000 images


class _Member(NamedTuple):
    """One entry: its name as stored, its size in bytes as declared, what else than a file it is, and how to read it."""

    name: str
    size: int
    kind: str  # "file", "folder", or what is refused
    open: Callable[[], IO[bytes] | None] = lambda: None


def unpack(archive: Path, folder: Path, *, progress: bool = True) -> int:
    """Write the files of `archive` into `folder`; -> how many.

    A file that is there already is replaced. Refused, before anything of that entry is written: names that are absolute
    or climb with "..", links and devices, names that two entries share, more than MOST entries, and more than RATIO
    times the archive's own size. What was written before stays: give a folder that can be thrown away.
    Raises DataError for such an archive and for one that is damaged, SegcliError where the disk refuses.
    """
    allowed = archive.stat().st_size * RATIO + FREE
    written = 0
    seen: set[str] = set()
    bar = tqdm(desc=f"unpacking {archive.name}", unit="file", delay=2, disable=not progress, file=sys.stderr)
    try:
        with bar:
            for member in _members(archive):
                parts = _parts(archive, member)
                key = "/".join(parts)
                if member.kind == "folder":
                    continue
                if key.casefold() in seen:
                    raise DataError(f"{archive}: two of its files are called {key}")
                if len(seen) >= MOST:
                    raise DataError(f"{archive}: holds more than {MOST:,} files")
                seen.add(key.casefold())
                if written + member.size > allowed:
                    raise _bomb(archive, allowed)
                target = folder.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                content = member.open()
                assert content is not None
                with content, open(target, "wb") as file:
                    while block := content.read(1 << 20):
                        written += len(block)  # what a header declares may be less than what comes
                        if written > allowed:
                            raise _bomb(archive, allowed)
                        file.write(block)
                bar.update()
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(f"{archive}: can't be unpacked: {error}", hint="load it again, it may be damaged") from error
    except OSError as error:
        if error.errno is not None:
            raise SegcliError(f"{error.filename or folder}: can't be written: {error.strerror}") from error
        raise DataError(f"{archive}: can't be unpacked: {error}", hint="load it again, it may be damaged") from error
    if not seen:
        raise DataError(f"{archive}: holds no file")
    return len(seen)


def space_for(size: int, folder: Path) -> None:
    """Raise SegcliError where `size` bytes are more than what is free on the disk of `folder`."""
    existing = next(p for p in [folder.absolute(), *folder.absolute().parents] if p.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        raise SegcliError(
            f"{folder}: {size / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free",
            hint="free some space, or set SEGCLI_CACHE to a folder on another disk",
        )


def _members(archive: Path) -> Iterator[_Member]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as pack:
            for entry in pack.infolist():
                mode = entry.external_attr >> 16
                if entry.is_dir():
                    yield _Member(entry.filename, 0, "folder")
                elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                    yield _Member(entry.filename, 0, "link" if stat.S_ISLNK(mode) else "device")
                else:
                    yield _Member(entry.filename, entry.file_size, "file", functools.partial(pack.open, entry))
        return
    with tarfile.open(archive, "r|*") as pack:  # read once, from front to back: a list of all entries is not needed
        for item in pack:
            if item.isdir():
                yield _Member(item.name, 0, "folder")
            elif item.isreg() and not item.issparse():
                yield _Member(item.name, item.size, "file", functools.partial(pack.extractfile, item))
            else:
                kind = "link" if item.issym() or item.islnk() else "sparse file" if item.issparse() else "device"
                yield _Member(item.name, 0, kind)


def _parts(archive: Path, member: _Member) -> list[str]:
    """The parts of the entry's path below the folder. Raises DataError for what is refused."""
    name = member.name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in parts or "\0" in name or not parts:
        if member.kind == "folder" and not parts and not name.startswith("/"):
            return []
        raise DataError(f"{archive}: its entry {member.name!r} leads out of the folder: nothing of it is used")
    if member.kind not in ("file", "folder"):
        raise DataError(f"{archive}: its entry {member.name!r} is a {member.kind}: nothing of the archive is used")
    if os.name == "nt":  # Windows drops them at the end of a name
        parts = [part.rstrip(". ") or "_" for part in parts]
    return parts


def _bomb(archive: Path, allowed: int) -> DataError:
    return DataError(
        f"{archive}: unpacks to more than {allowed / 1e9:.1f} GB, {RATIO} times its own size, as no data does",
        hint="unpack it by hand if you trust it, and give the folder",
    )
