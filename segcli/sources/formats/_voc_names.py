"""What the values of a folder in VOC's layout are called: as a file says, or as VOC does where that is likely.

Tools and tutorials write their own classes in this layout. VOC's 20 names are taken only where something speaks for
them: its names in xml files or lists of images, its names of images, its palette with its border, or values that nobody
who counts own classes from 1 would have.
"""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from segcli.core.errors import DataError
from segcli.core.xml_tree import read_xml
from segcli.sources import class_legend
from segcli.sources.class_legend import Legend, Row
from segcli.sources.files import lines
from segcli.sources.mask_meaning.class_values import BACKGROUND
from segcli.sources.mask_meaning.evidence import MaskStats, spread
from segcli.sources.mask_meaning.mask_files import palette_colours
from segcli.sources.mask_meaning.object_ids import value_list

# http://host.robots.ox.ac.uk/pascal/VOC/voc2012/: the values 1 to 20 of SegmentationClass
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
BORDER = 255
BORDER_COLOUR = 224 << 16 | 224 << 8 | 192
LISTS = ("class_names.txt", "classes.txt", "labels.txt")
NAME = re.compile(r"(19|20)\d\d_\d{6}$")  # of an image of VOC 2008 to 2012
NO_CLASS = ("__ignore__", "_background_", "background")
MANY = 10  # different values that speak for VOC


def named(root: Path, path: Path) -> Legend | None:
    """The names that a file in `root` or `path` gives: value 0 is background, 255 border. None where none does.

    Lists count from 1 (a first line background aside). Raises DataError for a broken file.
    """
    for folder in dict.fromkeys((root, path)):
        file = next((folder / name for name in LISTS if (folder / name).is_file()), None)
        if file is not None:
            return listed([name for name in lines(file) if name], str(file))
        if found := class_legend.in_folder(folder):
            return listed([row.name for row in found.rows], found.where) if found.listed else found
    return None


def listed(names: Sequence[str], where: str) -> Legend:
    """Names as values from 1 on."""
    kept = [name for name in names if name not in NO_CLASS]
    return Legend(where, tuple(Row(value, name) for value, name in enumerate(kept, 1)))


def assumed(root: Path, sample: Sequence[MaskStats], stems: Sequence[str]) -> Legend:
    """VOC's own names. Raises DataError where nothing speaks for them."""
    grey = [mask for mask in sample if mask.form == "grey"]
    values = {value for mask in grey for value in mask.values} - {BORDER}
    legend = listed(CLASSES, "VOC")
    if max(values, default=0) <= len(CLASSES) and (values or not sample) and _likely(root, grey, values, stems):
        return legend
    several = f"its values {value_list(values)}" if values else "its masks"
    bordered = any(BORDER in mask.counts for mask in sample)
    raise DataError(
        f"{root}: nothing names its classes ({several}); they are hardly VOC's {len(CLASSES)}",
        hint=f"write {root / 'class_names.txt'}: the names of the values from 1 on, one a line; --masks classes does "
        "without names" + (", --masks binary takes 255 for the one class" if bordered and not values else ""),
    )


def _likely(root: Path, sample: Sequence[MaskStats], values: set[int], stems: Sequence[str]) -> bool:
    in_xml = {mask.path: names for mask in sample if (names := _named_in_xml(root, mask.path.stem))}
    if in_xml:  # an xml names all objects of its image
        shown = {mask.path: {CLASSES[v - 1] for v in mask.values - {BORDER}} for mask in sample}
        return all(names <= set(CLASSES) and shown[path] <= names for path, names in in_xml.items())
    if any(NAME.fullmatch(stem) for stem in spread(stems)):
        return True
    if any((root / "ImageSets/Main" / f"{name}_train.txt").is_file() for name in CLASSES):
        return True
    own = sorted(values) == list(range(1, len(values) + 1))  # counted as everybody counts
    if not own or len(values) >= MANY:
        return True
    bordered = any(mask.outlined > 0.5 for mask in sample)
    return bordered and all(_voc_palette(mask) for mask in sample[:4])


def _named_in_xml(root: Path, stem: str) -> set[str]:
    """Names of the objects in the xml of an image, empty where it has none."""
    file = root / "Annotations" / f"{stem}.xml"
    if not file.is_file():
        return set()
    with contextlib.suppress(DataError):  # a broken one says nothing; only masks are read here
        return {(one.findtext("name") or "").strip() for one in read_xml(file).findall("object")} - {""}
    return set()


def _voc_palette(mask: MaskStats) -> bool:
    """Whether a picture has the colours that VOC gives to its values."""
    used = mask.values - {BORDER}
    return palette_colours(mask.path, used) == {colour(value) for value in used}


def colour(value: int) -> int:
    """65536 R + 256 G + B of a value in VOC's palette: its bits in turn, from the highest of each channel down."""
    r = g = b = 0
    for i in range(8):
        r |= (value >> 3 * i & 1) << 7 - i
        g |= (value >> 3 * i + 1 & 1) << 7 - i
        b |= (value >> 3 * i + 2 & 1) << 7 - i
    return r << 16 | g << 8 | b


def is_background(row: Row, colours: bool) -> bool:
    """Whether a legend's row is what no object covers."""
    return row.name.strip().lower() in BACKGROUND[:3] or (row.value == 0 and not colours)
