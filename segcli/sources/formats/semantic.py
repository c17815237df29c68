"""A class for every pixel: `images/` beside `annotations/` (as ADE20K has it), `labels/` or `masks/`, one PNG an image.

Subfolders called training, validation and the like are splits; they may also be around `images/`. Which value or colour
is which class must be said by a legend (see `class_legend.py`) or by settings; a value that it does not name is an
error, but for 255 and 65535, which are ignored wherever no class has them, unless a class then has no pixel (see
`mask_meaning/meaning.py`). That is noted with the number of pixels. Labels are renumbered from 0 in the legend's order.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from segcli.core.dataset_info import Category
from segcli.core.errors import DataError
from segcli.data.canonical import Draft, Record
from segcli.data.image import SUFFIXES, image_size
from segcli.data.png import encode_map
from segcli.ops.map_values import ranked
from segcli.sources import class_legend
from segcli.sources.class_legend import Legend
from segcli.sources.draft import Entry, arrange, draft, each
from segcli.sources.files import find_files, some, split_folders, split_of
from segcli.sources.mask_meaning.class_values import of_objects
from segcli.sources.mask_meaning.mask_files import check_size
from segcli.sources.mask_meaning.meaning import Flags, Kind, Meaning, decide
from segcli.sources.mask_meaning.objects import Labelled
from segcli.sources.mask_meaning.objects import draft as of_objects_in
from segcli.sources.mask_meaning.rule import Rule, blanks, reader
from segcli.types import ignore_label, label_type

IMAGES = ("images", "JPEGImages", "img")
LABELS = ("annotations", "labels", "masks")
WITH_OBJECTS = ("sem_seg", "ins_seg", "pan_seg", "drivable")  # folders in BDD100K's labels/, see `instance_maps`
MARKS = ("_mask", "_label", "_labels", "_gt")  # that may follow an image's name
Found = list[tuple[str, Path, Path]]  # split, image, label picture


def detect(path: Path) -> bool:
    """Whether `path` has both folders; beside `masks/` only where a legend says that values are classes."""
    for folder in split_folders(path, lambda p: _folders(p) is not None).values():
        _, labels = _folders(folder) or (None, None)
        if labels is None or not label_files(labels) or any(labels.glob("*.json")):
            continue
        of_objects_too = (folder / "instances").is_dir() and next(path.glob("config*.json"), None) is not None
        if of_objects_too or any((labels / name).is_dir() for name in WITH_OBJECTS):
            continue
        if labels.name == "masks":
            legend = class_legend.around(path, [folder, labels])
            return legend is not None and names_pixels(legend, label_files(labels))
        if next(find_files(labels, ".png"), None) is not None:
            return True
    return False


def names_pixels(legend: Legend, files: list[Path]) -> bool:
    """Whether a legend says that the values of the mask `files` are classes of pixels.

    A list of one name beside numbers that go on behind it says what the objects are.
    """
    if any(row.kind in ("object", "regions") for row in legend.rows):
        return False
    return of_objects(legend, files) is None


def build(
    *,
    path: Path,
    classes: list[str] | dict[int, str] | None = None,
    ignore: list[int] | None = None,
    masks: Kind | None = None,
    threshold: float | None = None,
) -> Draft:
    """Read the folder `path`. classes: names from value 0, or by value; ignore: values that are no class; with neither,
    the legend in the folder says it. masks, threshold: what values are instead (see `mask_meaning/meaning.py`).

    Raises DataError where nothing says it, for values that are not named, and for pictures that do not fit.
    """
    found: Found = []
    notes: list[str] = []
    places: list[Path] = []
    for split, folder in split_folders(path, lambda p: _folders(p) is not None).items():
        images, labels = _folders(folder) or (folder, folder)
        pairs = paired(images, labels, notes if labels.name == "masks" else None)
        found += [(split_of(i, folder) if split == "all" else split, i, m) for i, m in pairs]
        places += [folder, labels]
    if not found:
        raise DataError(
            f"{path}: no images with label pictures are there", hint="images/ beside annotations/ or labels/"
        )
    flags = Flags(masks, tuple(ignore or ()), threshold)
    legend = class_legend.declared(classes, ignore or []) if classes is not None else class_legend.around(path, places)
    return of_pictures(path, found, legend, flags, notes)


def of_pictures(
    path: Path,
    found: Found,
    legend: Legend | None,
    flags: Flags,
    notes: list[str] | None = None,
    category: str = "object",
) -> Draft:
    """Images with label pictures as a dataset of what its values are: classes of pixels, where nothing else is said.
    category: the one class of binary masks without a legend."""
    meaning = decide(path, [file for _, _, file in found], flags, legend=legend, classes=True, category=category)
    if meaning.pixels:
        return of_classes(path, found, meaning, notes or [])
    root, splits = arrange(found, path)
    entries = {key: [Labelled(e.file_name, e.path, (e.label,)) for e in part] for key, part in splits.items()}
    return of_objects_in(path, root, entries, meaning, notes or [])


def of_classes(path: Path, found: Found, meaning: Meaning, notes: list[str]) -> Draft:
    """Images with label pictures as a dataset of stuff. Raises DataError for a legend without classes."""
    legend = meaning.legend
    assert legend is not None  # classes have one
    named = [row for row in legend.rows if row.kind != "ignore"]
    names = list(dict.fromkeys(row.name for row in named))
    if not names:
        raise DataError(f"{legend.where}: declares no class")
    first = {row.name: row.value for row in reversed(named)}
    colours = {r.name: (r.value >> 16, r.value >> 8 & 255, r.value & 255) for r in named} if legend.colours else {}
    categories = [Category(name, first[name], thing=False, colour=colours.get(name)) for name in names]
    places = {name: label for label, name in enumerate(names)}
    ignore = ignore_label(len(names))
    numbers = {row.value: ignore if row.kind == "ignore" else places[row.name] for row in legend.rows}
    left = [v for v, label in numbers.items() if label == ignore]
    if left and meaning.kind == "classes":
        notes.append(f"{legend.where}: values that are ignored: {some([legend.shown(v) for v in left])}")
    records = lambda entries: _records(entries, meaning.rule, legend, numbers, len(names), notes)
    out = draft(path, found, categories, records, notes, semantic=True)
    out.masks = meaning.facts()
    return out


def label_files(folder: Path) -> list[Path]:
    """The label pictures below a folder: its PNGs, where there are none its other pictures."""
    return list(find_files(folder, ".png")) or list(find_files(folder, *SUFFIXES))


def paired(images: Path, labels: Path, notes: list[str] | None = None) -> list[tuple[Path, Path]]:
    """Every image with its label picture, by name. Raises DataError where either has no partner; with `notes`, images
    without one are left out, and noted."""
    pictures: dict[str, Path] = {}
    for file in label_files(labels):
        key = file.relative_to(labels).with_suffix("").as_posix()
        key = next((key.removesuffix(mark) for mark in MARKS if key.endswith(mark)), key)
        if key in pictures:
            raise DataError(f"{pictures[key]} and {file}: two label pictures of one image")
        pictures[key] = file
    out: list[tuple[Path, Path]] = []
    bare: list[str] = []
    for image in find_files(images, *SUFFIXES):
        key = image.relative_to(images).with_suffix("").as_posix()
        if key in pictures:
            out.append((image, pictures.pop(key)))
        else:
            bare.append(image.name)
    if out and bare and notes is not None:
        notes.append(f"{len(bare)} images have no mask file and are left out: {some(bare)}")
        bare = []
    for lost, folder in ((bare, labels), ([file.name for file in pictures.values()], images)):
        if lost:
            raise DataError(f"{folder}: nothing here is called like {some(lost)} ({len(lost)} without a partner)")
    return out


def translate(
    values: np.ndarray, meaning: dict[int, int], unknown: Callable[[int, int], int], classes: int
) -> np.ndarray:
    """Label values of any size [H,W] -> labels of `label_type`; `unknown` says what a value that is not in `meaning`,
    and is on so many pixels, becomes."""
    kind = label_type(classes)
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256).tolist()
        labels = [meaning[v] if v in meaning else unknown(v, n) if n else 0 for v, n in enumerate(counts)]
        return np.array(labels, kind)[values]
    present, numbers, places = ranked(values)
    pairs = zip(present.tolist(), numbers.tolist(), strict=True)
    return np.array([meaning[v] if v in meaning else unknown(v, n) for v, n in pairs], kind)[places]


def _folders(path: Path) -> tuple[Path, Path] | None:
    images = [path / name for name in IMAGES if (path / name).is_dir()]
    labels = [path / name for name in LABELS if (path / name).is_dir()]
    return (images[0], labels[0]) if images and labels else None


def _records(
    entries: Sequence[Entry[Path]], rule: Rule, legend: Legend, meaning: dict[int, int], classes: int, notes: list[str]
) -> Iterator[Record]:
    border: dict[int, Counter[str]] = {value: Counter() for value in blanks(classes) if value not in meaning}
    values_of = reader(rule, legend)

    def read(entry: Entry[Path]) -> Record:
        size = image_size(entry.path)
        values = values_of(entry.label)
        check_size(entry.label, values, entry.path, size)
        ignored: dict[int, int] = {}

        def unknown(value: int, pixels: int) -> int:
            """Values that usually mean nothing are ignored, any other is refused."""
            if value not in border or legend.colours:
                raise DataError(
                    f"{entry.label}: the value {legend.shown(value)} is not in {legend.where}",
                    hint="add a line for it there, with kind ignore where it is no class",
                )
            ignored[value] = pixels
            return ignore_label(classes)

        labels = translate(values, meaning, unknown, classes)
        for value, pixels in ignored.items():
            border[value][entry.file_name] = pixels
        return Record(entry.file_name, size, entry.path, [], semantic=encode_map(labels))

    yield from each(entries, read)
    for value, counts in border.items():
        if counts:
            pixels = f"{sum(counts.values())} pixels of value {value} in {len(counts)} images"
            notes.append(f"{pixels} are ignored: no class has that value")
