"""Folders of mask images: one object an id, one object a file, or one object a colour with a legend.

Layouts: PennFudan (`PNGImages/NAME.png`, `PedMasks/NAME_mask.png`), any `images/` and `masks/` with the same names (a
suffix `_mask` may follow), and nuclei (`ID/images/ID.png` with `ID/masks/*.png`, also below `stage1_train/`). Folders
called train, val, test around a layout are its splits. In a file of ids every value but 0 is one object (palettes are
read as indices, 16 bits are fine); in a file of its own, an object is whatever is not 0, and objects may overlap. All
objects are of one category, unless a legend (see `_legend.py`) names values or colours: each then is one object of the
category it names, or with kind `regions` every connected region of it is one; 0 and black are background.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segcli.data.canonical import UNDECIDED, Draft, Record
from segcli.data.convert import _legend
from segcli.data.convert._files import SPLITS, each, some, split_folders
from segcli.data.convert._images import below, is_image
from segcli.data.convert._legend import Legend
from segcli.data.convert._mask_files import check_size, objects, read_colours, read_ids, regions
from segcli.data.convert._shapes import of_pixels
from segcli.data.image import image_size
from segcli.errors import DataError
from segcli.info import Category, DatasetInfo

PAIRS = (("PNGImages", "PedMasks"), ("images", "masks"))  # folders of images and of id files
SINGLE = "stage1_train"  # around the folders of the nuclei layout


class Entry(NamedTuple):
    """One image and its mask files: one file of ids, or one file an object (`single`)."""

    file_name: str
    path: Path
    masks: tuple[Path, ...]
    single: bool


def detect(path: Path) -> bool:
    """Whether `path` is a folder in one of the layouts; not where a legend says that values are classes of pixels."""
    if not path.is_dir() or not _parts(path):
        return False
    legend = _legend.find(path, lists=False)
    return legend is None or not any(row.kind == "stuff" for row in legend.rows)


def build(*, path: Path, category: str | None = None) -> Draft:
    """Read the folder `path`. category: what the objects are; None: pedestrian and nucleus by layout, else object.

    Raises DataError where nothing is found, and for mask files that belong to no image.
    """
    legend = _legend.find(path, lists=False) if path.is_dir() else None
    notes: list[str] = []
    parts = _parts(path)
    if not parts:
        raise DataError(
            f"{path}: no images with masks are there (PNGImages + PedMasks, images + masks, or ID/images + ID/masks)"
        )
    found = {split: reader(folder, notes) for split, (folder, reader) in parts.items()}
    root, names = below([image for part in found.values() for image, _, _ in part])
    name = iter(names)
    splits = {split: [Entry(next(name), *item) for item in part] for split, part in found.items()}
    if category is None:
        folders = {folder.name for folder, _ in parts.values()} | {p.name for p in path.iterdir()}
        category = "pedestrian" if "PedMasks" in folders else "nucleus" if SINGLE in folders else "object"
    counts = {split: len(entries) for split, entries in splits.items()}
    names = [category]
    if legend is not None:
        names = list(dict.fromkeys(row.name for row in legend.rows if row.kind != "ignore" and row.value))
    ids = {name: key for key, name in enumerate(names, 1)}
    info = DatasetInfo(name=path.name, categories=tuple(Category(n, key) for n, key in ids.items()), splits=counts)
    return Draft(info, splits, lambda entries: _records(entries, legend, ids, notes), root, notes)


Found = list[tuple[Path, tuple[Path, ...], bool]]  # image, mask files, whether each file is one object
Reader = Callable[[Path, list[str]], Found]


def _parts(path: Path) -> dict[str, tuple[Path, Reader]]:
    """split -> (folder, its reader) of what lies at `path`; empty where no layout fits."""
    found = split_folders(path, lambda folder: _layout(folder) is not None) or {UNDECIDED: path / SINGLE}
    return {split: (folder, reader) for split, folder in found.items() if (reader := _layout(folder))}


def _layout(path: Path) -> Reader | None:
    if any((path / images).is_dir() and (path / masks).is_dir() for images, masks in PAIRS):
        return _paired
    if path.is_dir() and next(_each(path), None) is not None:
        return _nested
    return None


def _paired(path: Path, notes: list[str]) -> Found:
    """Two folders, one id file an image."""
    images, masks = next((path / a, path / b) for a, b in PAIRS if (path / a).is_dir() and (path / b).is_dir())
    by_stem: dict[str, Path] = {}
    for file in sorted(p for p in masks.rglob("*") if is_image(p)):
        key = _key(file, masks).removesuffix("_mask")
        if key in by_stem:
            raise DataError(f"{by_stem[key]} and {file}: two masks of one image")
        by_stem[key] = file
    out: Found = []
    bare = []
    for image in sorted(p for p in images.rglob("*") if is_image(p)):
        mask = by_stem.pop(_key(image, images), None)
        if mask is None:
            bare.append(image.name)
        out.append((image, () if mask is None else (mask,), False))
    if not out:
        raise DataError(f"{images}: holds no image")
    if by_stem:
        names = ", ".join(str(file) for file in [*by_stem.values()][:3])
        raise DataError(
            f"{path}: {len(by_stem)} mask files have no image of the same name in {images.name}: {names}",
            hint="a mask is called as its image, or NAME_mask",
        )
    if bare:
        notes.append(f"{len(bare)} images have no mask file and count as images without objects: {some(bare)}")
    return out


def _each(path: Path) -> Iterator[Path]:
    """Folders of one image; those of splits are not."""
    for folder in sorted(path.iterdir()):
        if folder.name.lower() not in SPLITS and (folder / "images").is_dir() and (folder / "masks").is_dir():
            yield folder


def _nested(path: Path, notes: list[str]) -> Found:
    """One folder an image, one file an object."""
    out: Found = []
    for folder in _each(path):
        images = [p for p in sorted((folder / "images").iterdir()) if is_image(p)]
        if len(images) != 1:
            raise DataError(f"{folder / 'images'}: must hold one image, not {len(images)}")
        masks = tuple(p for p in sorted((folder / "masks").iterdir()) if is_image(p))
        if not masks:
            notes.append(f"{folder.name}: no mask file, it counts as an image without objects")
        out.append((images[0], masks, True))
    return out


def _records(
    entries: Sequence[Entry], legend: Legend | None, ids: dict[str, int], notes: list[str]
) -> Iterator[Record]:
    empty: list[str] = []

    def read(entry: Entry) -> Record:
        size = image_size(entry.path)
        annotations: list[dict[str, Any]] = []
        for file in entry.masks:
            values = read_colours(file) if legend is not None and legend.colours else read_ids(file)
            check_size(file, values, entry.path, size)
            if legend is not None:
                listed = _named(file, values, legend, ids)
            elif entry.single:
                found = of_pixels(values != 0)
                listed = [] if found is None else [{**found, "source": file.name}]
            else:
                listed = [{**one, "source": f"{file.name}#{value}"} for value, one in objects(values)]
            if not listed:
                empty.append(f"{entry.path.parent.parent.name}/{file.name}" if entry.single else file.name)
            annotations += listed
        return Record(entry.file_name, size, entry.path, annotations)

    yield from each(entries, read)
    if empty:
        notes.append(f"{len(empty)} masks are empty and left out: {some(empty)}")


def _named(file: Path, values: np.ndarray, legend: Legend, ids: dict[str, int]) -> list[dict[str, Any]]:
    """The objects of one mask file by the legend. Raises DataError for a value that it does not name."""
    rows = {row.value: row for row in legend.rows}
    out = []
    for value, annotation in objects(values):
        row = rows.get(value)
        if row is None:
            raise DataError(
                f"{file}: the value {legend.shown(value)} is not in {legend.where}",
                hint="add a line for it there, with kind ignore where it is no object",
            )
        if row.kind != "ignore":
            more = {"category_id": ids[row.name], "source": f"{file.name}#{legend.shown(value)}"}
            out += [{**one, **more} for one in (regions(values == value) if row.kind == "regions" else [annotation])]
    return out


def _key(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()
