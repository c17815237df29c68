"""YOLO text labels: `class x y w h` is a box, `class x1 y1 x2 y2 …` a polygon, in parts of the image's size.

SOURCE is the data.yaml, or a folder with one, or a folder with `images/` and `labels/` and a `classes.txt`. The yaml's
`train`, `val` and `test` may be folders, lists of folders, or text files that name images. Nothing else in it is
followed: `download` is not run. An image without a text file has no objects. Labels with keypoints are not read.
"""

import codecs
import itertools
import os
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from pycocotools import mask as coco_mask

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError
from segcli.core.files import TRUST, inside, is_below, open_regular
from segcli.data.annotations import encode
from segcli.data.canonical import UNDECIDED, Draft, Record
from segcli.data.image import SUFFIXES, image_size
from segcli.sources import shapes
from segcli.sources.draft import Entry, draft, each
from segcli.sources.export_files import Exported, check_names
from segcli.sources.files import LOOK, empty_split, find_files, lines, note_names, some, split_of
from segcli.sources.folders import SPLITS
from segcli.sources.formats._yolo_rows import load, refuse_keypoints
from segcli.sources.images import by_last_parts, is_folder, is_there

NAMES = ("classes.txt", "obj.names", "labels/classes.txt")  # beside folders without a data.yaml
LOOKED = 50  # about as many label files are looked at for keypoints
PIXELS = 2.0  # a coordinate above it was not divided by the image's size


def detect(path: Path) -> bool:
    """Whether `path` is a data.yaml, or a folder with one or with text labels."""
    if path.is_file():
        return path.suffix.lower() in (".yaml", ".yml") and _describes(path)
    return bool(_yamls(path)) or _labelled(path)


def build(*, path: Path, classes: list[str] | None = None, trusted: bool = False) -> Draft:
    """Read the images and text labels of `path`. classes: names from 0; None: from data.yaml or classes.txt. trusted:
    the paths in the yaml and in lists may lead anywhere.

    Raises DataError for a broken yaml, missing folders, and classes without a name.
    """
    notes: list[str] = []
    described = [path] if path.is_file() else _yamls(path)
    if len(described) > 1:
        raise DataError(f"{path}: {some(described)} all describe a dataset", hint="give one as SOURCE")
    content = load(described[0]) if described else {}
    base = described[0].parent if described else path
    names = dict(enumerate(classes)) if classes is not None else _names(content, base, described)
    images = _listed(described[0], content, notes, trusted) if described else []
    if not images:
        pictures = (file for file in find_files(base, *SUFFIXES) if "images" in _parts(file, base))
        images = [(split_of(file, base), file) for file in pictures]
    found, bare, seen = [], [], set()
    for split, image in images:
        text = _label_file(image, base)
        seen.add(text)
        if not is_there(text):
            bare.append(image.name)
        found.append((split, image, text))
    looked = [text for _, _, text in found[:: max(1, len(found) // LOOKED)] if is_there(text)]
    refuse_keypoints((text, line.split()) for text in looked for line in lines(text) if line)
    note_names(notes, bare, "images have no label file and count as images without objects")
    texts = (f for f in find_files(base, ".txt") if "labels" in _parts(f, base) and f.name != NAMES[0])
    lost = [f for f in texts if f not in seen]
    note_names(notes, [file.name for file in lost], "label files belong to no image and are left aside")
    if content.get("download"):
        notes.append(f"{described[0].name}: download is not followed")
    read = partial(_record, classes=names.keys())
    categories = [Category(name, key) for key, name in names.items()]
    return draft(path, found, categories, lambda entries: each(entries, read), notes)


def export(image: Exported, names: dict[int, str], out: Path) -> None:
    """Write one image and its label file: boxes as they are, all else as polygons along the mask's pixels."""
    (h, w), index = image.size, {key: i for i, key in enumerate(names)}
    rows = []
    for annotation in image.annotations:
        values = _row(image, annotation) / (w, h)
        rows.append(" ".join([str(index[annotation["category_id"]]), *(f"{v:.7g}" for v in values.ravel())]))
    file = image.copy(out / "images" / image.split, without="images")  # the last images/ of a path becomes labels/
    text = out / "labels" / file.relative_to(out / "images").with_suffix(".txt")
    text.parent.mkdir(parents=True, exist_ok=True)
    image.claim(text).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def left_out(annotation: Annotation, size: tuple[int, int]) -> str | None:
    """Why the format has no place for an annotation; None where it has."""
    if annotation.get("iscrowd"):
        return "crowd regions"
    segmentation = annotation.get("segmentation")
    return "masks without a pixel" if segmentation and not coco_mask.area(encode(segmentation, size)) else None


def finish(root: Path, out: Path, info: DatasetInfo, notes: list[str]) -> None:
    """Write data.yaml."""
    content = {**{split: f"images/{split}" for split in info.splits}, "names": dict(enumerate(info.names))}
    # YAML folds some line ends that it is not told to escape
    broken = any(len(name.splitlines()) > 1 for name in info.names)
    text = yaml.safe_dump(content, allow_unicode=not broken, sort_keys=False)
    file = out / "data.yaml"
    file.write_text(text, encoding="utf-8")
    check_names(file, info.names, [*_names(load(file), out, [file]).values()])
    if info.semantic or info.panoptic:
        notes.append("semantic and panoptic maps have no place in this format")


def _row(image: Exported, annotation: Annotation) -> np.ndarray:
    """[N,2] in pixels: the corners of an outline, or the centre and the size of a box."""
    segmentation = annotation.get("segmentation")
    if not segmentation:
        x, y, bw, bh = annotation["bbox"]
        return np.array([[x + bw / 2, y + bh / 2], [bw, bh]])
    if isinstance(segmentation, list) and len(segmentation) == 1 and len(segmentation[0]) >= 6:
        points = np.reshape(segmentation[0], (-1, 2))
        if points.min() >= 0 and (points <= (image.size[1], image.size[0])).all():
            return points
    x, y, mask = image.crop(encode(segmentation, image.size))
    return shapes.one_polygon(mask) + np.array([x, y])


def _yamls(path: Path) -> list[Path]:
    return [p for p in (*sorted(path.glob("*.yaml")), *sorted(path.glob("*.yml"))) if _describes(p)]


def _describes(file: Path) -> bool:
    if not file.is_file() or file.stat().st_size >= 10_000_000:
        return False
    try:
        text = file.read_bytes()[:100_000]
    except OSError:
        return True  # `load` says why it can't be read
    return b"names" in text and any(f"{word}:".encode() in text for word in ("train", "val"))


def _labelled(path: Path) -> bool:
    """Text labels in labels/, and images/ beside them or in folders of splits."""
    files = (file for file in find_files(path, ".txt") if "labels" in _parts(file, path))
    if not any(map(_label_like, itertools.islice(files, LOOK))):
        return False
    return any((folder / "images").is_dir() for folder in (path, *path.iterdir()))


def _label_like(file: Path) -> bool:
    if not file.is_file():
        return False
    with open_regular(file) as stream:
        first = stream.read(200).removeprefix(codecs.BOM_UTF8).split(b"\n")[0].split()
    return len(first) >= 5 and first[0].isdigit()


def _parts(file: Path, base: Path) -> tuple[str, ...]:
    return file.relative_to(base).parts[:-1] if file.is_relative_to(base) else file.parts[:-1]


def _names(content: Mapping[str, object], base: Path, described: list[Path]) -> dict[int, str]:
    """Class number -> name."""
    names = content.get("names")
    if not described:
        file = next((base / name for name in NAMES if (base / name).is_file()), None)
        if file is None:
            hint = "write classes.txt: a name a line"
            if others := sorted([*base.glob("*.yaml"), *base.glob("*.yml")]):
                raise DataError(f"{some(others)}: names no classes, with names: and train:", hint=hint)
            raise DataError(f"{base}: what the classes are called is not said", hint=hint)
        names = [line for line in lines(file) if line]
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise DataError(f"{described[0] if described else base}: names must be a list, or numbers with names")
    for key, name in names.items():
        if type(key) is not int or key < 0 or not isinstance(name, (str, int)) or not str(name).strip():
            raise DataError(f"{described[0] if described else base}: names: {key!r:.40}: {name!r:.40} is no class")
    return {key: str(names[key]).strip() for key in sorted(names)}


def _listed(file: Path, content: Mapping[str, object], notes: list[str], trusted: bool) -> list[tuple[str, Path]]:
    """(split, image) of everything that train, val and test of a data.yaml name. Splits of the same images are none."""
    by_split: dict[str, list[Path]] = {}
    empty: list[tuple[str, str]] = []
    for word in ("train", "val", "valid", "test"):
        given = content.get(word)
        for value in given if isinstance(given, list) else [given] if given is not None else []:
            if not isinstance(value, str) or not value.strip("./\\ "):
                raise DataError(f"{file}: {word}: {value!r:.60} is not a path")
            place = _place(file, content.get("path"), value, trusted)
            if place is None:  # many a yaml promises a part that was never published, or whose share was 0 %
                outside = not is_below(value) and os.path.exists(file.parent / value)
                if isinstance(given, list) or (outside and word != "test"):
                    hint = TRUST if not is_below(value) else "paths are relative to the yaml's folder"
                    raise DataError(f"{file}: {word}: there is no {value}", hint=hint)
                aside = f" below {file.parent} ({TRUST})" if outside else ""
                empty.append((SPLITS[word], f"{word}: there is no {value}{aside}"))
                continue
            found = _images_in(file, place, trusted)
            if not found:
                empty.append((SPLITS[word], f"{word}: {place} holds no image"))
            by_split.setdefault(SPLITS[word], []).extend(found)
    if empty and not any(by_split.values()):
        raise DataError(f"{file}: {empty[0][1]}", hint="paths are relative to the yaml's folder")
    for split, problem in empty:
        notes.append(f"{file.name}: {problem}" + ("" if by_split.get(split) else f": {empty_split(split)}"))
    by_split = {split: images for split, images in by_split.items() if images}
    train = sorted(by_split.get("train", []))
    same = [split for split, images in by_split.items() if split != "train" and sorted(images) == train]
    for split in same:
        notes.append(f"{file.name}: {split} names the same images as train: they are divided anew")
        del by_split[split]
    return [(UNDECIDED if same and s == "train" else s, image) for s, images in by_split.items() for image in images]


def _place(file: Path, base: object, value: str, trusted: bool) -> Path | None:
    """Where a path of the yaml is: from its own base, from its folder, or (as some exports have it) without `../`. In
    that folder, unless `trusted`: of an absolute path the last parts count."""
    value, root = value.replace("\\", "/"), file.parent
    bases = [root / base] if isinstance(base, str) else []
    places = [*(b / value for b in (*bases, root)), root / value.removeprefix("../")]
    places += [root / Path(value).name / "images", root / "images" / Path(value).name]
    if not trusted:
        top = os.path.abspath(root)
        places = [p for p in places if Path(os.path.abspath(p)).is_relative_to(top)]
        places = [p for p in (*places, *by_last_parts(value, [root])) if inside(p, root)]
    return next((p for p in places if "\0" not in str(p) and (is_there(p) or is_folder(p))), None)


def _images_in(file: Path, place: Path, trusted: bool) -> list[Path]:
    if place.is_dir():
        return list(find_files(place, *SUFFIXES))
    named, folders = [line for line in lines(place) if line], (place.parent, file.parent)

    def places(name: str) -> Iterator[Path]:
        """Where a listed image may be: what is absolute or climbs out of the yaml's folder, by its last parts."""
        for folder in folders:
            path = Path(os.path.normpath(folder / name))
            if trusted or Path(os.path.abspath(path)).is_relative_to(os.path.abspath(file.parent)):
                yield path
        if not is_below(name):
            yield from by_last_parts(name, folders)

    found = [next((p for p in places(n) if is_there(p)), None) for n in named]
    lost = [name for name, path in zip(named, found, strict=True) if path is None]
    if lost:
        hint = None if all(map(is_below, lost)) else TRUST
        raise DataError(f"{place}: {len(lost)} of its images are not there: {some(lost)}", hint=hint)
    return [path for path in found if path is not None]


def _label_file(image: Path, base: Path) -> Path:
    """images/…/a.jpg -> labels/…/a.txt, below `base`; else beside the image, or above `base`, where it is there."""
    parts, first = image.parts, len(base.parts) if image.is_relative_to(base) else 0
    found = [i for i in range(len(parts) - 2, -1, -1) if parts[i] == "images"]
    swapped = {i: Path(*parts[:i], "labels", *parts[i + 1 :]).with_suffix(".txt") for i in found}
    below = [place for i, place in swapped.items() if i >= first]
    places = [*below, image.with_suffix(".txt"), *(place for i, place in swapped.items() if i < first)]
    return next((place for place in places if is_there(place)), places[0])


def _record(entry: Entry[Path], classes: Collection[int]) -> Record:
    size = image_size(entry.path)
    annotations = []
    for number, line in enumerate(lines(entry.label) if is_there(entry.label) else [], 1):
        if line:
            annotations.append(_annotation(line.split(), size, classes, f"{entry.label}, line {number}"))
    return Record(entry.file_name, size, entry.path, annotations)


def _annotation(words: list[str], size: tuple[int, int], classes: Collection[int], where: str) -> Annotation:
    try:
        values = np.array(words, np.float64)
    except ValueError:
        raise DataError(f"{where}: {' '.join(words)[:60]!r} is not a row of numbers") from None
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise DataError(f"{where}: {len(values)} numbers are neither a box (5) nor a polygon (an odd number from 7 on)")
    if not np.isfinite(values).all() or values[0] not in classes:
        raise DataError(f"{where}: class {words[0][:40]} is not among the names, or a number is not finite")
    points = values[1:].reshape(-1, 2)
    if np.abs(points).max() > PIXELS:
        raise DataError(f"{where}: {np.abs(points).max():g} is not a part of the image's size (0 to 1)")
    points = points * (size[1], size[0])
    if len(points) > 2:
        return shapes.of_polygons([points.ravel().tolist()], size, int(values[0]))
    (cx, cy), (w, h) = points.tolist()
    if min(w, h) < 0:
        raise DataError(f"{where}: the box has a negative size")
    return shapes.of_box(cx - w / 2, cy - h / 2, w, h, int(values[0]))
