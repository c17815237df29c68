"""The folders of a source: links between them are followed, and none vanishes without a word."""

import os
from collections.abc import Iterable, Iterator
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
    a dot, of folders with "/" behind."""

    path: Path
    folders: list[str]
    files: list[str]
    hidden: list[str]


def listed(root: Path) -> list[Folder]:
    """The folders at and below `root`, as `walk` gives them; hidden ones are named and not entered."""
    out = []
    for path, folders, files in walk(root, hidden=True):
        hidden = [f"{name}/" for name in folders if name.startswith(".")]
        hidden += [name for name in files if name.startswith(".")]
        folders[:] = [name for name in folders if not name.startswith(".")]
        out.append(Folder(path, folders, [name for name in files if not name.startswith(".")], hidden))
    return out


def walk(root: Path, *, hidden: bool = False, prepared: bool = False) -> Iterator[tuple[Path, list[str], list[str]]]:
    """os.walk that follows links to folders, sorted: (folder, names of folders in it, names of files in it).

    Names of folders may be taken out of the list, which are then left alone. A link to a folder that it lies in is left
    out: whatever is there has been met. So is a folder that a link called train, val or test stands for. hidden: also
    what begins with a dot. prepared: also what was prepared before, perhaps inside its own source. Raises DataError for
    a maze of links, and for a folder that this user may not read.
    """
    followed = 0
    given_name: set[str] = set()
    met: dict[str, tuple[list[str], list[str]]] = {}  # each is read once
    for current, folders, names in os.walk(root):  # before anything is entered: a link may stand for what lies before
        folders[:] = sorted(name for name in folders if hidden or not name.startswith("."))
        met[current] = [*folders], names
        if not prepared and {*names} >= PREPARED:
            folders.clear()
        given_name |= stand_ins(Path(current), folders)
    waiting = [os.fspath(root)]
    while waiting:
        current = waiting.pop()
        here = met.pop(current, None) or next(_inside(current), None)
        if here is None or (not prepared and {*here[1]} >= PREPARED):
            continue
        folders, names = here
        folders = sorted(name for name in folders if hidden or not name.startswith("."))
        given_name |= stand_ins(Path(current), folders)
        if given_name:
            folders[:] = [name for name in folders if os.path.abspath(os.path.join(current, name)) not in given_name]
        links = {name for name in folders if os.path.islink(os.path.join(current, name))}
        if links:
            above = _above(current, root)
            loops = {name for name in links if os.path.realpath(os.path.join(current, name)) in above}
            folders[:] = [name for name in folders if name not in loops]
            followed += len(links - loops)
        if followed > MOST_LINKS:
            raise DataError(f"{root}: more than {MOST_LINKS:,} links to folders: they lead round in circles")
        yield Path(current), folders, sorted(name for name in names if hidden or not name.startswith("."))
        waiting += (os.path.join(current, name) for name in reversed(folders))


def stand_ins(folder: Path, names: Iterable[str]) -> set[str]:
    """The folders, as absolute paths, that links in `folder` called after a split lead to, and that are not called
    after one themselves: what lies there is that split, and not once more without one."""
    out = set()
    for name in names:
        path = os.path.join(folder, name)
        if name.lower() in SPLITS and os.path.islink(path):
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
        files = [name for name in folder.files if os.path.splitext(name)[1].lower() in read]
        for name in (*folder.folders, *files):
            path = os.path.join(folder.path, name)
            if os.path.islink(path):
                real = os.path.realpath(path)
                if not Path(real).is_relative_to(top):
                    raise DataError(f"{path}: is a link that leads out of {root}, to {real}", hint=TRUST)


def _inside(folder: str) -> Iterator[tuple[list[str], list[str]]]:
    """Once the names of folders and of files in `folder`; nothing where it is none."""
    for _, folders, names in os.walk(folder, onerror=_refuse_closed):
        yield folders, names
        return


def _refuse_closed(error: OSError) -> None:
    """os.walk leaves out without a word what it can't list; what is not there at all is for others to say."""
    if isinstance(error, PermissionError):
        raise DataError(f"{error.filename}: the folder can't be read: {error.strerror}") from error


def _above(current: str, root: Path) -> set[str]:
    """The real folders from `root` down to `current`."""
    path, out = Path(current), set()
    while True:
        out.add(os.path.realpath(path))
        if path == root or path == path.parent:
            break
        path = path.parent
    return out
