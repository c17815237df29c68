"""Objects of mask files: one a value, one a connected region, or one a file, by what was decided of the folder."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError
from segcli.data.canonical import Draft, Record
from segcli.data.decoders import open_image
from segcli.data.image import image_size
from segcli.sources.class_legend import Legend
from segcli.sources.draft import each
from segcli.sources.files import note_names
from segcli.sources.mask_meaning.evidence import measure_mask, pieces, soft
from segcli.sources.mask_meaning.mask_files import check_size, objects, read_colours, regions
from segcli.sources.mask_meaning.meaning import Meaning
from segcli.sources.mask_meaning.rule import CLEAR, FADES, Rule, half
from segcli.sources.shapes import of_pixels


@dataclasses.dataclass(frozen=True)
class Labelled:
    """One image and its mask files: one file of ids, or one file an object (`single`)."""

    file_name: str
    path: Path
    masks: tuple[Path, ...]
    single: bool = False


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files become objects. legend: the category of every value; None: all are of one. ids: category -> source id.
    split: every connected region of a value is an object."""

    rule: Rule
    ids: dict[str, int]
    legend: Legend | None = None
    split: bool = False


def draft(
    path: Path,
    root: Path,
    splits: dict[str, list[Labelled]],
    meaning: Meaning,
    notes: list[str],
    category: str = "object",
) -> Draft:
    """Images below `root` with mask files as a dataset of objects: of the classes of a legend, else of `category`."""
    legend = meaning.legend
    names = [category]
    if legend is not None:
        names = list(dict.fromkeys(row.name for row in legend.rows if row.kind != "ignore" and row.value))
    ids = {name: key for key, name in enumerate(names, 1)}
    info = DatasetInfo(
        name=path.stem,
        categories=tuple(Category(name, key) for name, key in ids.items()),
        splits={split: len(entries) for split, entries in splits.items()},
    )
    reading = Reading(meaning.rule, ids, legend, meaning.kind == "split-components")
    read = lambda entries: records(entries, reading, notes)
    return Draft(info, splits, read, root, notes, measured=True, masks=meaning.facts())


def records(entries: Sequence[Labelled], reading: Reading, notes: list[str]) -> Iterator[Record]:
    """Every image with its objects; what is empty, or has several regions where others have one, is noted by name."""
    empty: list[str] = []
    several: list[str] = []
    colours = reading.legend is not None and reading.legend.colours
    values_of = read_colours if colours else reading.rule.objects

    def read(entry: Labelled) -> Record:
        size = image_size(entry.path)
        annotations: list[Annotation] = []
        for file in entry.masks:
            values = values_of(file)
            check_size(file, values, entry.path, size)
            alone = entry.single and reading.legend is None  # else the legend says which class its value is
            listed = (_single if alone else _listed)(file, values, reading)
            if not listed:
                empty.append(f"{entry.path.parent.parent.name}/{file.name}" if entry.single else file.name)
            if reading.rule.one and len(listed) == 1 and _parts(listed[0], values) > 1:
                several.append(file.name)
            annotations += listed
        return Record(entry.file_name, size, entry.path, annotations)

    yield from each(entries, read)
    note_names(notes, empty, "masks are empty and left out")
    note_names(notes, several, "masks have several separate regions, each mask is one object all the same")


def _single(file: Path, values: np.ndarray, reading: Reading) -> list[Annotation]:
    """What is not 0 in a file of its own. Raises DataError where its edges fade."""
    found = of_pixels(values != 0)
    if found is None:
        _refuse_alpha(file, values)
        return []
    x, y, w, h = found["bbox"]
    part = values[y : y + h, x : x + w]
    if reading.rule.ids and (part != 0).sum() != (part == part.max()).sum():
        counts = dict.fromkeys(np.unique(part).tolist(), 1)
        if soft(part, counts):
            raise DataError(f"{file}: {FADES}", hint=f"--threshold {half(part.max())} decides what is inside")
    if found["area"] == values.size:
        _refuse_alpha(file, values)
    if reading.split:
        return [{**one, "source": file.name} for one in regions(values != 0)]
    return [{**found, "source": file.name}]


def _listed(file: Path, values: np.ndarray, reading: Reading) -> list[Annotation]:
    """The objects of a file of values. Raises DataError for a value that the legend does not name, and for what is no
    file of ids where all others are."""
    rule, legend = reading.rule, reading.legend
    colours = legend is not None and legend.colours
    found = list(objects(values))
    if len(found) < 2 and (not found or found[0][1]["area"] == values.size):
        _refuse_alpha(file, values)
    problem = None if colours else rule.contradiction(file, values, [value for value, _ in found])
    if problem:
        raise DataError(f"{file}: {problem}", hint=f"--threshold {half(found[-1][0])} decides what is inside")
    rows = {row.value: row for row in legend.rows} if legend is not None else {}
    out: list[Annotation] = []
    for value, annotation in found:
        more: Annotation = {"source": f"{file.name}#{value}"}
        parts = reading.split
        if legend is not None:
            row = rows.get(value)
            if row is None:
                raise DataError(
                    f"{file}: the value {legend.shown(value)} is not in {legend.where}",
                    hint="add a line for it there, with kind ignore where it is no object",
                )
            if row.kind == "ignore":
                continue
            more = {"category_id": reading.ids[row.name], "source": f"{file.name}#{legend.shown(value)}"}
            parts = parts or row.kind == "regions"
        out += [{**one, **more} for one in (regions(values == value) if parts else [annotation])]
    return out


def _refuse_alpha(file: Path, values: np.ndarray) -> None:
    """Raise DataError where a file of one value has a mask in its alpha channel, which is not read."""
    if values.size and (values == values.flat[0]).all() and file.suffix.lower() == ".png":
        with open_image(file) as image:
            clear = image.mode in CLEAR
        if clear and measure_mask(file).alpha == "only":
            raise DataError(f"{file}: only its alpha channel varies, and in the other files that is not the mask")


def _parts(annotation: Annotation, values: np.ndarray) -> int:
    """Connected regions of the one object of a file, specks of under 5 % of the largest aside."""
    x, y, w, h = annotation["bbox"]
    return pieces((values[y : y + h, x : x + w] != 0).astype(np.uint8), [1])[1]
