"""Where each image's annotations stand in an annotation file, so that no annotation is held in memory.

`prepare` writes annotations/SPLIT.json piece by piece and, beside it, SPLIT.index.npz: a few numbers an image and six
bytes an annotation. A file that has changed since (its length tells) or that came without an index is read whole.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from segcli.core.coco_json import Annotation, ImageEntry
from segcli.core.errors import DataError, SegcliError
from segcli.core.files import open_regular
from segcli.data import annotations as coco_file
from segcli.data.arrays import read_arrays

AGAIN = "run `segcli prepare` again"


@dataclasses.dataclass
class Index:
    """images: the COCO image records. starts [N+1]: first byte of each image's annotations in the file, then the end;
    first [N+1]: position of its first annotation among all; by annotation: category (source id), crowd, mask."""

    path: Path
    images: list[ImageEntry]
    starts: np.ndarray
    first: np.ndarray
    category: np.ndarray
    crowd: np.ndarray
    mask: np.ndarray

    def annotations(self, i: int) -> list[Annotation]:
        """The annotations of image i, read now. Raises DataError where the file has changed."""
        return read_span(self.path, int(self.starts[i]), int(self.starts[i + 1]), self.images[i]["id"])

    def groups(self) -> Iterator[tuple[ImageEntry, list[Annotation]]]:
        """(image, its annotations) one after the other. Raises DataError where the file has changed."""
        places = self.starts.tolist()
        with _opened(self.path) as file:
            for image, start, end in zip(self.images, places[:-1], places[1:], strict=True):
                yield image, _span(file, self.path, start, end, image["id"])


def read_span(path: Path, start: int, end: int, image_id: int) -> list[Annotation]:
    """The annotations that stand from byte `start` to `end`, all of one image.

    Raises DataError where the file can't be read, Changed where something else stands there.
    """
    with _opened(path) as file:
        return _span(file, path, start, end, image_id)


def _opened(path: Path) -> BinaryIO:
    try:
        return open_regular(path)
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}", hint=AGAIN) from error


def _span(file: BinaryIO, path: Path, start: int, end: int, image_id: int) -> list[Annotation]:
    try:
        file.seek(start)
        text = file.read(end - start)
        annotations: list[Annotation] = json.loads(b"[" + text.rstrip(b",") + b"]")
        if all(annotation["image_id"] == image_id for annotation in annotations):
            return annotations
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}", hint=AGAIN) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _changed(path) from error
    raise _changed(path)


class Changed(DataError):
    """The file has been edited without a change of its length."""


def _changed(path: Path) -> Changed:
    return Changed(f"{path}: has changed since it was prepared", hint=f"{AGAIN}, or remove {path.stem}.index.npz")


def load(path: Path) -> Index | None:
    """The index of the annotation file `path`; None where there is none, or it is not of this file: the length of the
    file and all counts must agree. The file itself holds everything."""
    beside = path.with_suffix(".index.npz")
    if not beside.is_file():
        return None
    try:
        parts = read_arrays(beside, ["length", *PARTS])
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if parts["length"].shape or parts["length"] != size or not _consistent(parts, size):
                return None
            head = file.read(int(parts["starts"][0]))
        images = json.loads(head + b"]}")["images"]
        if not isinstance(images, list) or len(images) != len(parts["starts"]) - 1:
            return None
        if not all(isinstance(image, dict) for image in images) or any(coco_file.image_problems(images)):
            return None
        return Index(path, images, **{name: parts[name] for name in PARTS})
    except (SegcliError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # also where the file itself is broken: whoever reads it whole says how


PARTS = {"starts": "i", "first": "i", "category": "i", "crowd": "b", "mask": "b"}  # and the kind of number of each


def _consistent(parts: dict[str, np.ndarray], size: int) -> bool:
    """Whether the arrays of an index fit one another and a file of `size` bytes."""
    if any(parts[name].ndim != 1 or parts[name].dtype.kind != kind for name, kind in PARTS.items()):
        return False
    starts, first, count = parts["starts"], parts["first"], len(parts["category"])
    if not len(starts) or len(first) != len(starts) or any(len(parts[name]) != count for name in ("crowd", "mask")):
        return False
    spans = starts[0] >= 0 and starts[-1] <= size and bool((np.diff(starts) >= 0).all())
    return bool(spans and first[0] == 0 and first[-1] == count and (np.diff(first) >= 0).all())


def walk(path: Path) -> Iterator[tuple[ImageEntry, list[Annotation]]]:
    """(image, its annotations) of a prepared annotation file, one image in memory at a time where there is an index.

    Annotations of images that are not listed are left aside. Raises DataError where the file can't be read.
    """
    if (known := load(path)) is not None:
        yield from known.groups()
        return
    images, annotations = coco_file.load(path)
    grouped: dict[str, list[Annotation]] = {}
    for annotation in annotations:
        grouped.setdefault(str(annotation.get("image_id")), []).append(annotation)
    yield from ((image, grouped.get(str(image.get("id")), [])) for image in images)


class Writer:
    """Writes one COCO file of any size: `add` image after image, then `close`. The bytes are those of json.dumps.

    indexed: also write the index. Until `close` the annotations are in a file beside `path`, which `with` closes where
    writing ends before that; a failure removes the whole folder.
    """

    def __init__(self, path: Path, *, indexed: bool):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.indexed = path, indexed
        self.part = path.with_suffix(".part")
        self.file = open(self.part, "wb")  # noqa: SIM115 (closed by `close`, or at the end of `with`)
        self.starts, self.first, self.at = [0], [0], 0
        self.category, self.crowd, self.mask = _Column(np.int32), _Column(np.bool_), _Column(np.bool_)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def add(self, annotations: Sequence[Mapping[str, object]]) -> None:
        """The annotations of the next image."""
        if annotations:
            text = json.dumps(annotations, ensure_ascii=False, separators=(",", ":"))[1:-1]
            data = (b"," if self.at else b"") + _encoded(text, self.path)
            self.file.write(data)
            self.at += len(data)
            if self.indexed:
                self.category.extend([_small(a.get("category_id")) for a in annotations])
                self.crowd.extend([bool(a.get("iscrowd")) for a in annotations])
                self.mask.extend([bool(a.get("segmentation")) for a in annotations])
        self.starts.append(self.at)
        self.first.append(self.first[-1] + len(annotations))

    def close(self, common: Mapping[str, object]) -> None:
        """Finish the file; `common` (images, categories) stands before the annotations."""
        self.file.close()
        head = json.dumps(common, ensure_ascii=False, separators=(",", ":"))[:-1] + ',"annotations":['
        encoded = _encoded(head, self.path)
        start = len(encoded)
        with open(self.path, "wb") as out, open(self.part, "rb") as file:
            out.write(encoded)
            shutil.copyfileobj(file, out, 1 << 20)
            out.write(b"]}")
        self.part.unlink()
        if self.indexed:
            starts = np.array(self.starts, np.int64) + start
            starts[1:-1] += (starts[1:-1] > start) & (starts[1:-1] < starts[-1])  # the comma between two images
            np.savez(
                self.path.with_suffix(".index.npz"),
                length=np.int64(self.path.stat().st_size),
                starts=starts,
                first=np.array(self.first, np.int64),
                category=self.category.array(),
                crowd=self.crowd.array(),
                mask=self.mask.array(),
            )


def _small(category: object) -> int:
    """A category's id, -1 for what can be none: broken annotations are written for the doctor."""
    return category if type(category) is int and 0 <= category < 2**31 else -1


def _encoded(text: str, path: Path) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:  # half of a surrogate pair
        around = text[max(0, error.start - 40) : error.start]
        raise DataError(f"{path.name}: {around}… is no valid text") from error


class _Column:
    """Numbers of one type, gathered without an object each."""

    def __init__(self, kind: type[np.int32 | np.bool_]):
        self.kind = kind
        self.done: list[np.ndarray] = []
        self.fresh: list[int] = []

    def extend(self, values: list[int]) -> None:
        self.fresh += values
        if len(self.fresh) > 1 << 16:
            self.done.append(np.array(self.fresh, self.kind))
            self.fresh = []

    def array(self) -> np.ndarray:
        return np.concatenate([*self.done, np.array(self.fresh, self.kind)])
