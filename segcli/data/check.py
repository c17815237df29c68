"""The doctor: everything in a prepared folder that would stop, spoil or quietly weaken training, by file and id."""

import hashlib
import heapq
import itertools
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from segcli.core.files import resolve
from segcli.core.trust import Images, images_of
from segcli.data import annotations as coco_file
from segcli.data import canonical, class_names, index, views
from segcli.data._findings import CODES, KEPT, Finding, Item, Report
from segcli.data.image import SIDEWAYS, exif_turn, read_image
from segcli.data.label_rules import label_problems, rle_of_another_size
from segcli.data.lost_classes import LostClasses
from segcli.data.near_duplicates import groups, thumbnail
from segcli.data.value_range import Range
from segcli.errors import DataError
from segcli.info import DatasetInfo
from segcli.types import IGNORE

IMBALANCE = 100  # times as many objects in the most as in the least frequent category
AHEAD = 64  # images decoded in threads at a time; of each only size, hash and thumbnail are kept
BUSIEST = 100  # fullest images of a split that are remembered


class _Facts(NamedTuple):
    """What is kept of a decoded image: (h, w), EXIF orientation, sha256 of the file, thumbnail."""

    size: tuple[int, int]
    turn: int
    content: bytes
    small: np.ndarray


def check(
    root: str | Path, *, max_objects: int = 100, notes: Sequence[str] = (), refused: Sequence[Item] = ()
) -> Report:
    """Look at every image and annotation of the canonical folder `root`, one split and a few images at a time.

    max_objects: images with more are named. notes: what its conversion left out, to be listed too; refused: images
    whose labels it could not read. Raises DataError only where `root` is no prepared folder at all.
    """
    root = Path(root)
    try:
        doctor = _examined(root, max_objects, refused, whole=False)
    except index.Changed:  # an edit that the index does not know: the files themselves hold everything
        doctor = _examined(root, max_objects, refused, whole=True)
    masks = canonical.masks_read(root)
    if said := masks.get("said"):
        doctor.note("masks_read", Item(detail=str(said)))
    if not masks.get("ignored") and (detail := doctor.maps.found()) is not None:
        doctor.note("lost_class", Item(detail=detail))
    for note in notes:
        doctor.note("left_out", Item(detail=note))
    findings = [Finding(code, doctor.counted[code], doctor.found[code]) for code in CODES if doctor.counted[code]]
    return Report(str(root), doctor.images, doctor.annotations, findings, doctor.busiest)


def _examined(root: Path, max_objects: int, refused: Sequence[Item], whole: bool) -> "_Doctor":
    info = DatasetInfo.load(root)
    doctor = _Doctor(root, info, max_objects, refused, whole)
    terminal = sys.stderr.isatty()
    with tqdm(
        total=sum(info.splits.values()),
        desc="checking",
        unit="image",
        file=sys.stderr,
        delay=2,
        mininterval=0.1 if terminal else 10,
    ) as bar:
        for split in info.splits:
            doctor.examine(split, bar)
    doctor.compare_images()
    doctor.examine_categories()
    return doctor


class _Doctor:
    """What is known so far of one folder; `found`: code -> its first places, `counted`: code -> how many there are.

    whole: annotation files are read whole, also where there is an index.
    """

    def __init__(self, root: Path, info: DatasetInfo, max_objects: int, refused: Sequence[Item], whole: bool):
        self.root, self.info, self.max_objects, self.whole = root, info, max_objects, whole
        self.place = images_of(root, info.image_root)
        self.refused = {(item.split, item.file_name): item for item in refused}
        self.images = self.annotations = 0
        self.found: dict[str, list[Item]] = defaultdict(list)
        self.counted: Counter[str] = Counter()
        self.names = dict(zip(info.source_ids, info.names, strict=True))
        self.declared = set(self.names)
        self.image_ids: dict[int, str] = {}
        self.annotation_ids: set[int] = set()
        self.files: dict[str, str] = {}
        self.contents: dict[bytes, tuple[str, str]] = {}  # sha256 -> (split, file name)
        self.thumbnails: list[tuple[str, str, np.ndarray]] = []  # (split, file name, thumbnail), one a content
        self.counts: dict[str, Counter[str]] = {}  # split -> objects, or images of a map, by category
        self.busiest: dict[str, list[tuple[int, str]]] = {}
        self.maps = LostClasses(info.names)

    def note(self, code: str, item: Item) -> None:
        self.counted[code] += 1
        if len(self.found[code]) < KEPT:
            self.found[code].append(item)

    def examine(self, split: str, bar: "tqdm[Any]") -> None:
        path = self.root / "annotations" / f"{split}.json"
        known = None if self.whole else index.load(path)
        annotations: list[dict[str, Any]] = []
        if known is not None:
            images = known.images
        else:
            try:
                images, annotations = coco_file.load(path)
            except DataError as error:
                self.note("annotation_file", Item(split, detail=str(error)))
                return
        self.images += len(images)
        usable: dict[Any, dict[str, Any]] = {}
        listed: list[dict[str, Any]] = []
        for image in images:
            problems = list(coco_file.image_problems([image]))
            for problem in problems:
                self.note("bad_image_record", Item(split, str(image.get("file_name", "")), detail=problem))
            if not problems:
                usable[image["id"]] = image
                listed.append(image)
        self._examine_images(split, listed, bar)
        self.counts[split] = Counter()
        fullest: list[tuple[int, str]] = []
        for image, own in self._grouped(usable, annotations) if known is None else known.groups():
            self.annotations += len(own)
            for annotation in own:
                self._examine_id(split, annotation, usable)
            if usable.get(_key(image.get("id"))) is image:
                self._examine_objects(split, image, own)
                full = sum(not a.get("iscrowd") for a in own), image["file_name"]
                (heapq.heappushpop if len(fullest) == BUSIEST else heapq.heappush)(fullest, full)
            else:
                self._dangle(split, own)
        self.busiest[split] = sorted(fullest, reverse=True)
        self._examine_maps(split, {k: i for k, i in usable.items() if (split, i["file_name"]) not in self.refused})

    def _grouped(
        self, usable: dict[Any, dict[str, Any]], annotations: list[dict[str, Any]]
    ) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Every usable image with its annotations, at the end those that have none."""
        by_image: dict[Any, list[dict[str, Any]]] = {key: [] for key in usable}
        dangling: list[dict[str, Any]] = []
        for annotation in annotations:
            by_image.get(_key(annotation.get("image_id")), dangling).append(annotation)
        yield from ((usable[key], own) for key, own in by_image.items())
        yield {}, dangling

    def _dangle(self, split: str, annotations: list[dict[str, Any]]) -> None:
        for annotation in annotations:
            detail = f"image id {annotation.get('image_id')!r}"
            self.note("dangling_image", Item(split, "", annotation.get("id"), detail))

    def _examine_images(self, split: str, images: list[dict[str, Any]], bar: "tqdm[Any]") -> None:
        where, given = self.root / "annotations" / f"{split}.json", self.info.value_range
        look = lambda image: _facts(self.place, image["file_name"], where, given)
        rest = iter(images)
        with ThreadPoolExecutor() as pool:
            while part := list(itertools.islice(rest, AHEAD)):
                for image, facts in zip(part, pool.map(look, part), strict=True):
                    self._examine_image(split, image, facts)
                    bar.update()

    def _examine_image(self, split: str, image: dict[str, Any], facts: "_Facts | DataError") -> None:
        name, size = image["file_name"], (image["height"], image["width"])
        if image["id"] in self.image_ids:
            detail = f"id {image['id']} is also {self.image_ids[image['id']]}"
            self.note("duplicate_image_id", Item(split, name, detail=detail))
        self.image_ids.setdefault(image["id"], name)
        if name in self.files:
            self.note("image_listed_twice", Item(split, name, detail=f"also in {self.files[name]}"))
            return  # its content is that of the other listing
        self.files[name] = split
        if isinstance(facts, DataError):
            missing = not (self.place.folder / name).is_file()
            self.note("image_missing" if missing else "image_unreadable", Item(split, name, detail=str(facts)))
            return
        if (split, name) in self.refused:
            self.note("labels_unreadable", self.refused[split, name])
        if facts.size != size:
            (h, w), (ah, aw) = facts.size, size
            code = "exif_rotated" if facts.turn in SIDEWAYS and (h, w) == (aw, ah) else "image_size"
            self.note(code, Item(split, name, detail=f"{w} x {h}, labelled as {aw} x {ah}"))
        elif facts.turn in (2, 3, 4) or (facts.turn in SIDEWAYS and size[0] == size[1]):
            self.note("exif_unsure", Item(split, name))
        other_split, other = self.contents.setdefault(facts.content, (split, name))
        if other == name:
            self.thumbnails.append((split, name, facts.small))
        else:
            code = "same_image" if other_split != split else "same_image_twice"
            self.note(code, Item(split, name, detail=f"as {other} in {other_split}"))

    def compare_images(self) -> None:
        """Pictures that look alike in different splits; files of the same content count once, as such."""
        for group in groups([small for _, _, small in self.thumbnails]):
            first_split, first, _ = self.thumbnails[group[0]]
            for i in group[1:]:
                split, name, _ = self.thumbnails[i]
                if split != first_split:
                    self.note("near_duplicate", Item(split, name, detail=f"like {first} in {first_split}"))

    def _examine_id(self, split: str, annotation: dict[str, Any], images: dict[int, dict[str, Any]]) -> None:
        key = annotation.get("id")
        if not isinstance(key, int):
            self.note("malformed", Item(split, detail=f"annotation id {key!r} is not a whole number"))
        elif key in self.annotation_ids:
            name = images.get(_key(annotation.get("image_id")), {}).get("file_name", "")
            self.note("duplicate_annotation_id", Item(split, name, key))
        else:
            self.annotation_ids.add(key)

    def _examine_objects(self, split: str, image: dict[str, Any], annotations: list[dict[str, Any]]) -> None:
        name, size = image["file_name"], (image["height"], image["width"])
        single = sum(not a.get("iscrowd") for a in annotations)
        if not annotations and self.info.num_things and (split, name) not in self.refused:
            self.note("no_objects", Item(split, name))
        if single > self.max_objects:
            self.note("many_objects", Item(split, name, detail=f"{single} objects"))
        seen: dict[Any, Any] = {}
        sizes = {image["id"]: size}
        sound = next(coco_file.annotation_problems(annotations, sizes, self.declared), None) is None
        for annotation in annotations:
            key = annotation.get("id")
            if _key(annotation.get("category_id")) not in self.names:
                detail = f"category id {annotation.get('category_id')!r}"
                self.note("dangling_category", Item(split, name, key, detail))
                continue
            self.counts[split][self.names[annotation["category_id"]]] += 1
            broken = [] if sound else list(coco_file.annotation_problems([annotation], sizes, self.declared))
            for problem in broken:
                code = "rle_size" if rle_of_another_size(annotation, size) and "RLE" in problem else "malformed"
                self.note(code, Item(split, name, key, problem))
            if broken:
                continue
            if annotation.get("iscrowd"):
                self.note("crowd", Item(split, name, key))
            for code, detail in label_problems(annotation, size):
                self.note(code, Item(split, name, key, detail))
            content = (annotation["category_id"], str(annotation.get("segmentation") or annotation.get("bbox")))
            if content in seen:
                self.note("duplicate_object", Item(split, name, key, f"as annotation {seen[content]}"))
            seen.setdefault(content, key)

    def _examine_maps(self, split: str, images: dict[int, dict[str, Any]]) -> None:
        """The stored semantic and panoptic maps, read by the reader's own rules."""
        entries: dict[int, dict[str, Any]] = {}
        if self.info.panoptic:
            path = self.root / "panoptic" / f"{split}.json"
            try:
                entries = {entry["image_id"]: entry for entry in coco_file.load(path)[1]}
            except (DataError, KeyError, TypeError) as error:
                self.note("annotation_file", Item(split, detail=f"{path}: {error}"))
        labels = {source: label for label, source in enumerate(self.info.source_ids)}
        for image in images.values():
            name, size = image["file_name"], (image["height"], image["width"])
            try:
                if self.info.semantic:
                    path = self._map("semantic", split, canonical.label_name(image))
                    values = self.maps.add(path, views.read_semantic(path, size, len(self.names)))
                    shown = [self.info.names[v] for v in values if v != IGNORE]
                    if not self.info.num_things:
                        self.counts[split].update(shown)
                    if not shown:
                        self.note("all_ignored", Item(split, name))
                if self.info.panoptic and image["id"] in entries:
                    entry = entries[image["id"]]
                    path = self._map("panoptic", split, entry["file_name"])
                    views.read_panoptic(path, entry["segments_info"], size, labels)
                elif self.info.panoptic and entries:
                    self.note("label_map", Item(split, name, detail="no entry in the panoptic json"))
            except (DataError, KeyError, TypeError) as error:
                self.note("label_map", Item(split, name, detail=str(error)))

    def _map(self, kind: str, split: str, name: Any) -> Path:
        within, trusted = self.root, self.place.trusted
        return resolve(self.root / kind / split, name, f"{kind}/{split}", within=within, trusted=trusted)

    def examine_categories(self) -> None:
        """How often each category is used: by objects; where there are maps alone, by the images that show it."""
        ids = self.info.source_ids
        if sorted(ids) != list(range(1, len(ids) + 1)):
            self.note("category_gap", Item(detail=f"{len(ids)} ids from {min(ids)} to {max(ids)}"))
        for one, other in class_names.alike(self.info.names):
            self.note("names_alike", Item(detail=f"{one!r} and {other!r}"))
        things = [c.name for c in self.info.categories if c.thing or not self.info.num_things]
        total = sum(self.counts.values(), Counter())
        for name in things:
            if not total[name]:
                self.note("unused_category", Item(detail=name))
                continue
            for split in ("train", "val"):
                if split in self.counts and not self.counts[split][name]:
                    self.note("split_lacks_category", Item(split, detail=f"{name} ({total[name]} elsewhere)"))
        used = [(total[name], name) for name in things if total[name]]
        if used and max(used)[0] >= IMBALANCE * min(used)[0]:
            (most, first), (least, last) = max(used), min(used)
            self.note("imbalance", Item(detail=f"{most} of {first}, {least} of {last}"))


def _key(value: Any) -> Any:
    """An id as a file may have it; None for what can be none, such as a list."""
    return value if isinstance(value, (int, float, str)) else None


def _facts(images: Images, name: str, where: Path, value_range: Range | None) -> "_Facts | DataError":
    try:
        path = images.path(name, where)
        pixels = read_image(path, value_range)
        content = hashlib.sha256(path.read_bytes()).digest()
    except DataError as error:
        return error
    except OSError as error:  # gone since
        return DataError(f"{path}: can't be read: {error.strerror}")
    return _Facts((pixels.shape[0], pixels.shape[1]), exif_turn(path), content, thumbnail(pixels))
