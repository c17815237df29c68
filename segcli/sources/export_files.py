"""From a canonical folder out again: image by image, into a folder that appears whole or not at all."""

import dataclasses
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
from pycocotools import mask as coco_mask

from segcli.core import folders
from segcli.core.building import building
from segcli.core.coco_json import Annotation, ImageEntry
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, SegcliError, UsageError
from segcli.core.files import why_not_written
from segcli.core.trust import images_of
from segcli.data import annotations as coco_file
from segcli.data.annotations import encode
from segcli.data.image import SUFFIXES
from segcli.sources.files import some
from segcli.types import Rle


@dataclasses.dataclass
class Exported:
    """One image of a canonical folder on its way out. `record`: its COCO image; annotations: as they are there."""

    split: str
    record: ImageEntry
    path: Path
    annotations: list[Annotation]
    used: dict[Path, str]  # files written so far, and for which image

    @property
    def size(self) -> tuple[int, int]:
        return self.record["height"], self.record["width"]

    def copy(self, folder: Path, without: str = "") -> Path:
        """Copy the image below `folder`, subfolders and all but those called `without`, and return where it is now."""
        parts = Path(self.record["file_name"]).parts
        if any(part.startswith(".") for part in parts) or Path(parts[-1]).suffix.lower() not in SUFFIXES:
            raise DataError(
                f"{self.record['file_name']!r:.200}: would not be found again as an image",
                hint="its name, or a folder's, is hidden or without an image's suffix: rename it",
            )
        target = self.claim(folder.joinpath(*(p for p in parts[:-1] if p != without), parts[-1]))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.path, target)
        return target

    def claim(self, file: Path) -> Path:
        """`file` itself. Raises DataError where another image has written it: a.jpg and a.png share a.txt."""
        other = self.used.setdefault(file, self.record["file_name"])
        if other != self.record["file_name"]:
            raise DataError(f"{other} and {self.record['file_name']} would share {file.name}", hint="rename one")
        return file

    def crop(self, rle: Rle) -> tuple[int, int, np.ndarray]:
        """(x, y, mask) of what an RLE covers; one pixel of nothing where it is empty."""
        x, y, w, h = (int(v) for v in coco_mask.toBbox(rle))
        return x, y, coco_mask.decode(rle)[y : y + max(h, 1), x : x + max(w, 1)].astype(bool)


def export(root: Path, out: Path, module: ModuleType, *, force: bool = False) -> list[str]:
    """Write the canonical folder `root` to `out` in the format of a converter module, and return notes on what that
    format has no place for.

    The module defines `export(image, names, out)` for an image and `finish(root, out, info, notes)` for what stands
    once; where it has no place for some annotations, also `left_out(annotation, size)`, which says why, or None.
    Raises DataError for broken annotations, missing images, an `out` that is there, or a `root` of label maps alone.
    """
    info = DatasetInfo.load(root)
    refuse(out, force=force)
    if not folders.is_empty(out) and root.resolve().is_relative_to(folders.real(out)):
        raise UsageError(f"--out {out}: holds the source {root}", hint="choose another --out")
    return publish(out, lambda folder, notes: _write(root, folder, info, module, notes))


def refuse(out: Path, *, force: bool) -> None:
    """Raise DataError where `out` is there, unless it was exported (`force`) and nothing in it was changed since."""
    if not folders.is_empty(out):
        if not (force and (out / MARK).is_file()):
            hint = "choose another --out" + (", or replace it with --force" if (out / MARK).is_file() else "")
            raise DataError(f"{out}: exists", hint=hint)
        folders.refuse_foreign(out)


def publish(out: Path, write: Callable[[Path, list[str]], None]) -> list[str]:
    """`write(folder, notes)` a folder that then takes the name `out`, and return its notes. Raises SegcliError."""
    notes: list[str] = []
    try:
        with building(out) as folder:
            write(folder, notes)
            (folder / MARK).write_text("".join(f"{note}\n" for note in notes), encoding="utf-8")
            folders.list_files(folder)
            if left := folders.publish(folder, out):
                print(f"note: what came into {out} meanwhile is kept in {left}", file=sys.stderr)
    except OSError as error:
        place = out if error.filename2 else error.filename or out  # a copy names its source first
        raise SegcliError(f"{place}: can't be written: {error.strerror}", hint=why_not_written(error)) from error
    return notes


def write_images(
    images: Iterable[Exported],
    names: dict[int, str],
    out: Path,
    module: ModuleType,
    left: dict[str, list[int | None]],
    file: Path,
) -> int:
    """Write every image with what the format has a place for; the ids of the rest go to `left`, by reason. -> how many
    objects went out. names: source id -> class; file: where the labels come from, for messages. Raises DataError."""
    total = 0
    for image in images:
        kept: list[Annotation] = []
        for annotation in image.annotations:
            leave = getattr(module, "left_out", None)
            reason = leave(annotation, image.size) if leave is not None else None
            if reason is None:
                kept.append(annotation)
            else:
                left.setdefault(reason, []).append(annotation.get("id"))
        total += len(kept)
        if not os.path.isfile(image.path):
            raise DataError(f"{image.path}: the image file is missing")
        try:
            module.export(dataclasses.replace(image, annotations=kept), names, out)
        except ValueError as error:
            if isinstance(error, SegcliError):
                raise
            raise DataError(f"{file}: {image.record['file_name']}: {error}") from error
    return total


def said(left: Mapping[str, Sequence[int | None]]) -> list[str]:
    """A note for each reason why annotations were left out."""
    return [f"{reason}: {len(ids)} left out (annotations {some(ids)})" for reason, ids in left.items()]


def without_pixel(annotation: Annotation, size: tuple[int, int]) -> str | None:
    """`left_out` of formats that have no place for a mask that covers nothing of an image of `size` (H, W)."""
    segmentation = annotation.get("segmentation")
    return "masks without a pixel" if segmentation and not coco_mask.area(encode(segmentation, size)) else None


def note_rest(info: DatasetInfo, notes: list[str]) -> None:
    """Note what formats of boxes and outlines have no place for."""
    maps = ["semantic and panoptic maps"] if info.semantic or info.panoptic else []
    if rest := [*info.fields, *maps]:
        notes.append(f"{', '.join(rest)} have no place in this format")


def check_names(file: Path, names: Sequence[str], back: Sequence[str]) -> None:
    """Raise DataError for the first class that the file, read `back`, does not call as it is called: a name with a line
    end in a list of lines, say."""
    for number, name in enumerate(names):
        if number >= len(back) or back[number] != name:
            raise DataError(
                f"{file.name}: the class {name!r:.200} can't be written so that it is read again",
                hint="rename it: line ends and names with a meaning of their own have no place there",
            )
    if len(back) != len(names):
        raise DataError(f"{file.name}: {len(back)} classes would be read again, not {len(names)}")


MARK = "exported_by_segcli.txt"  # notes; what has it may be replaced with --force


def _write(root: Path, out: Path, info: DatasetInfo, module: ModuleType, notes: list[str]) -> None:
    names = dict(zip(info.source_ids, info.names, strict=True))
    place = images_of(root, info.image_root)
    used: dict[Path, str] = {}
    total, left = 0, dict[str, list[int | None]]()
    for split in info.splits:
        file = root / "annotations" / f"{split}.json"
        images, listed = coco_file.load(file)
        problem = next(coco_file.image_problems(images), None)
        sizes = {} if problem else {i["id"]: (i.get("height"), i.get("width")) for i in images}
        problem = problem or next(coco_file.annotation_problems(listed, sizes, set(names)), None)  # type: ignore[arg-type]
        if problem:
            raise DataError(f"{file}: {problem}", hint=f"segcli prepare {root} --check lists all")
        grouped: dict[int, list[Annotation]] = {image["id"]: [] for image in images}
        for annotation in listed:
            grouped[annotation["image_id"]].append(annotation)
        made = (Exported(split, i, place.path(i["file_name"], file), grouped[i["id"]], used) for i in images)
        total += write_images(made, names, out, module, left, file)
    notes += said(left)
    if not total and info.num_things == 0:
        raise DataError(f"{root}: holds label maps and no objects", hint="no format that is written here takes them")
    module.finish(root, out, info, notes)
