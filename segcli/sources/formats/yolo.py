"""YOLO text labels: `class x y w h` is a box, `class x1 y1 x2 y2 …` a polygon, in parts of the image's size.

SOURCE is the data.yaml, or a folder with one, or a folder of images with text files beside them or in folders of their
own and a list of classes (classes.txt, obj.names, _darknet.labels), as labelImg, AnyLabeling, CVAT and Darknet have it.
The yaml's `train`, `val` and `test` may be folders, images, lists of these, or text files that name images. Nothing
else in it is followed: `download` is not run. An image without a text file has no objects. With `kpt_shape` in the yaml
a row is a box with keypoints: https://docs.ultralytics.com/datasets/pose/
"""

import os
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import yaml

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import DataError
from segcli.data.annotations import encode
from segcli.data.canonical import Draft, Record
from segcli.data.image import image_size
from segcli.sources import shapes
from segcli.sources.draft import Entry, draft, each
from segcli.sources.export_files import Exported, check_names, note_rest, without_pixel
from segcli.sources.files import lines, note_names, some
from segcli.sources.formats._yolo_paths import in_folder, label_file, labelled, listed, lists_of_names, texts, unused
from segcli.sources.formats._yolo_rows import Pose, load, pose_of, refuse_keypoints
from segcli.sources.images import is_there

LOOKED = 50  # about as many label files are looked at for keypoints
PIXELS = 2.0  # a coordinate above it was not divided by the image's size


def detect(path: Path) -> bool:
    """Whether `path` is a data.yaml, or a folder with one or with text labels."""
    if path.is_file():
        return path.suffix.lower() in (".yaml", ".yml") and _describes(path)
    if not path.is_dir() or _yamls(path):
        return path.is_dir()
    return not any(inner.is_dir() and _yamls(inner) for inner in path.iterdir()) and labelled(path)


def build(*, path: Path, classes: list[str] | None = None, trusted: bool = False) -> Draft:
    """Read the images and text labels of `path`. classes: names from 0; None: from data.yaml or classes.txt. trusted:
    the paths in the yaml and in lists may lead anywhere.

    Raises DataError for a broken yaml, missing folders, and classes without a name.
    """
    path = Path(os.path.normpath(path))  # as images of lists are
    notes: list[str] = []
    described = [path] if path.is_file() else _yamls(path)
    if len(described) > 1:
        raise DataError(f"{path}: {some(described)} all describe a dataset", hint="give one as SOURCE")
    content = load(described[0]) if described else {}
    base = described[0].parent if described else path
    images = listed(described[0], content, notes, trusted) if described else []
    images = images or in_folder(base, notes, trusted)
    places = {} if described else texts(base, [image for _, image in images])
    found = [(split, image, places.get(image) or label_file(image, base)) for split, image in images]
    bare = [image.name for _, image, text in found if not is_there(text)]
    note_names(notes, bare, "images have no label file and count as images without objects")
    labels = {text for _, _, text in found}
    lists = lists_of_names(base, sorted(labels))
    names = dict(enumerate(classes)) if classes is not None else _names(content, base, described, lists)
    pose = pose_of(content, described[0]) if described else None
    if pose is None:
        looked = [text for _, _, text in found[:: max(1, len(found) // LOOKED)] if is_there(text)]
        refuse_keypoints((text, line.split()) for text in looked for line in lines(text) if line)
    elif not pose.named:
        notes.append(f"{described[0].name}: has no kpt_names: keypoints are called by their numbers")
    lost = unused(base, labels, apart=not described)
    note_names(notes, [file.name for file in lost], "label files belong to no image and are left aside")
    if content.get("download"):
        notes.append(f"{described[0].name}: download is not followed")
    read = partial(_record, classes=names.keys(), pose=pose)
    categories = [pose.category(name, key) if pose else Category(name, key) for key, name in names.items()]
    return draft(path, found, categories, lambda entries: each(entries, read), notes)


def export(image: Exported, names: dict[int, str], out: Path) -> None:
    """Write one image and its label file: boxes as they are, all else as polygons along the mask's pixels."""
    (h, w), index = image.size, {key: i for i, key in enumerate(names)}
    rows = []
    for annotation in image.annotations:
        values = _row(image, annotation) / (w, h)
        rows.append(" ".join([str(index[annotation["category_id"]]), *(f"{v:.9g}" for v in values.ravel())]))
    file = image.copy(out / "images" / image.split, without="images")  # the last images/ of a path becomes labels/
    text = out / "labels" / file.relative_to(out / "images").with_suffix(".txt")
    text.parent.mkdir(parents=True, exist_ok=True)
    image.claim(text).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def left_out(annotation: Annotation, size: tuple[int, int]) -> str | None:
    """Why the format has no place for an annotation; None where it has."""
    return "crowd regions" if annotation.get("iscrowd") else without_pixel(annotation, size)


def finish(root: Path, out: Path, info: DatasetInfo, notes: list[str]) -> None:
    """Write data.yaml."""
    content = {**{split: f"images/{split}" for split in info.splits}, "names": dict(enumerate(info.names))}
    # YAML folds some line ends that it is not told to escape
    broken = any(len(name.splitlines()) > 1 for name in info.names)
    text = yaml.safe_dump(content, allow_unicode=not broken, sort_keys=False)
    file = out / "data.yaml"
    file.write_text(text, encoding="utf-8")
    check_names(file, info.names, [*_names(load(file), out, [file]).values()])
    note_rest(info, notes)


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


def _names(
    content: Mapping[str, object], base: Path, described: list[Path], lists: Sequence[Path] = ()
) -> dict[int, str]:
    """Class number -> name."""
    names = content.get("names")
    if not described:
        if not lists:
            hint = "write classes.txt: a name a line"
            if others := sorted([*base.glob("*.yaml"), *base.glob("*.yml")]):
                raise DataError(f"{some(others)}: names no classes, with names: and train:", hint=hint)
            raise DataError(f"{base}: what the classes are called is not said", hint=hint)
        read = {file: [line for line in lines(file) if line] for file in lists}
        names = read[lists[0]]
        if other := next((file for file, listed in read.items() if listed != names), None):
            raise DataError(f"{lists[0]} and {other} name different classes", hint="keep one of them")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise DataError(f"{described[0] if described else base}: names must be a list, or numbers with names")
    for key, name in names.items():
        if type(key) is not int or key < 0 or not isinstance(name, (str, int)) or not str(name).strip():
            raise DataError(f"{described[0] if described else base}: names: {key!r:.40}: {name!r:.40} is no class")
    return {key: str(names[key]).strip() for key in sorted(names)}


def _record(entry: Entry[Path], classes: Collection[int], pose: Pose | None) -> Record:
    size = image_size(entry.path)
    annotations = []
    for number, line in enumerate(lines(entry.label) if is_there(entry.label) else [], 1):
        if line:
            annotations.append(_annotation(line.split(), size, classes, pose, f"{entry.label}, line {number}"))
    return Record(entry.file_name, size, entry.path, annotations)


def _annotation(
    words: list[str], size: tuple[int, int], classes: Collection[int], pose: Pose | None, where: str
) -> Annotation:
    try:
        values = np.array(words, np.float64)
    except ValueError:
        raise DataError(f"{where}: {' '.join(words)[:60]!r} is not a row of numbers") from None
    keypoints = pose.read(values[5:], size, where) if pose else []
    values = values[:5] if pose else values
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise DataError(f"{where}: {len(values)} numbers are neither a box (5) nor a polygon (an odd number from 7 on)")
    if not np.isfinite(values).all() or values[0] not in classes:
        raise DataError(f"{where}: class {words[0][:40]} is not among the names, or a number is not finite")
    points = values[1:].reshape(-1, 2)
    if np.abs(points).max() > PIXELS:
        raise DataError(f"{where}: {np.abs(points).max():g} is not a part of the image's size (0 to 1)")
    # half pixels, say, are exact again: where a border runs through the middles of pixels, the least error counts
    points = (points * (size[1], size[0])).round(4)
    if len(points) > 2:
        return shapes.of_polygons([points.ravel().tolist()], size, int(values[0]))
    (cx, cy), (w, h) = points.tolist()
    if min(w, h) < 0:
        raise DataError(f"{where}: the box has a negative size")
    out = shapes.of_box(cx - w / 2, cy - h / 2, w, h, int(values[0]))
    if pose:
        out |= {"keypoints": keypoints, "num_keypoints": sum(v > 0 for v in keypoints[2::3])}
    return out
