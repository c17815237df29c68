"""The folders of a source: links between them are followed, and none vanishes without a word."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from segcli.core.errors import DataError
from segcli.core.files import TRUST

MOST_LINKS = 1000  # folders that are reached through links: more make a maze
SPLITS = {
    **{"train": "train", "training": "train"},
    **{"val": "val", "valid": "val", "validation": "val", "dev": "val"},
    **{"test": "test", "testing": "test"},
}
# suffixes of labels and of lists of classes
LABELS = {".json", ".geojson", ".txt", ".xml", ".csv", ".yaml", ".yml", ".names"}
PREPARED = {"info.json", "prepared.json"}  # the files that every prepared folder holds


class Folder(NamedTuple):
    """One folder of a source: its path, and the names of folders and files in it. hidden: names of both that begin with
    a dot, of folders with "/" behind. links: which of all these names are links."""

    path: Path
    folders: list[str]
    files: list[str]
    hidden: list[str]
    links: frozenset[str]


def listed(root: Path) -> list[Folder]:
    """The folders at and below `root`, as `walk` gives them; hidden ones are named and not entered."""
    out = []
    for here, folders, files in _visited(root, hidden=True, prepared=False):
        hidden = [f"{name}/" for name in folders if name.startswith(".")]
        hidden += [name for name in files if name.startswith(".")]
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = [name for name in files if not name.startswith(".")]
        out.append(Folder(here.path, folders, files, hidden, here.links))
    return out


def walk(root: Path, *, hidden: bool = False, prepared: bool = False) -> Iterator[tuple[Path, list[str], list[str]]]:
    """os.walk that follows links to folders, sorted: (folder, names of folders in it, names of files in it).

    Names of folders may be taken out of the list, which are then left alone. A link to a folder that it lies in is left
    out: whatever is there has been met. So is a folder that a link called train, val or test stands for. hidden: also
    what begins with a dot. prepared: also what was prepared before, perhaps inside its own source. Raises DataError for
    a maze of links, and for a folder that this user may not read.
    """
    for here, folders, files in _visited(root, hidden=hidden, prepared=prepared):
        yield here.path, folders, files


def _visited(root: Path, *, hidden: bool, prepared: bool) -> Iterator[tuple["_Listing", list[str], list[str]]]:
    """The same, each folder as it was read beside the names of folders and files that `walk` gives."""
    followed = 0
    known = _known.get() or _Known()
    given_name = {*known.stood_for(os.fspath(root), hidden, prepared)}
    waiting = [os.fspath(root)]
    while waiting:
        current = waiting.pop()
        met = known.listing(current, refuse=True)
        if met is None or (met.prepared and not prepared):
            continue
        folders = _shown(met.folders, hidden)
        given_name |= met.stood_for()
        if given_name:
            folders[:] = [name for name in folders if os.path.abspath(os.path.join(current, name)) not in given_name]
        links = met.links.intersection(folders)
        if links:
            above = _above(current, root)
            loops = {name for name in links if os.path.realpath(os.path.join(current, name)) in above}
            folders[:] = [name for name in folders if name not in loops]
            followed += len(links - loops)
        if followed > MOST_LINKS:
            raise DataError(f"{root}: more than {MOST_LINKS:,} links to folders: they lead round in circles")
        yield met, folders, _shown(met.files, hidden)
        waiting += (os.path.join(current, name) for name in reversed(folders))


@contextlib.contextmanager
def listed_once() -> Iterator[None]:
    """While it holds, each folder is read from the disk once: one format after the other asks whether a source is its
    own, and a reader looks for one kind of files after the other."""
    token = _known.set(_known.get() or _Known())
    try:
        yield
    finally:
        _known.reset(token)


def names_in(folder: Path) -> list[str]:
    """The names of all that lies in a folder itself, sorted; nothing where it is none. Raises DataError for one that
    this user may not read."""
    met = (_known.get() or _Known()).listing(os.fspath(folder), refuse=True)
    return [] if met is None else sorted([*met.folders, *met.files])


class _Listing(NamedTuple):
    """What lies in one folder: names of folders and of files, sorted, and which of both are links. prepared: whether it
    is a prepared dataset."""

    path: Path
    folders: list[str]
    files: list[str]
    links: frozenset[str]
    prepared: bool

    def stood_for(self) -> set[str]:
        return stand_ins(self.path, self.links.intersection(self.folders)) if self.links else set()


class _Known:
    """Folders as they were read."""

    def __init__(self) -> None:
        self.folders: dict[str, _Listing] = {}
        self.given: dict[tuple[str, bool, bool], set[str]] = {}  # of each root what links below it stand for

    def listing(self, folder: str, *, refuse: bool = False) -> _Listing | None:
        """None where it is none, or can't be read; `refuse` raises DataError then."""
        if folder not in self.folders:
            try:
                self.folders[folder] = _read(folder)
            except PermissionError as error:
                if refuse:
                    raise DataError(f"{error.filename}: the folder can't be read: {error.strerror}") from error
            except OSError:  # what is not there at all is for others to say
                return None
        return self.folders.get(folder)

    def stood_for(self, root: str, hidden: bool, prepared: bool) -> set[str]:
        """What links at and below `root` stand for, but for those that lie behind other links: known before anything is
        entered, for it may lie before them."""
        if (root, hidden, prepared) not in self.given:
            out, waiting = set[str](), [root]
            while waiting:
                here = self.listing(current := waiting.pop())
                if here is not None and (prepared or not here.prepared):
                    out |= here.stood_for()
                    inner = (name for name in _shown(here.folders, hidden) if name not in here.links)
                    waiting += (os.path.join(current, name) for name in inner)
            self.given[root, hidden, prepared] = out
        return self.given[root, hidden, prepared]


_known: ContextVar[_Known | None] = ContextVar("_known", default=None)


def _shown(names: list[str], hidden: bool) -> list[str]:
    return [name for name in names if hidden or not name.startswith(".")]


def _read(folder: str) -> _Listing:
    """What lies in `folder`. Raises OSError."""
    folders, files, links = list[str](), list[str](), set[str]()
    with os.scandir(folder) as entries:
        for entry in entries:
            (folders if _is_folder(entry) else files).append(entry.name)
            if entry.is_symlink():
                links.add(entry.name)
    return _Listing(Path(folder), sorted(folders), sorted(files), frozenset(links), {*files} >= PREPARED)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def stand_ins(folder: Path, names: Iterable[str]) -> set[str]:
    """The folders, as absolute paths, that links in `folder` called after a split lead to, and that are not called
    after one themselves: what lies there is that split, and not once more without one."""
    out = set()
    for name in (name for name in names if name.lower() in SPLITS):
        path = os.path.join(folder, name)
        if os.path.islink(path):
            target = os.path.join(os.path.dirname(path), os.readlink(path))
            if os.path.basename(os.path.normpath(target)).lower() not in SPLITS:
                out.add(os.path.abspath(target))
    return out


def refuse_links_out(root: Path, folders: Iterable[Folder], images: set[str]) -> None:
    """Raise DataError for a link in the `folders` of `root`, to a folder or to an image or label file, that leads out
    of it.

    images: suffixes of image files. Other files, such as programs, may be links: they are not read.
    """
    top, read = os.path.realpath(root), images | LABELS
    for folder in folders:
        files = [name for name in folder.files if os.path.splitext(name)[1].lower() in read] if folder.links else []
        for name in (*folder.folders, *files):
            if name in folder.links:
                path = os.path.join(folder.path, name)
                real = os.path.realpath(path)
                if not Path(real).is_relative_to(top):
                    raise DataError(f"{path}: is a link that leads out of {root}, to {real}", hint=TRUST)


def _above(current: str, root: Path) -> set[str]:
    """The real folders from `root` down to `current`."""
    path, out = Path(current), set()
    while True:
        out.add(os.path.realpath(path))
        if path == root or path == path.parent:
            break
        path = path.parent
    return out
