"""Tables of run lengths, as Kaggle's competitions have them: a csv with a row an object, or a row a class of an image.

SOURCE is the csv, or the folder that holds it, with the images anywhere below. Known are the headings of the Data
Science Bowl 2018 and of Airbus (`ImageId,EncodedPixels`), with `Height,Width` (iMaterialist) and `ClassId` (Severstal),
of Severstal's and the clouds' older tables (`ImageId_ClassId`, `Image_Label`: `a.jpg_2`), `id,rle_mask` and the like.
An empty cell (or -1, or -) is an image without objects. Runs are pairs of first pixel, counted from 1, and length.
Kaggle counts down the columns (kaggle.com/c/airbus-ship-detection, evaluation); tables of others, Carvana's too, count
along the rows: which it is, is held against the images, and where these don't tell, `pixel_order` has to.
"""

import csv
import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import Category
from segcli.core.errors import DataError, UsageError
from segcli.data.canonical import UNDECIDED, Draft, Record
from segcli.data.image import SUFFIXES, read_image
from segcli.sources import shapes
from segcli.sources.draft import Entry, draft, each
from segcli.sources.files import find_files, heading, in_folder, note_names, some, table
from segcli.sources.formats import masks as masks_format
from segcli.sources.images import by_name, size_of
from segcli.sources.label_pictures import holds_labels
from segcli.sources.mask_meaning.evidence import pieces, spread
from segcli.sources.mask_meaning.mask_files import regions

Order = Literal["columns", "rows"]
IMAGE = ("imageid", "image_id", "img", "image", "id", "filename")
CLASS = ("classid", "class_id", "categoryid", "class", "label")
BOTH = ("imageid_classid", "image_label")  # image and class in one cell, with _ between
RUNS = ("encodedpixels", "encoded_pixels", "rle_mask", "rle", "encoding")
NOTHING = ("", "-", "-1")
SUBMISSION = "submission"  # in the names of tables of predictions
SAMPLE = 64  # objects by which the order is judged
CLEAR = 1.2  # times as good one order must be
FEWEST = 8  # objects of square images that tell the order
SEVERAL = 0.1  # of the rows in several pieces, from which on a row is hardly an object
CELL = 2**27  # characters of a cell: the runs of a very large image
ATTRIBUTES = re.compile(r"^(\d+)(_\d+)+$")  # of iMaterialist: 6_19_20 is of class 6


@dataclasses.dataclass(frozen=True)
class Row:
    """One line: its place for messages, its class (empty: none), its runs, and the (H, W) that it claims."""

    where: str
    name: str
    runs: str
    size: tuple[int, int] | None


class Sampled(NamedTuple):
    """An object that is looked at: its image, that one's (H, W), its runs as `_runs` gives them."""

    path: Path
    size: tuple[int, int]
    runs: np.ndarray


Label = tuple[Path, list[Row]]  # the table, and its rows of one image


def detect(path: Path) -> bool:
    """Whether `path` is a table of run lengths, or a folder with one; not where the masks lie beside as pictures, as
    the Data Science Bowl has both."""
    return bool(_files(path)) and not masks_format.detect(path)


def build(
    *,
    path: Path,
    pixel_order: Order | None = None,
    masks: Literal["instances", "split-components"] | None = None,
    category: str | None = None,
) -> Draft:
    """Read the table of `path`. pixel_order: how pixels are counted; masks: what a row of a class is; category: the
    class of a table without classes. Images are found by the last part of their names.

    Raises DataError for what is no such table, runs that leave the image, an order that the images don't tell, and
    images that are nowhere.
    """
    files = _files(path)
    if len(files) != 1:
        there = f": {some([f.name for f in files])}" if files else ""
        raise DataError(f"{path}: holds {len(files)} tables of run lengths{there}", hint="give one as SOURCE")
    file, root = files[0], path if path.is_dir() else path.parent
    notes: list[str] = []
    listed = _rows(file)
    images = by_name(list(listed), root, file)
    unlisted = sorted({image.name for image in find_files(root, *SUFFIXES) if not holds_labels(image.parent, root)})
    taken = {place.name for place in images.values()}
    bare = [name for name in unlisted if name not in taken]
    note_names(notes, bare, f"images are named by no row of {file.name} and are left out")
    found: list[tuple[str, Path, Label]] = [(UNDECIDED, images[name], (file, rows)) for name, rows in listed.items()]
    filled = [(images[name], row) for name, rows in listed.items() for row in rows if row.runs not in NOTHING]
    sample = [*_readable(file, spread(filled, SAMPLE))]
    if pixel_order is None:
        pixel_order = _order(file, sample, notes)
    if masks is None:
        masks = _meaning(file, listed, sample, pixel_order)
    used = {row.name for rows in listed.values() for row in rows if row.name or row.runs not in NOTHING} or {""}
    if category is not None and "" not in used:
        raise UsageError(f"{file}: data.prepare.category: its rows name their classes", hint="leave it out")
    names = {name or category or "object" for name in used}
    ids = {name: key for key, name in enumerate(sorted(names, key=_natural), 1)}

    def records(entries: Sequence[Entry[Label]]) -> Iterator[Record]:
        empty: list[str] = []

        def read(entry: Entry[Label]) -> Record:
            rows = entry.label[1]
            size = size_of(entry.path, rows[0].size, file)
            made: list[Annotation] = []
            for row in rows:
                if row.runs not in NOTHING:
                    key = ids[row.name or category or "object"]
                    mask = _pixels(_runs(row, size), size, pixel_order)
                    whole = shapes.of_pixels(mask, key)
                    if whole is None:
                        empty.append(entry.file_name)
                        continue
                    split = [{**one, "category_id": key} for one in regions(mask)] if masks != "instances" else []
                    made += split or [whole]  # type: ignore[arg-type]
            return Record(entry.file_name, size, entry.path, made)

        yield from each(entries, read)
        note_names(notes, empty, "rows have no pixel and are left out")

    categories = [Category(name, key) for name, key in ids.items()]
    return draft(path, found, categories, records, notes, measured=True)


def _natural(name: str) -> tuple[int, str]:
    """Numbers in their order, before words."""
    return (int(name), "") if name.isdecimal() and len(name) < 9 else (10**9, name)


def _files(path: Path) -> list[Path]:
    files = [path] if path.is_file() else in_folder(path, ".csv")
    tables = [file for file in files if file.suffix.lower() == ".csv" and _columns(heading(file)) is not None]
    return tables if path.is_file() else [file for file in tables if SUBMISSION not in file.name.lower()]


def _columns(cells: list[str]) -> tuple[int, int | None, int] | None:
    """The places of image, class and runs in a heading; None where it is not of such a table."""
    names = [name.strip().lower() for name in cells]
    at = lambda known: next((names.index(name) for name in known if name in names), None)
    runs, both = at(RUNS), at(BOTH)
    image = at(IMAGE) if both is None else both
    if runs is None or image is None:
        return None
    return image, at(CLASS) if both is None else both, runs


def _rows(file: Path) -> dict[str, list[Row]]:
    """Image -> its rows. Raises DataError."""
    listed: dict[str, list[Row]] = {}
    before = csv.field_size_limit(CELL)
    try:
        lines = table(file)
        first = next(lines)[1]
        places = _columns(first)
        assert places is not None  # it was found by them
        image, kind, runs = places
        names = [name.strip().lower() for name in first]
        sides = [names.index(side) for side in ("height", "width") if side in names]
        for where, cells in lines:
            if len(cells) != len(first):
                raise DataError(f"{where}: has {len(cells)} cells, and the heading {len(first)}")
            name, label = cells[image].strip(), cells[kind].strip() if kind is not None else ""
            if image == kind:
                name, _, label = name.rpartition("_")
            if not name or (kind is not None and not label and cells[runs].strip() not in NOTHING):
                raise DataError(f"{where}: {cells[image]!r:.60} names no {'class' if name else 'image'}")
            given = [cells[side].strip() for side in sides]
            size = None
            if len(given) == 2 and all(given):
                if not all(side.isdecimal() and 0 < len(side) < 7 for side in given):
                    raise DataError(f"{where}: height and width are {some(given)}, which are no sizes in pixels")
                size = int(given[0]), int(given[1])
            listed.setdefault(name, []).append(Row(where, ATTRIBUTES.sub(r"\1", label), cells[runs].strip(), size))
    finally:
        csv.field_size_limit(before)
    if not listed:
        raise DataError(f"{file}: lists no image")
    return listed


def _runs(row: Row, size: tuple[int, int]) -> np.ndarray:
    """First pixels, from 0, and ends [N,2]. Raises DataError for runs that overlap, go back, or leave the image."""
    where, words = row.where, row.runs.split()
    if len(words) % 2 or not all(word.isdecimal() and len(word) < 12 for word in words):
        raise DataError(f"{where}: its runs {row.runs!r:.60} are not pairs of first pixel and length")
    pairs = np.array(words, np.int64).reshape(-1, 2)
    starts, ends = pairs[:, 0] - 1, pairs[:, 0] - 1 + pairs[:, 1]
    if starts.min() < 0:
        raise DataError(f"{where}: a run begins at pixel 0, and pixels are counted from 1")
    if (starts[1:] < ends[:-1]).any():
        raise DataError(
            f"{where}: its runs overlap or go back, as they do where each begins counting at the end of the last",
            hint="save them as first pixel of the image, counted from 1, and length",
        )
    if ends.max() > size[0] * size[1]:
        raise DataError(
            f"{where}: a run reaches pixel {ends.max()}, and the image of {size[1]} x {size[0]} has {size[0] * size[1]}"
        )
    return np.stack([starts, ends], 1)


def _pixels(runs: np.ndarray, size: tuple[int, int], order: Order) -> np.ndarray:
    """Runs as bool [H,W]."""
    change = np.zeros(size[0] * size[1] + 1, np.int8)
    change[runs[:, 0]] += 1
    change[runs[:, 1]] -= 1
    flat = np.cumsum(change[:-1], dtype=np.int8).astype(bool)
    return flat.reshape(size) if order == "rows" else flat.reshape(size[::-1]).T


def _readable(file: Path, rows: Sequence[tuple[Path, Row]]) -> Iterator[Sampled]:
    """Those that can be read and have a pixel; what is wrong with the others is said where all are."""
    for path, row in rows:
        try:
            size = size_of(path, row.size, file)
            runs = _runs(row, size)
            if (runs[:, 0] < runs[:, 1]).any():
                yield Sampled(path, size, runs)
        except DataError:
            continue


def _order(file: Path, sample: Sequence[Sampled], notes: list[str]) -> Order:
    """How pixels are counted: objects have short outlines, which lie where the picture changes; read in the wrong order
    they fall to pieces or, in a square image, lie mirrored. Raises DataError where rows fit better, or as well."""
    edges, contrast = np.zeros(2), np.zeros(2)
    different = 0
    for one in sample:
        both = [_pixels(one.runs, one.size, order) for order in ("columns", "rows")]
        if (both[0] == both[1]).all():
            continue
        different += 1
        picture = read_image(one.path).astype(np.int16)
        for k, mask in enumerate(both):
            down, right = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
            border = sum(np.count_nonzero(side) for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
            edges[k] += np.count_nonzero(down) + np.count_nonzero(right) + border
            if picture.shape[:2] == one.size:
                steps = [np.abs(np.diff(picture, axis=0))[down], np.abs(np.diff(picture, axis=1))[right]]
                contrast[k] += np.concatenate(steps).mean() if len(steps[0]) + len(steps[1]) else 0
    if not different:
        return "columns"  # both readings are the same, or nothing can be read
    outlines, changes = edges[1] / edges[0], contrast[0] / max(contrast[1], 1e-9) if different >= FEWEST else 1.0
    verdict = next((value for value in (outlines, changes) if not 1 / CLEAR < value < CLEAR), 1.0)
    if verdict >= CLEAR:
        notes.append(f"the runs of {file.name} go down the columns, as Kaggle's do: their outlines fit the images")
        return "columns"
    why = "fit the images better along the rows" if verdict <= 1 / CLEAR else "fit the images either way"
    raise DataError(
        f"{file}: its runs could go down the columns, as Kaggle's do, or along the rows: they {why} "
        f"({different} objects looked at)",
        hint="--set pixel_order=columns or --set pixel_order=rows says it",
    )


def _meaning(file: Path, listed: dict[str, list[Row]], sample: Sequence[Sampled], order: Order) -> Literal["instances"]:
    """That a row is an object. Raises DataError where it may be all of a class: no image has two rows of one class, and
    many rows are in several pieces."""
    for rows in listed.values():
        if max(Counter(row.name for row in rows if row.runs not in NOTHING).values(), default=0) > 1:
            return "instances"
    several = [s for s in sample if pieces(_pixels(s.runs, s.size, order).astype(np.uint8), [1])[1] > 1]
    if len(several) <= SEVERAL * len(sample):
        return "instances"
    raise DataError(
        f"{file}: a row could be one object, or all objects of its class in an image: {len(several)} of {len(sample)} "
        f"rows looked at have several separate regions, such as that of {several[0].path.name}",
        hint="--masks split-components makes every region an object, --masks instances every row",
    )
