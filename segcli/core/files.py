"""Files read and written safely: one place for resolving names, reading text and JSON, digests, whole writes.

Every reader opens regular files alone (a FIFO would wait for ever, a device has no end) and turns whatever is wrong
with the content (encoding, depth, a number of 5,000 digits, half a surrogate pair) into one error that names the file.
`error` is the kind to raise: DataError for datasets, UsageError for recipes, ModelError for runs and weights.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pydantic

from segcli.core.errors import DataError, SegcliError

T = TypeVar("T")
PART = ".segcli-part"  # suffix of files that are being written; a process that was killed leaves them behind
LONGEST = 4096  # bytes of a path that systems take
LONGEST_PART = 255  # and of each name in it
DEEPEST = 100  # mappings and lists inside one another
WALKED = 4 * 2**20  # characters of JSON up to which depth is checked: in larger files, each reader asks for few fields
SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")  # as JSON writes one half of a pair
DRIVE = re.compile(r"[A-Za-z]:[\\/]")  # as Windows writes an absolute path
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def resolve(
    root: Path,
    name: object,
    where: str,
    *,
    base: Path | None = None,
    within: Path | None = None,
    error: type[SegcliError] = DataError,
    trusted: bool = False,
) -> Path:
    """The file `name` below the folder `root`, with "/" or the system's separator between parts; it need not exist.

    This is the one way from a name that somebody else wrote to a path: no absolute name, no drive, no URL, no "..", no
    NUL, and no link on the way whose target lies outside `root`. base: a folder below `root` that the name is relative
    to; ".." may then climb as far as `root`. within: the folder that links may lead to, where that is more than `root`.
    trusted: links and ".." may lead out, and absolute names count (the user said so: --trust-paths). where: what names
    it, for the message.
    """
    if not isinstance(name, str) or not name or not name.strip("/."):
        raise error(f"{where}: {name!r:.200} is not the name of a file")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise error(f"{where}: the file name {name!r:.200} is no valid text") from None
    if "\0" in name or size > LONGEST:
        raise error(f"{where}: {name!r:.200} can't be a file name")
    if URL.match(name):
        raise error(f"{where}: {name!r:.200} is an address, not a file", hint="download it, and name the file")
    if trusted:
        return (base or root) / name
    path = (base or root) / name
    if base is not None and not _rooted(name):
        path = Path(os.path.normpath(path))
        outside = not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root))
    else:
        outside = not is_below(name)
    if outside:
        raise error(f"{where}: {name!r:.200} is not a path below {root}", hint=TRUST)
    if not inside(path, within or root):
        raise error(f"{where}: {name!r:.200} is a link that leads out of {within or root}", hint=TRUST)
    return path


def is_below(name: str) -> bool:
    """Whether a name is, by its text alone, that of something below a folder: quick, for every image of a dataset."""
    if not name or name[0] in "/\\" or "\0" in name or not name.strip("/.") or len(name) > LONGEST:
        return False
    if ".." in name and ".." in name.replace("\\", "/").split("/"):
        return False
    return ":" not in name or not _rooted(name)


def _rooted(name: str) -> bool:
    """Whether a name says where it begins: an absolute path, of whatever system, a drive, or an address."""
    return bool(name[0] in "/\\" or DRIVE.match(name) or Path(name).drive or URL.match(name))


def is_plain(name: object) -> bool:
    """Whether a name is one part of a path, as a run, a split or a dataset is called: no separator, nothing hidden in
    it (control characters), not "." or ".."."""
    if not isinstance(name, str) or name.strip() in ("", ".", "..") or len(name) > 200:
        return False
    if any(letter in "/\\" or ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 for letter in name):
        return False
    return not any(0xD800 <= ord(letter) < 0xE000 for letter in name)  # half of a surrogate pair


TRUST = "if these are your own files, copy them below it, or give --trust-paths to segcli prepare"


def inside(path: Path, root: Path) -> bool:
    """Whether `path` lies in the folder `root` once every link on the way is followed. False for loops of links."""
    if _plainly_below(os.fspath(path), os.fspath(root)):
        return True
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):
        return False


def _plainly_below(path: str, root: str) -> bool:
    """Whether nothing between `root` and `path` is a link or climbs: then it is below, wherever `root` itself leads,
    and links above need not be followed for each of many files."""
    if not path.startswith(root + os.sep) or "\0" in path:
        return False
    names = path[len(root) + 1 :].split(os.sep)
    if ".." in names:
        return False
    for name in names:
        root = os.path.join(root, name)
        try:
            if stat.S_ISLNK(os.lstat(root).st_mode):
                return False
        except FileNotFoundError:  # nothing follows
            return True
        except OSError:
            return False
    return True


def read_bytes(path: Path, *, error: type[SegcliError] = DataError, largest: int | None = None) -> bytes:
    """The content of a regular file. Raises `error` where there is none, or it has more than `largest` bytes."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if largest is not None and size > largest:
                raise error(f"{path}: has {size:,} bytes, more than the {largest:,} that such a file can have")
            return file.read()
    except FileNotFoundError:
        raise error(f"{path}: there is no such file") from None
    except OSError as problem:
        raise error(f"{path}: can't be read: {problem.strerror or problem}") from problem
    except SegcliError:
        raise
    except ValueError as problem:  # NUL in the path
        raise error(f"{str(path)!r:.200}: can't be a file: {problem}") from problem


def open_regular(path: Path) -> BinaryIO:
    """A regular file, opened to read bytes; a FIFO is refused without waiting for whoever writes into it.

    Raises OSError (also for folders, devices and sockets) and ValueError (NUL in the path).
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(0, "is a folder" if stat.S_ISDIR(mode) else "is a pipe or a device, not a file", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_text(path: Path, *, error: type[SegcliError] = DataError, largest: int | None = None) -> str:
    """The text of a UTF-8 file, with or without a byte order mark. Raises `error`."""
    try:
        return read_bytes(path, error=error, largest=largest).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{path}: can't be read as UTF-8 text: {problem.reason} at byte {problem.start}") from problem


def read_json(path: Path, *, error: type[SegcliError] = DataError, largest: int | None = None) -> Any:
    """The content of a JSON file. Raises `error`."""
    return parse_json(read_text(path, error=error, largest=largest), str(path), error=error)


def parse_json(text: str, where: str, *, error: type[SegcliError] = DataError) -> Any:
    """JSON text as Python values, in which every string is valid text. Raises `error` that begins with `where`."""
    try:
        value = json.loads(text)
        if SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        if text.count("[") + text.count("{") > DEEPEST and len(text) <= WALKED and _too_deep(value):
            raise RecursionError
        return value
    except RecursionError:
        raise error(f"{where}: not valid JSON: nested too deeply") from None
    except UnicodeEncodeError as problem:
        raise error(f"{where}: not valid JSON: half of a surrogate pair, {problem.object[problem.start]!r}") from None
    except ValueError as problem:  # also numbers beyond what Python parses
        raise error(f"{where}: not valid JSON: {problem}") from problem


def _too_deep(value: object) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(DEEPEST):
        inner = (v.values() if isinstance(v, dict) else v for v in level)
        level = [v for values in inner for v in values if isinstance(v, (dict, list))]
        if not level:
            return False
    return True


def parsed(kind: type[T], value: object, where: str | Path, *, error: type[SegcliError] = DataError) -> T:
    """`value` as `kind` (a pydantic model or type). Raises `error` that names the place inside and what is wrong."""
    try:
        return _adapter(kind).validate_python(value)
    except pydantic.ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        given = repr(first["input"])
        given = given if len(given) < 60 else given[:57] + "..."
        raise error(f"{where}: {place + ': ' if place else ''}{first['msg'].lower()}, not {given}") from problem
    except RecursionError:
        raise error(f"{where}: nested too deeply") from None


def _adapter(kind: type[T]) -> pydantic.TypeAdapter[T]:
    """Building one takes longer than using it: they are kept, but those of annotations that have no hash."""
    try:
        kept = _adapters.get(kind)
    except TypeError:
        return pydantic.TypeAdapter(kind)
    if kept is None:
        kept = _adapters[kind] = pydantic.TypeAdapter(kind)
    return kept


_adapters: dict[object, pydantic.TypeAdapter[Any]] = {}


def part_start(path: Path) -> str:
    """How what is being written for `path` is called at first; names have 255 bytes at most."""
    return f".{path.name.encode(errors='surrogateescape')[:100].decode(errors='ignore')}."


def part_beside(path: Path) -> Path:
    """A new empty file beside `path` (its folder is made, also where a link points at none yet) that `remove_parts`
    knows. Raises OSError."""
    Path(os.path.realpath(path.parent)).mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=part_start(path), suffix=PART, dir=path.parent)
    os.close(handle)
    return Path(name)


def why_not_written(problem: BaseException) -> str | None:
    """A hint, where the disk is full or what is there is no file; None for a library's error that does not say why."""
    number = getattr(problem, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full: make room, or write elsewhere; an earlier file of this name is untouched"
    if number in (errno.EISDIR, errno.ENOTDIR):
        return "a folder stands where a file belongs, or a file where a folder does: move it away"
    return None


def _is_full(folder: Path) -> bool:
    """Whether a disk has no room left, which torch and safetensors say in words of their own."""
    try:
        return shutil.disk_usage(folder).free < 2**20
    except OSError:
        return False


def write_atomic(path: Path, write: Callable[[Path], object], *, flush: bool = True) -> None:
    """Call `write` with a temporary path beside `path`, flush it to disk, and rename it: never half a file.

    flush=False leaves it to the system when the content reaches the disk: for the many small files that the same
    command makes again. Raises SegcliError; an earlier file of this name then stands untouched.
    """
    temporary: Path | None = None
    try:
        temporary = part_beside(path)
        write(temporary)
        if flush:
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as problem:
        cause = problem
        if not isinstance(problem, OSError) and _is_full(path.parent):
            cause = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise SegcliError(
            f"{path}: can't be written: {getattr(cause, 'strerror', None) or cause}",
            hint=why_not_written(cause) or "an earlier file of this name is untouched",
        ) from problem
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):  # it has its own name by now; or the disk refuses this, too
                temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole. Raises SegcliError, and DataError for text that is none (half of a surrogate pair)."""
    try:
        content = text.encode()
    except UnicodeEncodeError as problem:
        around = text[max(0, problem.start - 40) : problem.start]
        raise DataError(f"{path.name}: {around}… is no valid text") from problem
    write_atomic(path, lambda part: part.write_bytes(content))


def write_json(path: Path, value: object, *, indent: int | None = None) -> None:
    """Write JSON values whole, without blanks unless there is an `indent`. Raises as `write_text` does."""
    separators = (",", ":") if indent is None else None
    write_text(path, json.dumps(value, ensure_ascii=False, indent=indent, separators=separators))


def remove_parts(*folders: Path) -> None:
    """Remove what killed processes left half-written in each folder itself, not below it: it bears our suffix."""
    for folder in folders:
        for path in folder.glob(f".*{PART}"):
            if path.is_file() and not path.is_symlink():
                with contextlib.suppress(OSError):  # it is no more than litter
                    path.unlink()


def digest(path: Path, *, error: type[SegcliError] = DataError) -> str:
    """sha256 of a regular file, in hexadecimal. Raises `error`."""
    state = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while part := file.read(2**20):
                state.update(part)
    except OSError as problem:
        raise error(f"{path}: can't be read: {problem.strerror or problem}") from problem
    return state.hexdigest()
