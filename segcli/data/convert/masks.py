"""Folders of mask images, one object an id or one object a file. All objects are of one category.

Layouts: PennFudan (`PNGImages/NAME.png`, `PedMasks/NAME_mask.png`), any `images/` and `masks/` with the same names (a
suffix `_mask` may follow), and nuclei (`ID/images/ID.png` with `ID/masks/*.png`, also below `stage1_train/`). Folders
called train, val, test around a layout are its splits. In a file of ids every value but 0 is one object (palettes are
read as indices, 16 bits are fine); in a file of its own, an object is whatever is not 0, and objects may overlap.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as coco_mask
from scipy import ndimage

from segcli.data.canonical import UNDECIDED, Draft, Record
from segcli.data.convert._images import below, is_image
from segcli.data.image import image_size
from segcli.errors import DataError
from segcli.info import Category, DatasetInfo

PAIRS = (("PNGImages", "PedMasks"), ("images", "masks"))  # folders of images and of id files
SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}
SINGLE = "stage1_train"  # around the folders of the nuclei layout


class Entry(NamedTuple):
    """One image and its mask files: one file of ids, or one file an object (`single`)."""

    file_name: str
    path: Path
    masks: tuple[Path, ...]
    single: bool


def detect(path: Path) -> bool:
    """Whether `path` is a folder in one of the layouts."""
    return path.is_dir() and bool(_parts(path))


def build(*, path: Path, category: str | None = None) -> Draft:
    """Read the folder `path`. category: what the objects are; None: pedestrian and nucleus by layout, else object.

    Raises DataError where nothing is found, and for mask files that belong to no image.
    """
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
    info = DatasetInfo(name=path.name, categories=(Category(category, 1),), splits=counts)
    return Draft(info, splits, lambda entries: _records(entries, notes), root, notes)


Found = list[tuple[Path, tuple[Path, ...], bool]]  # image, mask files, whether each file is one object
Reader = Callable[[Path, list[str]], Found]


def _parts(path: Path) -> dict[str, tuple[Path, Reader]]:
    """split -> (folder, its reader) of what lies at `path`; empty where no layout fits."""
    if reader := _layout(path):
        return {UNDECIDED: (path, reader)}
    parts: dict[str, tuple[Path, Reader]] = {}
    for word, split in SPLITS.items():
        if split not in parts and (reader := _layout(path / word)):
            parts[split] = (path / word, reader)
    if not parts and (reader := _layout(path / SINGLE)):
        return {UNDECIDED: (path / SINGLE, reader)}
    return parts


def _layout(path: Path) -> Reader | None:
    if any((path / images).is_dir() and (path / masks).is_dir() for images, masks in PAIRS):
        return _paired
    if path.is_dir() and any((p / "images").is_dir() and (p / "masks").is_dir() for p in path.iterdir()):
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
        some = ", ".join(str(file) for file in [*by_stem.values()][:3])
        raise DataError(
            f"{path}: {len(by_stem)} mask files have no image of the same name in {images.name}: {some}",
            hint="a mask is called as its image, or NAME_mask",
        )
    if bare:
        notes.append(f"{len(bare)} images have no mask file and count as images without objects: {_some(bare)}")
    return out


def _nested(path: Path, notes: list[str]) -> Found:
    """One folder an image, one file an object."""
    out: Found = []
    for folder in sorted(p for p in path.iterdir() if (p / "images").is_dir() and (p / "masks").is_dir()):
        images = [p for p in sorted((folder / "images").iterdir()) if is_image(p)]
        if len(images) != 1:
            raise DataError(f"{folder / 'images'}: must hold one image, not {len(images)}")
        masks = tuple(p for p in sorted((folder / "masks").iterdir()) if is_image(p))
        if not masks:
            notes.append(f"{folder.name}: no mask file, it counts as an image without objects")
        out.append((images[0], masks, True))
    return out


def _records(entries: Sequence[Entry], notes: list[str]) -> Iterator[Record]:
    empty = []
    for entry in entries:
        size = image_size(entry.path)
        annotations: list[dict[str, Any]] = []
        for file in entry.masks:
            values = read_ids(file)
            if values.shape != size:
                raise DataError(
                    f"{file}: the mask is {values.shape[1]} x {values.shape[0]}, its image {entry.path} "
                    f"{size[1]} x {size[0]} pixels"
                )
            if entry.single:
                found = single_object(values)
                listed = [] if found is None else [(file.name, found)]
            else:
                listed = [(f"{file.name}#{value}", annotation) for value, annotation in objects(values)]
            if not listed:
                empty.append(f"{entry.path.parent.parent.name}/{file.name}" if entry.single else file.name)
            annotations += [{**annotation, "source": source} for source, annotation in listed]
        yield Record(entry.file_name, size, entry.path, annotations)
    if empty:
        notes.append(f"{len(empty)} masks are empty and left out: {_some(empty)}")


def read_ids(path: Path) -> np.ndarray:
    """Stored values [H,W], 0 = no object: palette indices, 8 or 16 bits; of a colour file, the one channel that all
    three repeat. Raises DataError where it can't be read, or the channels differ."""
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
            mode = image.mode
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as error:
        raise DataError(f"{path}: the mask can't be decoded: {error}") from error
    if values.ndim == 3:
        channels = values[:, :, : -1 if mode in ("RGBA", "LA") else None]  # alpha says nothing about objects
        if (channels != channels[:, :, :1]).any():
            raise DataError(
                f"{path}: the mask is a colour picture", hint="save ids 0, 1, 2, … in one channel, or one object a file"
            )
        values = channels[:, :, 0]
    if values.dtype.kind == "i" and values.min() < 0:
        raise DataError(f"{path}: the mask holds negative ids")
    if values.dtype.kind == "f":
        raise DataError(f"{path}: the mask holds fractions, not object ids")
    return values.astype(np.int32) if values.dtype != np.uint8 else values


def objects(values: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
    """(id, COCO annotation) of every object in a map of ids [H,W], by id; ids may be large."""
    if values.max() < 2**20:
        ids = np.flatnonzero(np.bincount(values.ravel()))
        table = np.zeros(len(ids) and ids[-1] + 1, np.int32)
        ids = ids[ids != 0]
        table[ids] = np.arange(1, len(ids) + 1)
        dense = table[values]
    else:
        ids, inverse = np.unique(values, return_inverse=True)
        dense = (inverse.reshape(values.shape) + (ids[0] != 0)).astype(np.int32)
        ids = ids[ids != 0]
    for number, (value, where) in enumerate(zip(ids.tolist(), ndimage.find_objects(dense), strict=True), 1):
        yield value, annotate(values.shape, dense[where] == number, where[0].start, where[1].start)


def single_object(values: np.ndarray) -> dict[str, Any] | None:
    """The COCO annotation of all that is not 0 in [H,W]; None where that is nothing."""
    mask = values != 0
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    y, x = int(rows[0]), int(columns[0])
    return annotate(values.shape, mask[y : rows[-1] + 1, x : columns[-1] + 1], y, x)


def annotate(shape: tuple[int, ...], mask: np.ndarray, y: int, x: int) -> dict[str, Any]:
    """The COCO annotation of a tight bool mask [h,w] whose first pixel is at (y, x) of an image of `shape` (H, W)."""
    whole = np.zeros(shape, np.uint8, order="F")
    whole[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    return {
        "category_id": 1,
        "bbox": [x, y, mask.shape[1], mask.shape[0]],
        "area": int(np.count_nonzero(mask)),
        "iscrowd": 0,
        "segmentation": {"size": list(shape), "counts": coco_mask.encode(whole)["counts"].decode("ascii")},
    }


def _key(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
