"""Folders that segcli writes whole: what is ours in them, and how one takes another's place without loss.

A folder that is finished gets a list of its files (MANIFEST: name, size, time, digest). --force removes what stands in
that list and has not changed since, and refuses where there is anything else: a user's files are never deleted. A link
as the folder's name keeps pointing where it does. Of folders that segcli shares with others (`predict --out`), what it
wrote there is noted with this user's state.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from segcli.core import trust
from segcli.core.errors import DataError, SegcliError, UsageError
from segcli.core.files import PART, digest, is_below, read_json, write_json
from segcli.core.state import remember, remembered

MANIFEST = ".segcli-files.json"
LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}  # what file browsers leave behind, without asking
IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jp2"}
WHOLE, PIECES, PIECE = 2**18, 16, 2**14  # bytes of an image up to which all are hashed; above it, so many pieces of it
NAMED = 5
CLAIMS = "written"


class Own(NamedTuple):
    """One file that segcli wrote. A digest of None stands for one that may be half-written."""

    size: int
    time: int
    digest: str | None


def real(out: Path) -> Path:
    """Where the folder `out` is, or will be: a link is followed, also one that points at nothing yet.

    Raises UsageError for a link that leads back to itself, and for a place below a file.
    """
    place = Path(os.path.realpath(out))
    if any(os.path.islink(part) for part in (place, *place.parents)):
        raise UsageError(f"{out}: is a link that leads back to itself", hint="name another folder")
    above = next((part for part in place.parents if os.path.lexists(part)), None)
    if above is not None and not os.path.isdir(above):
        raise UsageError(f"{out}: can't be written: {above} is no folder", hint="name another folder")
    return place


def as_folder(out: Path) -> Path:
    """`real`, for a folder that is to be filled. Raises UsageError also where a file is there."""
    place = real(out)
    if os.path.lexists(place) and not os.path.isdir(place):
        raise UsageError(f"{out}: is a file, and a folder is to be written", hint="name another folder")
    return place


def is_empty(out: Path) -> bool:
    """Whether nothing is there that could be lost."""
    out = real(out)
    return not out.exists() or (out.is_dir() and not any(out.iterdir()))


def list_files(folder: Path) -> None:
    """Write the list of all files in a folder that was just made. Raises SegcliError."""
    start = len(os.path.join(folder, ""))
    _save(folder, {os.fspath(path)[start:].replace(os.sep, "/"): _own(path) for path in _files(folder)})


def list_too(folder: Path, path: Path) -> None:
    """Enter one more file of ours into a folder's list, where it has one. Raises SegcliError."""
    before = listed(folder)
    if before is not None:
        _save(folder, {**before, path.relative_to(folder).as_posix(): _own(path)})


def _save(folder: Path, files: Mapping[str, object]) -> None:
    """Write the list itself: name -> [size, time, digest]."""
    write_json(folder / MANIFEST, {"version": 1, "files": files}, indent=0)


def listed(folder: Path) -> dict[str, Own] | None:
    """Name -> what segcli wrote there; None for a folder without a list. Raises DataError for a broken list."""
    path = folder / MANIFEST
    if not os.path.lexists(path):
        return None
    content = read_json(path)
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict):
        raise DataError(f"{path}: is no list of files", hint="choose another --out")
    return _parsed(files)


def _parsed(files: object) -> dict[str, Own]:
    """The entries of a list that are what they should be; a file without one is not ours."""
    out = {}
    for name, facts in files.items() if isinstance(files, dict) else ():
        size, time, mark = facts if isinstance(facts, list) and len(facts) == 3 else (None, None, "")
        if is_below(name) and type(size) is int and type(time) is int and (mark is None or isinstance(mark, str)):
            out[name] = Own(size, time, mark)
    return out


def foreign(folder: Path, own: Iterable[str] | None = None) -> list[str]:
    """What in `folder` segcli did not write, or what was changed since, by name, sorted.

    own: the names that count as ours in a folder that an earlier version made without a list.
    """
    known = listed(folder)
    names = set(own or ()) if known is None else set()
    out = []
    for current, folders, files in os.walk(folder):
        here = Path(current)
        links = [name for name in folders if os.path.islink(here / name)]
        for name in [*files, *links]:
            path = here / name
            shown = path.relative_to(folder).as_posix()
            ours = shown in names if known is None else shown in known and unchanged(path, known[shown])
            if not ours and not _litter(name) and shown != MANIFEST:
                out.append(shown)
    return sorted(out)


def unchanged(path: Path, own: Own) -> bool:
    """Whether a file is as segcli left it."""
    if path.is_symlink() or not path.is_file():
        return False
    facts = path.stat()
    if own.digest is None:
        return True
    if facts.st_size != own.size:
        return False
    return facts.st_mtime_ns == own.time or _digest(path, own.size) == own.digest


def refuse_foreign(out: Path, own: Iterable[str] | None = None) -> None:
    """Raise DataError where --force would delete something in `out` that segcli did not write."""
    if strange := foreign(out, own):
        more = f" and {len(strange) - NAMED} more" if len(strange) > NAMED else ""
        raise DataError(
            f"{out}: --force would delete what segcli did not write, or what was changed since: "
            f"{', '.join(strange[:NAMED])}{more}",
            hint="move that elsewhere, or choose another --out",
        )


def publish(building: Path, out: Path, own: Iterable[str] | None = None) -> str | None:
    """Give the finished folder `building` the name `out`, and remove of what had that name what segcli wrote.

    -> where the rest of it is now, if something came in since `refuse_foreign`. What was there has its name again on
    any failure. Raises OSError.
    """
    place = real(out)
    if is_empty(place):
        if place.exists():
            place.rmdir()
        os.rename(building, place)
        return None
    kept = set(foreign(place, own))
    names = own if (known := listed(place)) is None else known
    ours = [name for name in names or () if name not in kept]
    old = _free(place)
    os.rename(place, old)
    try:
        os.rename(building, place)
    except BaseException:
        if not place.exists():
            os.rename(old, place)
        raise
    return None if _remove(old, [*ours, MANIFEST], kept) else str(old)


def _free(place: Path) -> Path:
    """A name beside `place` that nothing has."""
    count = 1
    while os.path.lexists(old := place.with_name(f"{place.name}.old-{count}")):
        count += 1
    return old


def _remove(folder: Path, names: Iterable[str], kept: set[str]) -> bool:
    """Remove files of `folder`, and the folders that are empty then. -> whether nothing is left."""
    for name in names:
        path = folder / name
        if not path.is_dir() and os.path.lexists(path):
            path.unlink()
    for current, _, files in os.walk(folder, topdown=False):
        for name in files:
            if _litter(name) and Path(current, name).relative_to(folder).as_posix() not in kept:
                Path(current, name).unlink()
        if not os.path.islink(current) and not os.listdir(current):
            os.rmdir(current)
    return not folder.exists()


def claim(
    out: Path, names: Iterable[str], inputs: Iterable[Path] = (), own: Callable[[], Iterable[str]] = tuple
) -> None:
    """Note, before any work, which files are about to be written in a folder that others may use, too.

    The note is kept for this user (core/state.py), not in the folder. own: tells the names that count as ours without
    one, and is asked only then.
    Raises UsageError where `out` can be no folder, and DataError for a subfolder of it that is a link which leads out,
    for a file that is an input, or that is there and was not written by segcli, or changed since.
    """
    top = as_folder(out)
    reading = {os.path.realpath(path): path for path in inputs}
    known = _claimed(out) or {name: Own(0, 0, None) for name in own()}
    folders: dict[Path, str] = {}
    kept: dict[str, object] = {**known}
    for name in names:
        path = out / name
        if path.parent not in folders:
            folders[path.parent] = _subfolder(path.parent, top)
        folder = folders[path.parent]
        if (source := reading.get(os.path.join(folder, path.name))) is not None:
            raise DataError(f"{path}: would be written over the input {source}", hint="choose another --out")
        if os.path.lexists(path) and not (name in known and unchanged(path, known[name])):
            what = "was changed since segcli wrote it" if name in known else "was not written by segcli"
            raise DataError(f"{path}: is there already and {what}", hint="move it away, or choose another --out")
        kept[name] = [0, 0, None]
    _keep(out, kept)


def _subfolder(folder: Path, top: Path) -> str:
    """Where a folder of what is written really is. Raises DataError where that is not in `top`, or it is a file."""
    place = os.path.realpath(folder)
    if not Path(place).is_relative_to(top) and not trust.everything():
        hint = f"choose another --out, or remove the link; if it is meant so: {trust.VARIABLE}=1"
        raise DataError(f"{folder}: is a link that leads out, to {place}", hint=hint)
    if os.path.lexists(place) and not os.path.isdir(place):
        raise DataError(f"{folder}: is there already and is no folder", hint="choose another --out")
    return place


def note_written(out: Path) -> None:
    """List what `claim` announced as it is now; what was not written after all is taken off the list."""
    files: dict[str, object] = {}
    for name, own in _claimed(out).items():
        path = out / name
        if own.digest is not None:
            files[name] = own
        elif path.is_file() and not path.is_symlink():
            files[name] = _own(path)
    _keep(out, files)


def is_written(out: Path) -> bool:
    """Whether what `claim` announced of a folder was written to its end, and any of it is there still."""
    known = _claimed(out)
    return all(own.digest is not None for own in known.values()) and any((out / name).exists() for name in known)


def _claimed(out: Path) -> dict[str, Own]:
    """What was noted of a folder; nothing where the note can't be read: its files then count as somebody else's."""
    try:
        note = remembered(CLAIMS, out)
    except SegcliError as error:
        print(f"note: {error}", file=sys.stderr)
        note = None
    return _parsed((note or {}).get("files") or {})


def _keep(out: Path, files: Mapping[str, object]) -> None:
    try:
        remember(CLAIMS, out, {"files": files})
    except SegcliError as error:
        print(f"note: {error}: what is written in {out} will count as not segcli's own", file=sys.stderr)


def _files(folder: Path) -> Iterable[Path]:
    for current, _, names in os.walk(folder):
        for name in names:
            if name != MANIFEST:
                yield Path(current, name)


def _litter(name: str) -> bool:
    """Whether a file is of no one: of a file browser, or half-written by a process of ours that was killed."""
    return name in LITTER or (name.startswith(".") and name.endswith(PART))


def _own(path: Path) -> Own:
    """A file as it is now."""
    facts = path.stat()
    return Own(facts.st_size, facts.st_mtime_ns, _digest(path, facts.st_size))


def _digest(path: Path, size: int) -> str:
    """sha256 of a file; of a large image, of pieces that are spread over it: 100,000 images are not read twice."""
    if size <= WHOLE or path.suffix.lower() not in IMAGES:
        return digest(path, error=SegcliError)
    state = hashlib.sha256()
    with open(path, "rb") as file:
        for i in range(PIECES):
            file.seek((size - PIECE) * i // (PIECES - 1))
            state.update(file.read(PIECE))
    return "pieces:" + state.hexdigest()
