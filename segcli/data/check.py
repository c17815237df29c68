"""The doctor: everything in a prepared folder that would stop, spoil or quietly weaken training, by file and id."""

import hashlib
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from segcli.data import annotations as coco_file
from segcli.data import canonical, views
from segcli.data._findings import CODES, Finding, Item, Report
from segcli.data.image import ORIENTATION, SIDEWAYS, read_image
from segcli.errors import DataError
from segcli.info import DatasetInfo

OUTSIDE = 1.0  # pixels that a box or polygon may reach outside its image: rounding, no mistake
IMBALANCE = 100  # times as many objects in the most as in the least frequent category
SMALL = 3  # pixels that box and mask may differ by, whatever their IoU: tiny objects
LIKE = 0.5  # IoU of an annotated box with its mask's own box, at least


def check(root: str | Path, *, max_objects: int = 100, notes: Sequence[str] = ()) -> Report:
    """Look at every image and annotation of the canonical folder `root`.

    max_objects: images with more are named. notes: what its conversion left out, to be listed too. Raises
    DataError only where `root` is no prepared folder at all.
    """
    root = Path(root)
    info = DatasetInfo.load(root)
    doctor = _Doctor(root, info, max_objects)
    splits = {split: loaded for split in info.splits if (loaded := doctor.load(split)) is not None}
    total = sum(len(images) for images, _ in splits.values())
    terminal = sys.stderr.isatty()
    with tqdm(
        total=total, desc="checking", unit="image", file=sys.stderr, delay=2, mininterval=0.1 if terminal else 10
    ) as bar:
        for split, (images, annotations) in splits.items():
            doctor.examine(split, images, annotations, bar)
    doctor.examine_categories()
    doctor.found["left_out"] = [Item(detail=note) for note in notes]
    findings = [Finding(code, *CODES[code], doctor.found[code]) for code in CODES if doctor.found[code]]
    return Report(str(root), total, sum(len(annotations) for _, annotations in splits.values()), findings)


class _Doctor:
    """What is known so far of one folder; `found`: code -> places."""

    def __init__(self, root: Path, info: DatasetInfo, max_objects: int):
        self.root, self.info, self.max_objects = root, info, max_objects
        self.found: dict[str, list[Item]] = defaultdict(list)
        self.names = dict(zip(info.source_ids, info.names, strict=True))
        self.image_ids: dict[int, str] = {}
        self.annotation_ids: set[int] = set()
        self.files: dict[str, str] = {}
        self.contents: dict[str, tuple[str, str]] = {}  # sha256 -> (split, file name)
        self.counts: dict[str, Counter[str]] = {}  # split -> objects by category

    def load(self, split: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
        try:
            return coco_file.load(self.root / "annotations" / f"{split}.json")
        except DataError as error:
            self.found["annotation_file"].append(Item(split, detail=str(error)))
            return None

    def examine(
        self, split: str, images: list[dict[str, Any]], annotations: list[dict[str, Any]], bar: "tqdm[Any]"
    ) -> None:
        usable = {}
        for image in images:
            problems = list(coco_file.image_problems([image]))
            name = str(image.get("file_name", ""))
            self.found["bad_image_record"] += [Item(split, name, detail=problem) for problem in problems]
            if not problems:
                self._examine_image(split, image)
                usable[image["id"]] = image
            bar.update()
        by_image: dict[Any, list[dict[str, Any]]] = {key: [] for key in usable}
        self.counts[split] = Counter()
        for annotation in annotations:
            self._examine_id(split, annotation, usable)
            if annotation.get("image_id") in usable:
                by_image[annotation["image_id"]].append(annotation)
            else:
                detail = f"image id {annotation.get('image_id')!r}"
                self.found["dangling_image"].append(Item(split, "", annotation.get("id"), detail))
        for key, own in by_image.items():
            self._examine_objects(split, usable[key], own)
        self._examine_maps(split, usable)

    def _examine_image(self, split: str, image: dict[str, Any]) -> None:
        name, size = image["file_name"], (image["height"], image["width"])
        here = Item(split, name)
        if image["id"] in self.image_ids:
            detail = f"id {image['id']} is also {self.image_ids[image['id']]}"
            self.found["duplicate_image_id"].append(Item(split, name, detail=detail))
        self.image_ids.setdefault(image["id"], name)
        if name in self.files:
            self.found["image_listed_twice"].append(Item(split, name, detail=f"also in {self.files[name]}"))
        self.files.setdefault(name, split)
        path = self.root / (self.info.image_root or "images") / name
        if not path.is_file():
            self.found["image_missing"].append(Item(split, name, detail=str(path)))
            return
        try:
            pixels = read_image(path)
        except DataError as error:
            self.found["image_unreadable"].append(Item(split, name, detail=str(error)))
            return
        turn = _exif_turn(path)
        if pixels.shape[:2] != size:
            (h, w), (ah, aw) = pixels.shape[:2], size
            code = "exif_rotated" if turn in SIDEWAYS and (h, w) == (aw, ah) else "image_size"
            self.found[code].append(Item(split, name, detail=f"{w} x {h}, labelled as {aw} x {ah}"))
        elif turn in (2, 3, 4) or (turn in SIDEWAYS and size[0] == size[1]):
            self.found["exif_unsure"].append(here)
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        other_split, other = self.contents.setdefault(content, (split, name))
        if other_split != split and other != name:
            self.found["same_image"].append(Item(split, name, detail=f"as {other} in {other_split}"))

    def _examine_id(self, split: str, annotation: dict[str, Any], images: dict[int, dict[str, Any]]) -> None:
        key = annotation.get("id")
        if not isinstance(key, int):
            self.found["malformed"].append(Item(split, detail=f"annotation id {key!r} is not a whole number"))
        elif key in self.annotation_ids:
            name = images.get(annotation.get("image_id", -1), {}).get("file_name", "")
            self.found["duplicate_annotation_id"].append(Item(split, name, key))
        else:
            self.annotation_ids.add(key)

    def _examine_objects(self, split: str, image: dict[str, Any], annotations: list[dict[str, Any]]) -> None:
        name, size = image["file_name"], (image["height"], image["width"])
        if not annotations:
            self.found["no_objects"].append(Item(split, name))
        single = [a for a in annotations if not a.get("iscrowd")]
        if len(single) > self.max_objects:
            self.found["many_objects"].append(Item(split, name, detail=f"{len(single)} objects"))
        seen: dict[Any, Any] = {}
        for annotation in annotations:
            key = annotation.get("id")
            if annotation.get("category_id") not in self.names:
                detail = f"category id {annotation.get('category_id')!r}"
                self.found["dangling_category"].append(Item(split, name, key, detail))
                continue
            self.counts[split][self.names[annotation["category_id"]]] += 1
            broken = list(coco_file.annotation_problems([annotation], {image["id"]: size}, set(self.names)))
            self.found["malformed"] += [Item(split, name, key, problem) for problem in broken]
            if broken:
                continue
            for code, detail in _label_problems(annotation, size):
                self.found[code].append(Item(split, name, key, detail))
            content = (annotation["category_id"], str(annotation.get("segmentation") or annotation.get("bbox")))
            if content in seen:
                self.found["duplicate_object"].append(Item(split, name, key, f"as annotation {seen[content]}"))
            seen.setdefault(content, key)

    def _examine_maps(self, split: str, images: dict[int, dict[str, Any]]) -> None:
        """The stored semantic and panoptic maps, read by the reader's own rules."""
        entries: dict[int, dict[str, Any]] = {}
        if self.info.panoptic:
            path = self.root / "panoptic" / f"{split}.json"
            try:
                entries = {entry["image_id"]: entry for entry in coco_file.load(path)[1]}
            except (DataError, KeyError) as error:
                self.found["annotation_file"].append(Item(split, detail=f"{path}: {error}"))
        labels = {source: label for label, source in enumerate(self.info.source_ids)}
        for image in images.values():
            name, size = image["file_name"], (image["height"], image["width"])
            try:
                if self.info.semantic:
                    path = self.root / "semantic" / split / canonical.label_name(name)
                    views.read_semantic(path, size, len(self.names))
                if self.info.panoptic and image["id"] in entries:
                    entry = entries[image["id"]]
                    path = self.root / "panoptic" / split / entry["file_name"]
                    views.read_panoptic(path, entry["segments_info"], size, labels)
                elif self.info.panoptic and entries:
                    self.found["label_map"].append(Item(split, name, detail="no entry in the panoptic json"))
            except (DataError, KeyError) as error:
                self.found["label_map"].append(Item(split, name, detail=str(error)))

    def examine_categories(self) -> None:
        things = [c.name for c in self.info.categories if c.thing]
        total = sum(self.counts.values(), Counter())
        for name in things:
            if not total[name]:
                self.found["unused_category"].append(Item(detail=name))
                continue
            for split in ("train", "val"):
                if split in self.counts and not self.counts[split][name]:
                    self.found["split_lacks_category"].append(Item(split, detail=f"{name} ({total[name]} elsewhere)"))
        used = [(total[name], name) for name in things if total[name]]
        if used and max(used)[0] >= IMBALANCE * min(used)[0]:
            (most, first), (least, last) = max(used), min(used)
            self.found["imbalance"].append(Item(detail=f"{most} of {first}, {least} of {last}"))


def _label_problems(annotation: dict[str, Any], size: tuple[int, int]) -> list[tuple[str, str]]:
    """(code, detail) of what is doubtful in one well-formed annotation on an image of `size` (h, w)."""
    h, w = size
    out = []
    box, segmentation = annotation.get("bbox"), annotation.get("segmentation")
    if box is not None:
        x, y, bw, bh = box
        if bw == 0 or bh == 0:
            out.append(("degenerate_box", f"{box}"))
        if min(x, y) < -OUTSIDE or x + bw > w + OUTSIDE or y + bh > h + OUTSIDE:
            out.append(("box_outside", f"{box} on {w} x {h}"))
    if not segmentation:
        return [*out, ("no_mask", "")]
    if isinstance(segmentation, list):
        short = sum(len(part) < 6 for part in segmentation)
        if short:
            out.append(("short_polygon", f"{short} of {len(segmentation)} parts"))
        points = np.array([v for part in segmentation for v in part], np.float64).reshape(-1, 2)
        if len(points) and (points.min() < -OUTSIDE or (points > (w + OUTSIDE, h + OUTSIDE)).any()):
            low, high = points.min(0).tolist(), points.max(0).tolist()
            out.append(("polygon_outside", f"x {low[0]:g} to {high[0]:g}, y {low[1]:g} to {high[1]:g} on {w} x {h}"))
        holes = _parts_inside(segmentation, size)
        if holes:
            out.append(("hole", f"{holes} parts"))
    try:
        rle = coco_file.encode(segmentation, size)
    except ValueError as error:
        return [*out, ("malformed", str(error))]
    if coco_mask.area(rle) == 0:
        return [*out, ("empty_mask", "")]
    tight = coco_mask.toBbox(rle)
    if box is not None and box[2] > 0 and box[3] > 0:
        overlap = float(coco_mask.iou(tight[None], np.array([box], np.float64), [0])[0, 0])
        if overlap < LIKE and np.abs(tight - box).max() > SMALL:
            out.append(("box_mismatch", f"box {box}, mask {tight.tolist()}, IoU {overlap:.2f}"))
    return out


def _parts_inside(parts: list[list[float]], size: tuple[int, int]) -> int:
    """How many parts lie wholly in another part."""
    drawn = [part for part in parts if len(part) >= 6]
    if len(drawn) < 2:
        return 0
    rles = coco_mask.frPyObjects(drawn, *size)
    inside = np.nan_to_num(
        coco_mask.iou(rles, rles, [1] * len(rles))
    )  # crowd IoU: the intersection over the first one's area
    np.fill_diagonal(inside, 0)
    return int((inside.max(1) > 0.99).sum())


def _exif_turn(path: Path) -> int:
    try:
        with Image.open(path) as image:
            # without that block, getexif would decode a whole PNG to look behind its pixels
            return int(image.getexif().get(ORIENTATION, 1) or 1) if image.info.get("exif") else 1
    except (OSError, ValueError, SyntaxError):
        return 1  # the reader ignores a damaged EXIF block as well
