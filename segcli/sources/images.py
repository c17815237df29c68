"""Find the image files that an annotation file speaks of, wherever they were put beside it, and nowhere else."""

import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from segcli.core.errors import DataError
from segcli.core.files import DRIVE, TRUST, URL, is_below, resolve
from segcli.data.image import SUFFIXES, image_size
from segcli.sources.folders import walk
from segcli.sources.label_pictures import holds_labels

SAMPLE = 32  # about as many file names a folder is judged by
DEEPEST = 8  # folders of a name that are taken off one by one
HARMLESS = 2**24  # pixels that masks may have before anybody looks at the image
REDUCED = 64  # times as many pixels as an image has may its labels have: it was reduced, eightfold a side, after them
DEPTH = 3  # levels of subfolders that are searched when no usual place fits


def is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def is_there(path: Path) -> bool:
    """Whether a file is there; names that no file system can have are not."""
    return os.path.isfile(path)


def size_of(
    path: Path, claimed: tuple[int, int] | None, where: str | Path, content: bytes | None = None
) -> tuple[int, int]:
    """The (H, W) of the image `path`, or of its `content`: as its labels `where` claim, for masks are drawn that large,
    else its own.

    Raises DataError for a large claim that has nothing to do with the image's own. Other differences are the doctor's.
    """
    if claimed is None:
        return image_size(path, content)
    pixels = claimed[0] * claimed[1]
    if pixels > HARMLESS:
        height, width = image_size(path, content)
        if pixels > REDUCED * height * width:
            raise DataError(
                f"{where}: says that the image {path.name} has {claimed[1]} x {claimed[0]} pixels, and it has "
                f"{width} x {height}",
                hint="correct its width and height there",
            )
    return claimed


def is_folder(path: Path) -> bool:
    """The same for folders."""
    return os.path.isdir(path)


def locate(
    names: Sequence[str],
    usual: Iterable[Path],
    root: Path,
    where: Path,
    trusted: bool = False,
    labels: Collection[Path] = (),
) -> list[Path]:
    """The path of every file in `names`; those that are not there keep the path where they should be.

    usual: folders to try, the likeliest first; then every folder below `root`. A name's own folders may be missing on
    this disk: then its last parts decide, if they are not ambiguous. An absolute name, an address or one that climbs is
    found by its last parts alone, never where it points, unless `trusted`. labels: files that are label pictures: these
    are no image, and nothing is looked for in folders that are called after masks or maps, but for `usual` ones and
    that of the annotation file `where`. Raises DataError where no folder holds any of them.
    """
    names = [name.replace("\\", "/") for name in names]
    folders = list(_folders(usual, root, where.parent))
    given = [name if trusted else as_below(name) for name in names]
    for shortened in _shortened(given):
        base = _best(shortened, folders, labels)
        if base is not None:
            listed: dict[Path, dict[str, Path]] = {}
            return _elsewhere([_find(base, name, listed) for name in shortened], shortened, folders, labels)
    if not trusted and (outside := [name for name in names if not is_below(name)]):
        raise DataError(f"{where}: {outside[0]!r:.200} is not below {root}, nor is a file called like it", hint=TRUST)
    looked = ", ".join(map(str, folders[:4])) + (f" and {len(folders) - 4} more folders" if len(folders) > 4 else "")
    raise DataError(
        f"{where}: its images (such as {names[0]}) are not found in {looked}",
        hint="put them in a folder called images beside the annotation file",
    )


def by_name(names: Sequence[str], root: Path, where: Path) -> dict[str, Path]:
    """Name -> the image below `root` whose last part is the name's, with or without its suffix; one that is not there
    keeps a path where it should be. Folders of label pictures are left aside.

    Raises DataError where none of them is there, and for a name that two images have. where: what names them.
    """
    places: dict[str, list[Path]] = {}
    for folder, _, files in walk(root):
        if not holds_labels(folder, root):
            for image in (folder / file for file in files if os.path.splitext(file)[1].lower() in SUFFIXES):
                for key in (image.name, image.stem):
                    places.setdefault(key, []).append(image)
    out, there = {}, 0
    for name in names:
        last = name.replace("\\", "/").rpartition("/")[2]
        fits = places.get(last, [])
        there += len(fits)
        if len(fits) > 1:
            listed = ", ".join(str(fit.relative_to(root)) for fit in fits[:3])
            raise DataError(f"{where}: the image {name} could be {listed}")
        out[name] = fits[0] if fits else root / as_below(last or "-")
    if names and not there:
        raise DataError(
            f"{where}: its images (such as {names[0]}) are not found in {root}",
            hint="put them in a folder called images beside the annotation file",
        )
    return out


def as_below(name: str) -> str:
    """A name as a path below a folder: what says where it begins, and what climbs, is taken off."""
    if is_below(name):
        return name
    parts = [part for part in DRIVE.sub("", URL.sub("", name)).split("/") if part not in ("", ".", "..")]
    return "/".join(parts).replace("\0", "") or "-"


def by_last_parts(name: str, folders: Iterable[Path]) -> Iterator[Path]:
    """Where a file may be that lies elsewhere by its name: in each folder by all its parts, then by ever fewer."""
    parts = as_below(name.replace("\\", "/")).split("/")
    yield from (folder.joinpath(*parts[count:]) for count in range(len(parts)) for folder in folders)


def refuse_outside(name: str, path: Path, where: str | Path, trusted: bool) -> None:
    """Raise DataError where a file is not there and its name leads out of the source: the name is why."""
    if not trusted and not is_there(path):
        resolve(path.parent, name, str(where))


def _shortened(names: list[str]) -> Iterator[list[str]]:
    """The names, then without their first folders, one more each time, as long as no two become one."""
    different, most = len(set(names)), max((name.count("/") for name in names), default=0)
    for count in [*range(min(most, DEEPEST)), most]:
        cut = [name.split("/", min(count, name.count("/")))[-1] if count else name for name in names]
        if len(set(cut)) == different:
            yield cut


def below(paths: Sequence[Path]) -> tuple[Path, list[str]]:
    """The deepest folder that holds all `paths`, and each path below it, with "/" between parts."""
    parents = {str(path.parent.absolute()) for path in paths}
    root = Path(os.path.commonpath(parents))
    return root, [path.absolute().relative_to(root).as_posix() for path in paths]


def _folders(usual: Iterable[Path], root: Path, own: Path) -> Iterable[Path]:
    """The usual ones, then those below `root` but for folders of label pictures; `own` may be called as such."""
    seen = set()
    for folder in usual:
        if folder not in seen and folder.is_dir():
            seen.add(folder)
            yield folder
    for folder, inner, _ in walk(root):
        if len(folder.relative_to(root).parts) >= DEPTH:
            inner.clear()
        if folder not in seen and (folder == own or not holds_labels(folder, root)):
            yield folder


def _best(names: Sequence[str], folders: Sequence[Path], labels: Collection[Path]) -> Path | None:
    """The folder that holds most of a sample of `names`, the first of equals; None where none holds any."""
    sample = names[:: max(1, len(names) // SAMPLE)]
    best, most = None, 0
    for folder in folders:
        listed: dict[Path, dict[str, Path]] = {}
        paths = [_find(folder, name, listed) for name in sample]
        found = sum(is_there(path) and path not in labels for path in paths)
        if found > most:
            best, most = folder, found
        if found == len(sample):
            break
    return best


def _elsewhere(
    paths: list[Path], names: Sequence[str], folders: Sequence[Path], labels: Collection[Path]
) -> list[Path]:
    """The paths, those that are not there replaced where one other file fits: half of the names may lack a folder, have
    one too many, or be in other letters or lack a suffix. A file that is in use, one of two, or one of `labels` is
    never taken."""
    missing = [i for i, path in enumerate(paths) if not is_there(path)]
    if not missing:
        return paths
    used = {path for i, path in enumerate(paths) if i not in set(missing)}
    files: dict[str, set[Path]] = {}
    for folder in folders:
        for file in folder.iterdir():
            if file not in used and file not in labels and is_image(file):
                for key in {file.name.casefold(), file.stem.casefold()}:
                    files.setdefault(key, set()).add(file)
    out, taken = list(paths), Counter[Path]()
    for i in missing:
        own = names[i].casefold().split("/")
        fits = files.get(own[-1], set())
        for better in (  # where several fit: with the name's own folders, then in its own case
            {file for file in fits if [part.casefold() for part in file.parts[-len(own) :]] == own},
            {file for file in fits if file.name == names[i].split("/")[-1]},
        ):
            fits = fits if len(fits) < 2 else better or fits
        if len(fits) == 1:
            out[i] = next(iter(fits))
            taken[out[i]] += 1
    return [paths[i] if taken[path] > 1 else path for i, path in enumerate(out)]


def _find(folder: Path, name: str, listed: dict[Path, dict[str, Path]]) -> Path:
    """folder/name, as the disk spells it: 한 may be one character or ㅎ + ㅏ + ㄴ, and file systems do not agree."""
    path = folder / name
    if is_there(path) or name.isascii():
        return path
    if path.parent not in listed:
        files = path.parent.iterdir() if is_folder(path.parent) else ()
        listed[path.parent] = {unicodedata.normalize("NFC", p.name): p for p in files}
    return listed[path.parent].get(unicodedata.normalize("NFC", path.name), path)
