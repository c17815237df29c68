"""Images with a mask each, told by the names of folders and files: how courses, challenges and tools lay them out.

Asked where no other format fits. Two folders side by side (`imgs/` and `masks/`, `img_dir/` and `ann_dir/`, `image/`
and `label/`, `images/` and `gt/` or `1st_manual/`, in any letter case, also inside folders of splits or with them
inside), a folder with its twin (`train/` and `train_masks/`, `train_labels/` or `trainannot/`), or one folder in which
the mask is called as its image with an ending (`a.jpg` and `a_mask.png`). What the values are is decided as for any
mask picture (see `mask_meaning/meaning.py`), with a legend where one lies there (see `class_legend.py`).
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from segcli.core.errors import DataError
from segcli.data.canonical import Draft
from segcli.data.image import SUFFIXES
from segcli.sources import class_legend
from segcli.sources.draft import arrange
from segcli.sources.files import find_files, note_names, some, split_of
from segcli.sources.folders import walk
from segcli.sources.formats.semantic import names_pixels, of_classes, of_pictures
from segcli.sources.mask_meaning.class_values import of_objects, refuse_category
from segcli.sources.mask_meaning.meaning import Flags, Kind, decide
from segcli.sources.mask_meaning.objects import Labelled, draft

LAST = True  # asked only where no other format fits
IMAGES = ("images", "image", "imgs", "img", "img_dir", "jpegimages", "pngimages", "rgb", "photos", "original", "inputs")
MASKS = (  # the likeliest first: DRIVE's mask/ is the field of view, beside 1st_manual/
    *("1st_manual", "masks", "labels", "annotations", "ann_dir", "gt", "groundtruth", "ground_truth", "ground truth"),
    *("mask", "label", "annotation", "gts", "segmentation", "segmentations", "seg", "targets"),
)
CLASSES = re.compile(r"(?:^ann_dir|labels?|annot(?:ations?)?)$", re.I)  # folders of classes of pixels, as in `semantic`
TWINS = ("_masks", "_mask", "_labels", "_label", "_gt", "annot")  # behind the name of the folder of images
# behind the name of an image: Cellpose, DRIVE, Kaggle's CamVid, DeepGlobe and what people choose themselves
ENDINGS = (
    *("_cp_masks", "_masks", "_mask", "_segmentation", "_seg0", "_seg", "_labels", "_label", "_annotation", "_gt"),
    *("_manual1", "_L", "_l", "-mask", "-seg", "-label"),
)
OWN = ("_sat", "_training", "_test", "_image", "_img", "_rgb")  # that images have themselves
Found = list[tuple[str, Path, Path]]  # split, image, mask


def detect(path: Path) -> bool:
    """Whether `path` is a folder in which half of the images or more have a mask."""
    if not path.is_dir():
        return False
    found, bare, _, _ = _pairs(path)
    return bool(found) and len(found) >= len(bare)


def build(
    *,
    path: Path,
    category: str | None = None,
    classes: list[str] | dict[int, str] | None = None,
    masks: Kind | None = None,
    ignore: list[int] | None = None,
    threshold: float | None = None,
) -> Draft:
    """Read the folder `path`. category: what objects without a legend are; None: object. classes: names from value 0,
    or by value, in place of a legend. masks, ignore, threshold: what values are, where the evidence is not to decide
    (see `mask_meaning/meaning.py`).

    Raises DataError where nothing is found, and where it is not clear what the values are; UsageError for a category
    where a legend or `classes` names the classes.
    """
    found, bare, lost, places = _pairs(path)
    if not found:
        raise DataError(f"{path}: no image with a mask is there", hint="images/ beside masks/, files called alike")
    notes: list[str] = []
    note_names(notes, [image.name for image in bare], "images have no mask file and are left out")
    note_names(notes, [mask.name for mask in lost], "mask files belong to no image and are left aside")
    files = [mask for _, _, mask in found]
    legend = class_legend.declared(classes, ignore or []) if classes is not None else None
    if legend is None:
        legend = class_legend.around(path, [*places, *(place.parent for place in places if place != path)])
    flags = Flags(masks, tuple(ignore or ()), threshold)
    named = any(CLASSES.search(place.name) for place in places)
    if named or classes is not None or (legend is not None and names_pixels(legend, files)):
        if category is not None:
            refuse_category(legend)
        return of_pictures(path, found, legend, flags, notes, category or "object")
    if legend is not None and (listed := of_objects(legend, files)) is not None:
        legend, category = None, category or listed
    elif category is not None:
        refuse_category(legend)
    category = category or "object"
    meaning = decide(path, files, flags, legend=legend, category=category)
    if meaning.pixels:
        return of_classes(path, found, meaning, notes)
    root, splits = arrange(found, path)
    entries = {key: [Labelled(e.file_name, e.path, (e.label,)) for e in part] for key, part in splits.items()}
    return draft(path, root, entries, meaning, notes, category)


def _pairs(path: Path) -> tuple[Found, list[Path], list[Path], list[Path]]:
    """Every image with its mask, images without one, masks without an image, and the folders of masks."""
    sides = [*_sides(path)]
    # one kind of masks: DRIVE's test images have a field of view alone, in mask/
    best = min((_rank(masks) for _, masks in sides), default=0)
    if not sides:
        found, bare = _one_folder(path)
        return found, bare, [], sorted({mask.parent for _, _, mask in found})
    found, bare, lost = [], [], []
    for images, masks in sides:
        if _rank(masks) != best:
            bare += find_files(images, *SUFFIXES)
            continue
        pictures = [*find_files(masks, *SUFFIXES)]
        exact: dict[str, list[Path]] = {}
        ended: dict[str, list[Path]] = {}
        for file in pictures:
            key = _key(file, masks)
            exact.setdefault(key, []).append(file)
            for end in (end for end in ENDINGS if key.endswith(end)):
                ended.setdefault(key.removesuffix(end), []).append(file)
        for image in find_files(images, *SUFFIXES):
            key = _key(image, images)
            keys = [key, *(key.removesuffix(end) for end in OWN if key.endswith(end))]
            fitting = next((named[k] for named in (exact, ended) for k in keys if k in named), [])
            if len(fitting) > 1:
                raise DataError(f"{image}: its mask could be {some(fitting)}", hint="keep one of them there")
            if fitting:
                found.append((split_of(image, path), image, fitting[0]))
            else:
                bare.append(image)
        used = {mask for _, _, mask in found}
        lost += [file for file in pictures if file not in used]
    _refuse_shared((mask, image) for _, image, mask in found)
    return found, bare, lost, [masks for _, masks in sides if _rank(masks) == best]


def _rank(masks: Path) -> int:
    """How likely a folder is, by its name, the one of masks, where there are several; 0 is the likeliest."""
    name = masks.name.lower()
    return MASKS.index(name) if name in MASKS else 0


def _refuse_shared(partners: Iterable[tuple[Path, Path]]) -> None:
    """Raise DataError where a file has two partners."""
    owner: dict[Path, Path] = {}
    for one, other in partners:
        if owner.setdefault(one, other) != other:
            raise DataError(f"{one}: could belong to {owner[one].name} and to {other.name}", hint="rename one of these")


def _sides(path: Path) -> Iterator[tuple[Path, Path]]:
    """Folders of images and of their masks, at `path` or below; nothing inside them is looked at again."""
    for folder, inner, _ in walk(path):
        by_name = {name.lower(): folder / name for name in reversed(inner)}
        images = next((by_name[name] for name in IMAGES if name in by_name), None)
        masks = next((by_name[name] for name in MASKS if name in by_name), None)
        if images is not None and masks is not None and _holds(images) and _holds(masks):
            inner.clear()
            yield images, masks
            continue
        for name in [*inner]:
            twin = next((by_name[name.lower() + end] for end in TWINS if name.lower() + end in by_name), None)
            if twin is not None and _holds(folder / name) and _holds(twin):
                inner.remove(name)
                inner.remove(twin.name)
                yield folder / name, twin


def _holds(folder: Path) -> bool:
    return next(find_files(folder, *SUFFIXES), None) is not None


def _one_folder(path: Path) -> tuple[Found, list[Path]]:
    """Images with the mask beside them, and images without one."""
    files = [*find_files(path, *SUFFIXES)]
    stems = {os.path.splitext(file)[0]: file for file in files}
    bases = {base.removesuffix(own): file for base, file in stems.items() for own in OWN if base.endswith(own)} | stems
    found: Found = []
    paired: set[Path] = set()
    for stem, mask in stems.items():
        end = next((e for e in ENDINGS if stem.endswith(e) and stem.removesuffix(e) in bases), None)
        if end is not None and bases[stem.removesuffix(end)] != mask:
            image = bases[stem.removesuffix(end)]
            found.append((split_of(image, path), image, mask))
            paired |= {image, mask}
    _refuse_shared((image, mask) for _, image, mask in found)
    return found, [file for file in files if file not in paired]


def _key(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()
