"""Pascal VOC: `JPEGImages/` with `SegmentationObject/`, `SegmentationClass/` (palette PNGs) or `Annotations/` (boxes).

With SegmentationObject, every value but 0 and the 255 of borders is one object, and its class is that of its pixels in
SegmentationClass; the class map itself is kept, with background as a class and 255 ignored. SegmentationClass alone is
a class for every pixel. Else the boxes of the xml files, which may also lie beside their images. Classes are those of
class_names.txt (by value), labelmap.txt or a legend, without them VOC's 20 where that is likely (see `_voc_names.py`);
of boxes the names in use, sorted.
`ImageSets/` gives the splits; what is in none of its lists is left out.
"""

import dataclasses
import os
import re
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, cast
from xml.etree import ElementTree

import numpy as np

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import Category
from segcli.core.errors import DataError, UsageError
from segcli.core.files import open_regular
from segcli.core.plugins import nearest
from segcli.core.xml_tree import read_xml
from segcli.data.canonical import UNDECIDED, Draft, Record
from segcli.data.image import SUFFIXES, image_size
from segcli.data.png import encode_map
from segcli.sources.class_legend import Legend, Row
from segcli.sources.draft import Entry, draft, each
from segcli.sources.files import find_files, lines, note_names, some, split_of
from segcli.sources.folders import SPLITS
from segcli.sources.formats import _voc_names
from segcli.sources.formats.semantic import of_pictures, translate
from segcli.sources.images import is_there, size_of
from segcli.sources.mask_meaning.evidence import MaskStats, sample_masks
from segcli.sources.mask_meaning.mask_files import as_ids, check_size, objects, read_colours, read_pixels
from segcli.sources.mask_meaning.meaning import Flags, Kind, Meaning, decide
from segcli.sources.mask_meaning.rule import reader
from segcli.sources.shapes import of_box
from segcli.types import IGNORE_16, ignore_label

BORDER = _voc_names.BORDER
FLAGS = ("difficult", "truncated", "occluded")
Boxes = tuple[Path, tuple[int, int] | None, list[tuple[str, Annotation]]]  # xml, its image's (H, W), class and box
MARK = re.compile(rb"<annotation[\s/>]|<!DOCTYPE\s+annotation\b|<!ENTITY")  # near the beginning of an xml of boxes


def detect(path: Path) -> bool:
    """Whether `path` has VOC's folders, or xml files of boxes beside images."""
    root = _root(path)
    if any((root / name).is_dir() for name in ("SegmentationObject", "SegmentationClass")):
        return (root / "JPEGImages").is_dir()
    return path.is_dir() and any(_is_voc(file) for file in find_files(root, ".xml"))


def build(
    *,
    path: Path,
    labels: Literal["masks", "boxes"] | None = None,
    classes: list[str] | None = None,
    masks: Kind | None = None,
    ignore: list[int] | None = None,
    threshold: float | None = None,
) -> Draft:
    """Read the folder `path`. labels: the masks or the boxes; None: the masks where there are any. classes: the names
    of the values from 1 up. masks, ignore, threshold: what values are instead (see `mask_meaning/meaning.py`).

    Raises DataError for broken files, unknown classes, classes that nothing names, and labels without an image.
    """
    root = _root(path)
    pictures = next((root / n for n in ("SegmentationObject", "SegmentationClass") if (root / n).is_dir()), None)
    if labels == "masks" and pictures is None:
        raise DataError(f"{root}: has no SegmentationObject or SegmentationClass")
    flags = Flags(masks, tuple(ignore or ()), threshold)
    if pictures is None or labels == "boxes":
        if flags != Flags():
            raise UsageError(f"{root}: its boxes are read, and --masks, --ignore and --threshold are about masks")
        return _boxes(path, root, classes)
    return _masks(path, root, pictures, classes, flags)


def _masks(path: Path, root: Path, pictures: Path, classes: list[str] | None, flags: Flags) -> Draft:
    notes: list[str] = []
    splits = _splits(root, "Segmentation")
    found: list[tuple[str, Path, list[Path]]] = []
    there = {file.stem: file for file in find_files(pictures, ".png")}
    images = {file.stem: file for file in find_files(root / "JPEGImages", *SUFFIXES)}
    lost = sorted(set(there) - set(images))
    if lost:
        raise DataError(f"{pictures}: {len(lost)} masks have no image in JPEGImages: {some(lost)}")
    unmasked = sorted(set(images) - set(there))
    note_names(notes, unmasked, "images have no mask and are left out")
    for stem, file in there.items():
        kinds = [root / name / f"{stem}.png" for name in ("SegmentationObject", "SegmentationClass")]
        if pictures.name == "SegmentationObject" and not is_there(kinds[1]):
            raise DataError(f"{kinds[1]}: there is no such file, and it says of which class {file} is")
        found.append((splits.get(stem, UNDECIDED), images[stem], kinds))
    if splits:
        found = [item for item in found if item[0] != UNDECIDED]
        apart = [stem for stem in there if stem not in splits]
        note_names(notes, apart, "images are in no list of ImageSets/Segmentation and are left out")
    _note_absent(notes, splits, there, "Segmentation")
    of_classes = [kinds[1] for _, _, kinds in found]
    legend = _voc_names.listed(classes, "data.prepare") if classes is not None else _voc_names.named(root, path)
    instances = pictures.name == "SegmentationObject"
    if flags.threshold is not None or (flags.masks is not None and not (instances and flags.masks == "instances")):
        if legend is not None and not any(_voc_names.is_background(row, legend.colours) for row in legend.rows):
            legend = dataclasses.replace(legend, rows=(Row(0, "background"), *legend.rows))
        return of_pictures(path, [(split, image, kinds[1]) for split, image, kinds in found], legend, flags, notes)
    sample = sample_masks(of_classes)
    if legend is None:
        legend = _voc_names.assumed(root, sample, [file.stem for file in of_classes])
    rows = legend.rows
    if not any(_voc_names.is_background(row, legend.colours) for row in rows):
        rows = (Row(0, "background"), *rows)
    if legend.colours and all(row.value != _voc_names.BORDER_COLOUR for row in rows):
        rows = (*rows, Row(_voc_names.BORDER_COLOUR, "", "ignore"))
    legend = dataclasses.replace(legend, rows=rows)
    meaning = decide(path, of_classes, Flags(None, flags.ignore), legend=legend, classes=True, sample=sample)
    legend = meaning.legend or legend
    if instances:
        _refuse_without_ids(path, [kinds[0] for _, _, kinds in found], sample)
    named = [row for row in legend.rows if row.kind != "ignore" and not _voc_names.is_background(row, legend.colours)]
    listed = list(dict.fromkeys(row.name for row in named))
    first = {name: next(row.value for row in named if row.name == name) for name in listed}
    numbers = {name: place if legend.colours else first[name] for place, name in enumerate(listed, 1)}
    categories = [Category(name, numbers[name], thing=instances) for name in listed]
    categories.append(Category("background", 0, thing=False))
    ignore = ignore_label(len(listed) + 1)
    labels = {BORDER: ignore, ignore: ignore} if not legend.colours else {}  # where a class is 255, its row says so
    for row in legend.rows:
        background = _voc_names.is_background(row, legend.colours)
        labels[row.value] = ignore if row.kind == "ignore" else len(listed) if background else listed.index(row.name)
    read = partial(_masked, meaning=meaning, labels=labels, ids=list(numbers.values()), instances=instances)
    records = lambda entries: each(entries, read)
    out = draft(path, found, categories, records, notes, semantic=True, measured=True)
    out.masks = meaning.facts()
    return out


def _refuse_without_ids(path: Path, files: list[Path], of_classes: list[MaskStats]) -> None:
    """Raise DataError where the files that should number objects hold nothing but the border's 255."""
    values = {value for mask in sample_masks(files) if mask.form == "grey" for value in mask.counts}
    if BORDER in values and values <= {0, BORDER} and any(mask.values - {BORDER} for mask in of_classes):
        raise DataError(
            f"{files[0].parent}: holds no number of an object, only 255, which is the border",
            hint="--masks split-components makes an object of every separate region of a class, --masks classes reads "
            "classes of pixels",
        )


def _masked(
    entry: Entry[list[Path]], meaning: Meaning, labels: dict[int, int], ids: list[int], instances: bool
) -> Record:
    numbers, values = entry.label
    size = image_size(entry.path)
    legend = meaning.legend
    assert legend is not None  # classes have one
    kinds = reader(meaning.rule, legend)(values)
    check_size(values, kinds, entry.path, size)
    semantic = translate(kinds, labels, partial(_undeclared, values, legend=legend), len(ids) + 1)
    annotations: list[Annotation] = []
    if instances:
        of_objects, border = _ids(numbers)
        check_size(numbers, of_objects, entry.path, size)
        for number, annotation in objects(np.where(of_objects == border, 0, of_objects)):
            counts = np.bincount(semantic[of_objects == number], minlength=len(ids))[: len(ids)]
            if not counts.any() and number == BORDER:
                continue
            if not counts.any():
                raise DataError(f"{numbers}: object {number} has no class in {values}")
            annotations.append({**annotation, "category_id": ids[int(counts.argmax())], "source": f"object {number}"})
    return Record(entry.file_name, size, entry.path, annotations, semantic=encode_map(semantic))


def _ids(file: Path) -> tuple[np.ndarray, int]:
    """The numbers of objects [H,W], also of a picture that is painted by them, and which one is the border: 255, but
    in a file that counts on behind it."""
    pixels, mode = read_pixels(file)
    if pixels.ndim == 3 and (pixels[:, :, :3] != pixels[:, :, :1]).any():
        return read_colours(file), _voc_names.BORDER_COLOUR
    numbers = as_ids(file, pixels, mode)
    return numbers, BORDER if numbers.max() <= BORDER else IGNORE_16


def _undeclared(file: Path, value: int, pixels: int, legend: Legend) -> int:
    raise DataError(
        f"{file}: value {legend.shown(value)} is no class; {legend.where} names {len(legend.rows) - 1}",
        hint="class_names.txt beside it names them: one a line",
    )


def _boxes(path: Path, root: Path, classes: list[str] | None) -> Draft:
    notes: list[str] = []
    splits = _splits(root, "Main")
    pictures: dict[str, list[Path]] = {}
    for picture in find_files(root, *SUFFIXES):
        if not picture.parent.name.startswith("Segmentation"):
            pictures.setdefault(picture.stem, []).append(picture)
    found: list[tuple[str, Path, Boxes]] = []
    used: dict[str, Path] = {}
    owner: dict[Path, Path] = {}
    apart: list[str] = []
    for file in (f for f in find_files(root, ".xml") if _is_voc(f)):
        tree = read_xml(file)
        image = _image(file, tree, root, pictures.get(file.stem, []))
        if owner.setdefault(image, file) != file:
            raise DataError(f"{owner[image]} and {file}: both are of the image {image}", hint="remove one of them")
        if splits and file.stem not in splits:
            apart.append(file.stem)
            continue
        listed = _objects(file, tree)
        for name, _ in listed:
            used.setdefault(name, file)
        found.append((splits.get(file.stem, split_of(file, root)), image, (file, _size(tree), listed)))
    _note_absent(notes, splits, {file.stem for file in owner.values()}, "Main")
    note_names(notes, apart, "xml files are in no list of ImageSets/Main and are left out")
    others = [f.name for f in find_files(root, ".xml") if f.stem in pictures and not _is_voc(f)]
    note_names(notes, others, "xml files of images hold no annotation and are left out")
    bare = sorted(p.name for group in pictures.values() for p in group if p not in owner)
    note_names(notes, bare, "images have no xml file and are left out")
    names = classes if classes is not None else sorted(used)
    unknown = next((name for name in used if name not in names), None)
    if unknown is not None:
        raise DataError(f"{used[unknown]}: the class {unknown!r} is not among the names", hint=nearest(unknown, names))
    ids = {name: key for key, name in enumerate(names, 1)}
    categories, read = [Category(name, key) for name, key in ids.items()], partial(_boxed, ids=ids)
    return draft(path, found, categories, lambda entries: each(entries, read), notes)


def _image(file: Path, tree: ElementTree.Element, root: Path, alike: list[Path]) -> Path:
    """The image of an xml: as it says, beside it or in JPEGImages; else of those called like it the one that shares
    most of its folders."""
    named = (tree.findtext("filename") or "").replace("\\", "/").rsplit("/", 1)[-1]
    places = [file.parent / named, root / "JPEGImages" / named] if named and "\0" not in named else []
    image = next((p for p in places if is_there(p)), None)
    if image is not None:
        return image
    near = [(len(Path(os.path.commonpath([p, file])).parts), p.name == named) for p in alike]
    best = [p for p, rank in zip(alike, near, strict=True) if rank == max(near)]
    if not best:
        raise DataError(f"{file}: its image {named or file.stem} is not there")
    if len(best) > 1:
        raise DataError(
            f"{file}: its image could be {some(best)}", hint="put the image beside it, or in folders called alike"
        )
    return best[0]


def _boxed(entry: Entry[Boxes], ids: dict[str, int]) -> Record:
    file, claimed, listed = entry.label
    annotations: list[Annotation] = [{**one, "category_id": ids[name]} for name, one in listed]
    return Record(entry.file_name, size_of(entry.path, claimed, file), entry.path, annotations)


def _objects(file: Path, tree: ElementTree.Element) -> list[tuple[str, Annotation]]:
    out: list[tuple[str, Annotation]] = []
    for number, one in enumerate(tree.findall("object"), 1):
        name, box = (one.findtext("name") or "").strip(), one.find("bndbox")
        corners = [] if box is None else [box.findtext(key) for key in ("xmin", "ymin", "xmax", "ymax")]
        try:
            x1, y1, x2, y2 = (float(text or "") for text in corners)
        except ValueError:
            raise DataError(f"{file}: object {number} ({name}) has no bndbox of four numbers") from None
        if not name or not np.isfinite([x1, y1, x2, y2]).all() or x2 < x1 or y2 < y1:
            raise DataError(f"{file}: object {number} ({name or 'no name'}): the box {corners} is none")
        # VOC counts pixels from 1 and includes the last one
        annotation = of_box(x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1, 0)
        flags = {flag: int(text) for flag in FLAGS if (text := (one.findtext(flag) or "").strip()) in ("0", "1")}
        out.append((name, {**annotation, **cast(Annotation, flags)}))
    return out


def _size(tree: ElementTree.Element) -> tuple[int, int] | None:
    texts = [(tree.findtext(f"size/{side}") or "").strip() for side in ("height", "width")]
    if not all(re.fullmatch(r"[1-9][0-9]{0,5}", text) for text in texts):
        return None
    return int(texts[0]), int(texts[1])


def _is_voc(file: Path) -> bool:
    """By its root element, in any encoding; also what declares entities before it, which its reader refuses by name."""
    if not file.is_file():  # a pipe would wait for ever
        return False
    with open_regular(file) as stream:
        return MARK.search(stream.read(4096).replace(b"\0", b"")) is not None


def _splits(root: Path, kind: str) -> dict[str, str]:
    """Image name without suffix -> split, by ImageSets/KIND/{train,val,test}.txt, in any letter case."""
    out: dict[str, str] = {}
    for file in sorted((root / "ImageSets" / kind).glob("*.txt")):  # tools call them as their subsets: Train.txt
        split = SPLITS.get(file.stem.lower())
        for line in lines(file) if split and file.is_file() else []:
            stem = line.split()[0] if line else ""
            if stem and split and out.setdefault(stem, split) != split:
                raise DataError(f"{file}: {stem} is also in the split {out[stem]!r}")
    return out


def _note_absent(notes: list[str], splits: Mapping[str, str], there: Collection[str], kind: str) -> None:
    """Note what the lists of the splits name, and nothing is called."""
    lost = [stem for stem in splits if stem not in there]
    note_names(notes, lost, f"names in ImageSets/{kind} have no labels and are left out")


def _root(path: Path) -> Path:
    """The folder that holds JPEGImages: `path`, or the only VOC20xx in it or in its VOCdevkit."""
    if (path / "JPEGImages").is_dir() or not path.is_dir():
        return path
    inner = [p for base in (path, path / "VOCdevkit") for p in base.glob("VOC20*") if (p / "JPEGImages").is_dir()]
    if len(inner) > 1:
        raise DataError(f"{path}: holds {some([p.name for p in inner])}", hint="give one of them as SOURCE")
    return inner[0] if inner else path
