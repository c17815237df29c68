"""A class for every pixel: `images/` beside `annotations/` (as ADE20K has it), `labels/` or `masks/`, one PNG an image.

Subfolders called training, validation and the like are splits; they may also be around `images/`. Which value or colour
is which class must be said by a legend (see `_legend.py`) or by settings; a value that it does not name is an error,
but for 255, which is ignored wherever no class has it. That is noted with the number of pixels. Labels are
renumbered from 0 in the legend's order.
"""

import dataclasses
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from segcli.data.canonical import Draft, Record
from segcli.data.convert import _legend
from segcli.data.convert._files import Entry, arrange, each, some, split_folders, split_of, walk
from segcli.data.convert._legend import Legend
from segcli.data.convert._mask_files import check_size, read_colours, read_ids
from segcli.data.image import SUFFIXES, image_size
from segcli.errors import DataError
from segcli.info import Category, DatasetInfo
from segcli.types import IGNORE

IMAGES = ("images", "JPEGImages", "img")
LABELS = ("annotations", "labels", "masks")
MARKS = ("_mask", "_label", "_labels", "_gt")  # that may follow an image's name
Found = list[tuple[str, Path, Path]]  # split, image, label picture


def detect(path: Path) -> bool:
    """Whether `path` has both folders; beside `masks/` only where a legend says that values are classes."""
    for folder in split_folders(path, lambda p: _folders(p) is not None).values():
        _, labels = _folders(folder) or (None, None)
        if labels is None or next(walk(labels, ".png"), None) is None or any(labels.glob("*.json")):
            continue
        if labels.name != "masks":
            return True
        legend = _legend.find(path, lists=False)
        if legend is not None and not any(row.kind in ("object", "regions") for row in legend.rows):
            return True
    return False


def build(*, path: Path, classes: list[str] | dict[int, str] | None = None, ignore: list[int] | None = None) -> Draft:
    """Read the folder `path`. classes: names from value 0, or by value; ignore: values that are no class; with neither,
    the legend in the folder says it.

    Raises DataError where nothing says it, for values that are not named, and for pictures that do not fit.
    """
    found: Found = []
    for split, folder in split_folders(path, lambda p: _folders(p) is not None).items():
        images, labels = _folders(folder) or (folder, folder)
        found += [(split_of(i, folder) if split == "all" else split, i, m) for i, m in paired(images, labels)]
    if not found:
        raise DataError(
            f"{path}: no images with label pictures are there", hint="images/ beside annotations/ or labels/"
        )
    legend = _legend.given(classes, ignore or []) if classes is not None else _legend.find(path)
    if legend is None:
        raise undeclared(path, found)
    return draft(path, found, legend)


def undeclared(path: Path, found: Found) -> DataError:
    """The error that asks for a legend, with the values of the first pictures."""
    seen: set[int] = set()
    for _, _, file in found[:8]:
        seen |= set(np.unique(read_ids(file)).tolist())
    return DataError(
        f"{path}: what its label values {some(sorted(seen), 12)} mean is not said",
        hint=f"write {path / 'legend.csv'}: a line `value,name,kind`, then a line a value, with kind ignore for those "
        "that are no class; or in a recipe data.prepare: {classes: …, ignore: …}",
    )


def draft(path: Path, found: Found, legend: Legend) -> Draft:
    """Images with label pictures as a dataset of stuff. Raises DataError for more classes than 8 bits hold."""
    root, splits = arrange(found, path)
    named = [row for row in legend.rows if row.kind != "ignore"]
    names = list(dict.fromkeys(row.name for row in named))
    if not 0 < len(names) < IGNORE:
        raise DataError(f"{legend.where}: declares {len(names)} classes; from 1 to {IGNORE - 1} can be held")
    first = {name: next(row.value for row in named if row.name == name) for name in names}
    colours = {r.name: (r.value >> 16, r.value >> 8 & 255, r.value & 255) for r in named} if legend.colours else {}
    info = DatasetInfo(
        name=path.stem,
        categories=tuple(Category(n, first[n], thing=False, colour=colours.get(n)) for n in names),
        splits={split: len(entries) for split, entries in splits.items()},
        semantic=True,
    )
    meaning = {row.value: IGNORE if row.kind == "ignore" else names.index(row.name) for row in legend.rows}
    notes = (
        [f"{legend.where}: values that are ignored: {some([legend.shown(v) for v in left])}"]
        if (left := [v for v, label in meaning.items() if label == IGNORE])
        else []
    )
    return Draft(info, splits, lambda entries: _records(entries, legend, meaning, notes), root, notes)


def paired(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    """Every image with its label picture, by name. Raises DataError where either has no partner."""
    pictures: dict[str, Path] = {}
    for file in walk(labels, ".png"):
        key = file.relative_to(labels).with_suffix("").as_posix()
        key = next((key.removesuffix(mark) for mark in MARKS if key.endswith(mark)), key)
        if key in pictures:
            raise DataError(f"{pictures[key]} and {file}: two label pictures of one image")
        pictures[key] = file
    out: list[tuple[Path, Path]] = []
    bare: list[str] = []
    for image in walk(images, *SUFFIXES):
        key = image.relative_to(images).with_suffix("").as_posix()
        if key in pictures:
            out.append((image, pictures.pop(key)))
        else:
            bare.append(image.name)
    for lost, folder in ((bare, labels), ([file.name for file in pictures.values()], images)):
        if lost:
            raise DataError(f"{folder}: nothing here is called like {some(lost)} ({len(lost)} without a partner)")
    return out


def map_png(labels: np.ndarray) -> bytes:
    """uint8 [H,W] as the content of a PNG."""
    stream = io.BytesIO()
    Image.fromarray(labels).save(stream, "PNG")
    return stream.getvalue()


def translate(values: np.ndarray, meaning: dict[int, int], unknown: Callable[[int], int]) -> np.ndarray:
    """Label values of any size [H,W] -> uint8 labels; `unknown` says what a value that is not in `meaning` becomes."""
    if values.dtype == np.uint8:
        table = np.full(256, IGNORE, np.uint8)
        for value in np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist():
            table[value] = meaning[value] if value in meaning else unknown(value)
        return table[values]
    present, inverse = np.unique(values, return_inverse=True)
    return np.array([meaning[v] if v in meaning else unknown(v) for v in present.tolist()], np.uint8)[
        inverse.reshape(values.shape)
    ]


def _folders(path: Path) -> tuple[Path, Path] | None:
    images = [path / name for name in IMAGES if (path / name).is_dir()]
    labels = [path / name for name in LABELS if (path / name).is_dir()]
    return (images[0], labels[0]) if images and labels else None


@dataclasses.dataclass
class _Unknown:
    """What a value without a row becomes: 255 is ignored and counted, any other refused."""

    legend: Legend
    file: Path

    def __call__(self, value: int) -> int:
        if value != IGNORE or self.legend.colours:
            raise DataError(
                f"{self.file}: the value {self.legend.shown(value)} is not in {self.legend.where}",
                hint="add a line for it there, with kind ignore where it is no class",
            )
        return IGNORE


def _records(entries: Sequence[Entry], legend: Legend, meaning: dict[int, int], notes: list[str]) -> Iterator[Record]:
    border: Counter[str] = Counter()

    def read(entry: Entry) -> Record:
        size = image_size(entry.path)
        values = read_colours(entry.label) if legend.colours else read_ids(entry.label)
        check_size(entry.label, values, entry.path, size)
        labels = translate(values, meaning, _Unknown(legend, entry.label))
        if IGNORE not in meaning and not legend.colours:
            border[entry.file_name] = int((values == IGNORE).sum())
        return Record(entry.file_name, size, entry.path, [], semantic=map_png(labels))

    yield from each(entries, read)
    if sum(border.values()):
        images = sum(count > 0 for count in border.values())
        notes.append(
            f"{sum(border.values())} pixels of value 255 in {images} images are ignored: no class has that value"
        )
