"""The objects that ADE20K in full lists beside its images, and how its classes are called.

The release of 2021 has NAME.json beside NAME.jpg, with number and name of each class. That of 2016 has NAME_atr.txt,
which has no numbers: `001 # 0 # 0 # car # car # "parked"` says the object's number, its part level (0: a whole object),
whether it is occluded, its class, that as it was typed, and attributes. There a class is called as the object that has
its place: of N whole objects the k-th has the value 255 k / N in channel B of NAME_seg.png, or the k-th of N values.

Sources: https://github.com/CSAILVision/ADE20K, utils/utils_ade20k.py and three images of 2021; the columns as in
https://groups.csail.mit.edu/vision/datasets/ADE20K.
"""

import itertools
from pathlib import Path

import numpy as np
import pydantic

from segcli.core.errors import DataError
from segcli.core.files import parsed, read_json
from segcli.sources.files import LOOK, find_files, has_keys, lines
from segcli.sources.mask_meaning.mask_files import read_pixels

CELLS = 6  # of a line of NAME_atr.txt
TENS = np.array([r // 10 * 256 if r % 10 == 0 else -1 for r in range(256)], np.int32)  # of channel R, -1: of none
Names = dict[int, tuple[str, Path]]  # class number -> what it is called, and where that stands


class Part(pydantic.BaseModel):
    part_level: int


class AdeObject(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=1)
    name_ndx: int = pydantic.Field(gt=0, lt=2**14)
    parts: Part


class AdeContent(pydantic.BaseModel):
    object: list[AdeObject]


class AdeFile(pydantic.BaseModel):
    annotation: AdeContent


def detect(path: Path) -> bool:
    """Whether pictures in the folder are called as ADE20K's: NAME_seg.png beside a list, or beside NAME_parts_1.png."""
    pictures = itertools.islice(find_files(path, ".png"), LOOK * 100)
    stems = (file.with_name(file.stem.removesuffix("_seg")) for file in pictures if file.stem.endswith("_seg"))
    return any(
        has_keys(_beside(stem, ".json"), "annotation", "object", "name_ndx")
        or any(_beside(stem, end).is_file() for end in ("_atr.txt", "_parts_1.png"))
        for stem in itertools.islice(stems, LOOK)
    )


def list_of(image: Path) -> Path:
    """The list of an image's objects. Raises DataError where there is none."""
    stem = image.with_suffix("")
    for end in (".json", "_atr.txt"):
        if _beside(stem, end).is_file():
            return _beside(stem, end)
    raise DataError(
        f"{image}: nothing names the classes of its {stem.name}_seg.png",
        hint=f"{stem.name}_atr.txt (the release of 2016) or {stem.name}.json (of 2021) belongs beside it",
    )


def _beside(stem: Path, end: str) -> Path:
    return stem.with_name(stem.name + end)


def note_objects(names: Names, file: Path, picture: Path) -> int:
    """Add the classes of a list to `names`. -> how many whole objects it has. Raises DataError for a list that is none,
    and for a class of two names."""
    if file.suffix == ".json":
        entries = parsed(AdeFile, read_json(file), file).annotation.object
        whole = [(one.name_ndx, one.name) for one in entries if not one.parts.part_level]
    else:
        called = _called(file)
        known = {name for name, _ in names.values()}
        # most pictures show nothing new, and reading one takes as long as preparing it
        whole = [] if known.issuperset(called) else _numbered(called, picture)
    for number, name in whole:
        before, where = names.setdefault(number, (name, file))
        if before != name:
            raise DataError(f"{file}: class {number} is called {name!r}, and {before!r} in {where}")
    return len(whole) if file.suffix == ".json" else len(called)


def _called(file: Path) -> list[str]:
    """The classes of the whole objects in a NAME_atr.txt, in the order of their numbers."""
    found: list[tuple[int, str]] = []
    for number, line in enumerate(lines(file), 1):
        cells = [cell.strip() for cell in line.split("#", CELLS - 1)]
        if not line:
            continue
        if len(cells) < CELLS or not (cells[0].isdecimal() and cells[1].isdecimal() and cells[3]):
            raise DataError(f'{file}: line {number}: is no `001 # 0 # 0 # class # name # "attributes"`: {line[:80]!r}')
        if not int(cells[1]):
            found.append((int(cells[0]), cells[3]))
    return [name for _, name in sorted(found)]


def _numbered(called: list[str], picture: Path) -> list[tuple[int, str]]:
    """(class number, name) of the objects that a picture shows; none where it can't be told which is which."""
    classes, places = ade_values(read_pixels(picture)[0], picture)
    shown, at = np.unique(places, return_index=True)
    numbers = [(int(place), int(classes.flat[i])) for place, i in zip(shown, at, strict=True) if classes.flat[i]]
    spaced = {int(255 * k / len(called) + 0.5): k - 1 for k in range(1, len(called) + 1)}
    if all(place in spaced for place, _ in numbers):
        return [(number, called[spaced[place]]) for place, number in numbers]
    if len(numbers) == len(called):
        return [(number, name) for (_, number), name in zip(numbers, called, strict=True)]
    return []


def ade_values(values: np.ndarray, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of a picture [H,W,C] -> numbers of classes and of objects [H,W]. Raises DataError for other ones."""
    plain = values.ndim == 3 and values.shape[2] >= 3 and values.dtype == np.uint8
    tens = TENS[values[:, :, 0]] if plain else None
    if tens is None or tens.min() < 0:
        raise DataError(f"{file}: is no picture of ADE20K: RGB of 8 bits, in which R counts in tens")
    return tens + values[:, :, 1], values[:, :, 2].astype(np.int32)
