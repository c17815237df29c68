"""Folders of mask images: one object an id, one object a file, or one object a colour with a legend.

Layouts: PennFudan (`PNGImages/NAME.png`, `PedMasks/NAME_mask.png`), any `images/` and `masks/` with the same names (a
suffix `_mask` may follow), and nuclei (`ID/images/ID.png` with `ID/masks/*.png`, also below `stage1_train/`). Folders
called train, val, test around a layout are its splits. What the values are is decided from many files, or said by the
setting `masks` (see `mask_meaning/meaning.py`). In a file of ids every value but 0 is one object (palettes are
read as indices, 16 bits are fine); in a file of its own, an object is whatever is not 0, and objects may overlap. All
objects are of one category, unless a legend (see `class_legend.py`) names values or colours: each then is one object of
the category it names, or with kind `regions` every connected region of it is one; 0 and black are background.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from segcli.core.errors import DataError
from segcli.data.canonical import UNDECIDED, Draft
from segcli.data.image import SUFFIXES
from segcli.sources import class_legend
from segcli.sources.files import find_files, note_names, split_folders, without_empty
from segcli.sources.folders import SPLITS, stand_ins
from segcli.sources.formats.semantic import of_classes
from segcli.sources.images import below, is_image
from segcli.sources.mask_meaning.class_values import of_objects, refuse_category
from segcli.sources.mask_meaning.meaning import Flags, Kind, decide
from segcli.sources.mask_meaning.objects import Labelled, draft

PAIRS = (("PNGImages", "PedMasks"), ("images", "masks"))  # folders of images and of id files
SINGLE = "stage1_train"  # around the folders of the nuclei layout


def detect(path: Path) -> bool:
    """Whether `path` is a folder in one of the layouts; not where a legend says that values are classes of pixels."""
    parts = _parts(path) if path.is_dir() else {}
    if not parts:
        return False
    legend = class_legend.around(path, _places(parts))
    if legend is None:
        return True
    kinds = {row.kind for row in legend.rows}
    if kinds & {"object", "regions"}:
        return "stuff" not in kinds
    return "stuff" not in kinds and all(
        reader is _nested or of_objects(legend, _files(folder)) is not None for folder, reader in parts.values()
    )


def build(
    *,
    path: Path,
    category: str | None = None,
    masks: Kind | None = None,
    ignore: list[int] | None = None,
    threshold: float | None = None,
) -> Draft:
    """Read the folder `path`. category: what the objects are; None: pedestrian and nucleus by layout, else object.
    masks, ignore, threshold: what values are, where the evidence is not to decide (see `mask_meaning/meaning.py`).

    Raises DataError where nothing is found, where it is not clear what the values are, and for mask files that belong
    to no image; UsageError for a category where a legend names the classes.
    """
    notes: list[str] = []
    parts = _parts(path) if path.is_dir() else {}
    if not parts:
        raise DataError(
            f"{path}: no images with masks are there (PNGImages + PedMasks, images + masks, or ID/images + ID/masks)"
        )
    parts = without_empty(parts, lambda part: _has_image(*part), notes)
    legend = class_legend.around(path, _places(parts))
    found = {split: reader(folder) for split, (folder, reader) in parts.items()}
    nested = any(reader is _nested for _, reader in parts.values())
    single = nested and any(len(files) > 1 for part in found.values() for _, files in part)
    files = [file for part in found.values() for _, files in part for file in files]
    if not files:
        raise DataError(
            f"{path}: no image has a mask file of a kind that is read", hint="masks are pictures: PNG, TIFF"
        )
    if legend is not None and (listed := of_objects(legend, files)) is not None:
        legend, category = None, category or listed
    elif category is not None:
        refuse_category(legend)
    if category is None:
        folders = {folder.name for folder, _ in parts.values()} | {p.name for p in path.iterdir()}
        category = "pedestrian" if "PedMasks" in folders else "nucleus" if SINGLE in folders else "object"
    flags = Flags(masks, tuple(ignore or ()), threshold)
    meaning = decide(path, files, flags, legend=legend, single=single, category=category)
    bare = [image.name for part in found.values() for image, own in part if not own]
    what = "are left out" if meaning.pixels else "count as images without objects"
    note_names(notes, bare, f"images have no mask file and {what}")
    if meaning.pixels:
        pairs = [(split, image, own[0]) for split, part in found.items() for image, own in part if own]
        return of_classes(path, pairs, meaning, notes)
    root, names = below([image for part in found.values() for image, _ in part])
    name = iter(names)
    splits = {
        split: [Labelled(next(name), image, own, meaning.single) for image, own in part]
        for split, part in found.items()
    }
    return draft(path, root, splits, meaning, notes, category)


Found = list[tuple[Path, tuple[Path, ...]]]  # image, mask files
Reader = Callable[[Path], Found]


def _places(parts: dict[str, tuple[Path, Reader]]) -> list[Path]:
    """Folders in which a legend can lie beside masks."""
    return [place for folder, _ in parts.values() for place in (folder, *(folder / masks for _, masks in PAIRS))]


def _files(folder: Path) -> list[Path]:
    return [file for _, masks in PAIRS for file in sorted(find_files(folder / masks, *SUFFIXES))]


def _parts(path: Path) -> dict[str, tuple[Path, Reader]]:
    """split -> (folder, its reader) of what lies at `path`; empty where no layout fits."""
    found = split_folders(path, lambda folder: _layout(folder) is not None) or {UNDECIDED: path / SINGLE}
    return {split: (folder, reader) for split, folder in found.items() if (reader := _layout(folder))}


def _has_image(folder: Path, reader: Reader) -> bool:
    """Whether a layout holds an image; of folders of one image each only those that have one are a layout."""
    return reader is not _paired or any(any(find_files(folder / images, *SUFFIXES)) for images, _ in PAIRS)


def _layout(path: Path) -> Reader | None:
    if any((path / images).is_dir() and (path / masks).is_dir() for images, masks in PAIRS):
        return _paired
    if path.is_dir() and next(_each(path), None) is not None:
        return _nested
    return None


def _paired(path: Path) -> Found:
    """Two folders, one id file an image."""
    images, masks = next((path / a, path / b) for a, b in PAIRS if (path / a).is_dir() and (path / b).is_dir())
    by_stem: dict[str, Path] = {}
    for file in sorted(find_files(masks, *SUFFIXES)):
        key = _key(file, masks).removesuffix("_mask")
        if key in by_stem:
            raise DataError(f"{by_stem[key]} and {file}: two masks of one image")
        by_stem[key] = file
    out: Found = []
    for image in sorted(find_files(images, *SUFFIXES)):
        mask = by_stem.pop(_key(image, images), None)
        out.append((image, () if mask is None else (mask,)))
    if not out:
        raise DataError(f"{images}: holds no image")
    if by_stem:
        names = ", ".join(str(file) for file in [*by_stem.values()][:3])
        raise DataError(
            f"{path}: {len(by_stem)} mask files have no image of the same name in {images.name}: {names}",
            hint="a mask is called as its image, or NAME_mask",
        )
    return out


def _each(path: Path) -> Iterator[Path]:
    """Folders of one image; those of splits are not, nor what a link called after one stands for."""
    inner = sorted(path.iterdir())
    splits = stand_ins(path, [folder.name for folder in inner])
    for folder in inner:
        if os.path.abspath(folder) in splits:
            continue
        if folder.name.lower() not in SPLITS and (folder / "images").is_dir() and (folder / "masks").is_dir():
            yield folder


def _nested(path: Path) -> Found:
    """One folder an image, one file an object."""
    out: Found = []
    for folder in _each(path):
        images = [p for p in sorted((folder / "images").iterdir()) if is_image(p)]
        if len(images) != 1:
            hint = "in this layout each folder has its one image in images/ and one mask an object in masks/"
            raise DataError(f"{folder / 'images'}: must hold one image, not {len(images)}", hint=hint)
        masks = tuple(p for p in sorted((folder / "masks").iterdir()) if is_image(p))
        out.append((images[0], masks))
    return out


def _key(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()
