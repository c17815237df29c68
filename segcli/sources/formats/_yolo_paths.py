"""Which images a YOLO dataset means, and which text file has the labels of an image."""

import codecs
import itertools
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from segcli.core.errors import DataError
from segcli.core.files import TRUST, inside, is_below, open_regular
from segcli.data.canonical import UNDECIDED
from segcli.data.image import SUFFIXES
from segcli.sources.files import LOOK, empty_split, find_files, lines, note_names, some, split_of
from segcli.sources.folders import SPLITS
from segcli.sources.images import by_last_parts, is_folder, is_image, is_there

ROW = re.compile(rb"\d+(?:\.0*)?(?:[ \t,]+[-+.\deE]+){4,}\s*$")  # a line of labels
# lists of classes: labelImg and CVAT, AnyLabeling, Roboflow's Darknet export
NAMES = ("classes.txt", "obj.names", "_darknet.labels")


def label_file(image: Path, base: Path) -> Path:
    """images/…/a.jpg -> labels/…/a.txt, below `base`; else beside the image, or above `base`, where it is there."""
    parts, first = image.parts, len(base.parts) if image.is_relative_to(base) else 0
    found = [i for i in range(len(parts) - 2, -1, -1) if parts[i] == "images"]
    swapped = {i: Path(*parts[:i], "labels", *parts[i + 1 :]).with_suffix(".txt") for i in found}
    below = [place for i, place in swapped.items() if i >= first]
    places = [*below, image.with_suffix(".txt"), *(place for i, place in swapped.items() if i < first)]
    return next((place for place in places if is_there(place)), places[0])


def listed(file: Path, content: Mapping[str, object], notes: list[str], trusted: bool) -> list[tuple[str, Path]]:
    """(split, image) of everything that train, val and test of a data.yaml name. Splits of the same images are none.

    Raises DataError for what is not there."""
    by_split: dict[str, list[Path]] = {}
    empty: list[tuple[str, str]] = []
    for word in ("train", "val", "valid", "test"):
        given = content.get(word)
        for value in given if isinstance(given, list) else [given] if given is not None else []:
            if not isinstance(value, str) or not value.strip("./\\ "):
                raise DataError(f"{file}: {word}: {value!r:.60} is not a path")
            place = _place(file, content.get("path"), value, trusted)
            if place is None:  # many a yaml promises a part that was never published, or whose share was 0 %
                outside = not is_below(value) and os.path.exists(file.parent / value)
                if isinstance(given, list) or (outside and word != "test"):
                    hint = TRUST if not is_below(value) else "paths are relative to the yaml's folder"
                    raise DataError(f"{file}: {word}: there is no {value}", hint=hint)
                aside = f" below {file.parent} ({TRUST})" if outside else ""
                empty.append((SPLITS[word], f"{word}: there is no {value}{aside}"))
                continue
            found = _images_in(file, place, trusted)
            if not found:
                empty.append((SPLITS[word], f"{word}: {place} holds no image"))
            by_split.setdefault(SPLITS[word], []).extend(found)
    if empty and not any(by_split.values()):
        raise DataError(f"{file}: {empty[0][1]}", hint="paths are relative to the yaml's folder")
    for split, problem in empty:
        notes.append(f"{file.name}: {problem}" + ("" if by_split.get(split) else f": {empty_split(split)}"))
    by_split = {split: images for split, images in by_split.items() if images}
    train = sorted(by_split.get("train", []))
    same = [split for split, images in by_split.items() if split != "train" and sorted(images) == train]
    for split in same:
        notes.append(f"{file.name}: {split} names the same images as train: they are divided anew")
        del by_split[split]
    return [(UNDECIDED if same and s == "train" else s, image) for s, images in by_split.items() for image in images]


def _place(file: Path, base: object, value: str, trusted: bool) -> Path | None:
    """Where a path of the yaml is: from its own base, from its folder, or (as some exports have it) without `../`. In
    that folder, unless `trusted`: of an absolute path the last parts count."""
    value, root = value.replace("\\", "/"), file.parent
    bases = [root / base] if isinstance(base, str) else []
    places = [*(b / value for b in (*bases, root)), root / value.removeprefix("../")]
    places += [root / Path(value).name / "images", root / "images" / Path(value).name]
    if not trusted:
        top = os.path.abspath(root)
        places = [p for p in places if Path(os.path.abspath(p)).is_relative_to(top)]
        places = [p for p in (*places, *by_last_parts(value, [root])) if inside(p, root)]
    return next((p for p in places if "\0" not in str(p) and (is_there(p) or is_folder(p))), None)


def _images_in(file: Path, place: Path, trusted: bool) -> list[Path]:
    if place.is_dir():
        return list(find_files(place, *SUFFIXES))
    if is_image(place):
        return [place]
    return images_of_list(place, file.parent, trusted)


def images_of_list(file: Path, base: Path, trusted: bool) -> list[Path]:
    """The images that a text file names, below `base`; what another machine or tool put before their names (data/, a
    drive) may be missing. Raises DataError where some are not there."""
    named, folders = [line.replace("\\", "/") for line in lines(file) if line], (file.parent, base)

    def places(name: str) -> Iterator[Path]:
        """Where a listed image may be: what is absolute or climbs out of the yaml's folder, by its last parts."""
        for folder in folders:
            path = Path(os.path.normpath(folder / name))
            if trusted or Path(os.path.abspath(path)).is_relative_to(os.path.abspath(base)):
                yield path
        yield from by_last_parts(name, folders)

    found = [next((p for p in places(n) if is_there(p)), None) for n in named]
    lost = [name for name, path in zip(named, found, strict=True) if path is None]
    if lost:
        hint = "export them with their images" if all(map(is_below, lost)) else TRUST
        raise DataError(f"{file}: {len(lost)} of its images are not there: {some(lost)}", hint=hint)
    return [path for path in found if path is not None]


def labelled(path: Path) -> bool:
    """Whether text files with rows of labels lie in the folder, called as images there."""
    rows = (file for file in find_files(path, ".txt") if _label_like(file))
    first = [*itertools.islice(rows, LOOK)]
    if not first:
        return False
    stems = {os.path.splitext(file.name)[0] for file in find_files(path, *SUFFIXES)}
    return any(file.stem in stems for file in first) or any(file.parent.name == "labels" for file in first)


def _label_like(file: Path) -> bool:
    if not file.is_file():
        return False
    with open_regular(file) as stream:
        return ROW.match(stream.read(2000).removeprefix(codecs.BOM_UTF8).split(b"\n")[0]) is not None


def in_folder(base: Path, notes: list[str], trusted: bool) -> list[tuple[str, Path]]:
    """(split, image) of a folder without a data.yaml: of those that train.txt, valid.txt, … name, else all.

    Raises DataError for listed images that are not there.
    """
    every = [*find_files(base, *SUFFIXES)]
    lists = {file: SPLITS[file.stem.lower()] for file in sorted(base.glob("*.txt")) if file.stem.lower() in SPLITS}
    found = [(split, image) for file, split in lists.items() for image in images_of_list(file, base, trusted)]
    if not found:
        inner = [file for file in every if "images" in _parts(file, base)]
        return [(split_of(file, base), file) for file in inner or every]
    taken = {image for _, image in found}
    note_names(notes, [file.name for file in every if file not in taken], "images are in no list and are left out")
    return found


def texts(base: Path, images: Sequence[Path]) -> dict[Path, Path]:
    """Image -> text file with its labels, of a folder without a data.yaml: beside it, or labels/ for images/; else the
    one called like it that shares most of its folders. Raises DataError where two fit equally well."""
    out, alike = {}, dict[str, list[Path]]()
    for file in find_files(base, ".txt"):
        alike.setdefault(file.stem, []).append(file)
    for image in images:
        usual = label_file(image, base)
        files = [usual] if is_there(usual) else alike.get(image.stem, [])
        own = {*_parts(image, base)}
        shared = [len(own & {*_parts(file, base)}) for file in files]
        best = [file for file, count in zip(files, shared, strict=True) if count == max(shared)]
        if len(best) > 1:
            raise DataError(f"{image}: its labels could be {some(best)}", hint="put them beside it, or in labels/")
        out[image] = best[0] if best else usual
    return out


def unused(base: Path, labels: Collection[Path], *, apart: bool) -> list[Path]:
    """Text files in labels/ that are none of `labels`; `apart`: also those of rows of labels anywhere."""
    left = (f for f in find_files(base, ".txt") if f not in labels and f.name not in NAMES)
    return [f for f in left if "labels" in _parts(f, base) or (apart and _label_like(f))]


def _parts(file: Path, base: Path) -> tuple[str, ...]:
    return file.relative_to(base).parts[:-1] if file.is_relative_to(base) else file.parts[:-1]


def lists_of_names(base: Path, labels: Sequence[Path]) -> list[Path]:
    """The lists of classes in `base`, in labels/, and beside the `labels`."""
    folders = dict.fromkeys([base, base / "labels", *(file.parent for file in labels)])
    return [folder / name for folder in folders for name in NAMES if (folder / name).is_file()]
