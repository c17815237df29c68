"""The doctor: everything in a prepared folder that would stop, spoil or quietly weaken training, by file and id."""

import heapq
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from segcli.core.coco_json import Annotation, ImageEntry
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError
from segcli.core.trust import images_of
from segcli.data import annotations as coco_file
from segcli.data import canonical, index
from segcli.data.canonical import UNDECIDED
from segcli.data.findings import CODES, KEPT, Finding, Item, Report
from segcli.data.label_rules import Measured, measure, rle_of_another_size
from segcli.doctor.rules.classes import Classes
from segcli.doctor.rules.images import Images
from segcli.doctor.rules.lost_classes import LostClasses
from segcli.doctor.rules.maps import check_maps
from segcli.doctor.rules.shapes import same_shapes, shape_problems
from segcli.sources.coordinates import Coordinates

Key = int | float | str | None  # an image id as a file may have it
BUSIEST = 100  # fullest images of a split that are remembered


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
    masks = canonical.prepared(root).get("masks", {})
    if sentence := masks.get("said"):
        doctor.note("masks_read", Item(detail=sentence))
    if not masks.get("ignored") and (detail := doctor.maps.summary()) is not None:
        doctor.note("lost_class", Item(detail=detail))
    for note in notes:
        doctor.note("left_out", Item(detail=note))
    findings = [Finding(code, doctor.counted[code], doctor.items[code]) for code in CODES if doctor.counted[code]]
    return Report(str(root), doctor.listed, doctor.annotations, findings, doctor.busiest)


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
    doctor.images.compare()
    doctor.classes.report()
    doctor.written()
    doctor.trainable()
    return doctor


class _Doctor:
    """What is known so far of one folder; `items`: code -> its first places, `counted`: code -> how many there are.

    whole: annotation files are read whole, also where there is an index.
    """

    def __init__(self, root: Path, info: DatasetInfo, max_objects: int, refused: Sequence[Item], whole: bool):
        self.root, self.info, self.max_objects, self.whole = root, info, max_objects, whole
        self.refused = {(item.split, item.file_name): item for item in refused}
        self.listed = self.annotations = 0
        self.items: dict[str, list[Item]] = defaultdict(list)
        self.counted: Counter[str] = Counter()
        self.names = dict(zip(info.source_ids, info.names, strict=True))
        self.declared = set(self.names)
        self.annotation_ids: set[int] = set()
        self.images = Images(images_of(root, info.image_root), info.value_range, self.note)
        self.classes = Classes(info, self.note)
        self.maps = LostClasses(info.names)
        self.busiest: dict[str, list[tuple[int, str]]] = {}
        self.coordinates: dict[str, Coordinates] = {}

    def note(self, code: str, item: Item) -> None:
        self.counted[code] += 1
        if len(self.items[code]) < KEPT:
            self.items[code].append(item)

    def examine(self, split: str, bar: "tqdm[NoReturn]") -> None:
        path = self.root / "annotations" / f"{split}.json"
        known = None if self.whole else index.load(path)
        annotations: list[Annotation] = []
        if known is not None:
            images = known.images
        else:
            try:
                images, annotations = coco_file.load(path)
            except DataError as error:
                self.note("annotation_file", Item(split, detail=str(error)))
                return
        self.coordinates[split] = Coordinates()
        self.listed += len(images)
        usable: dict[Key, ImageEntry] = {}
        listed: list[ImageEntry] = []
        for image in images:
            problems = list(coco_file.image_problems([image]))
            for problem in problems:
                self.note("bad_image_record", Item(split, str(image.get("file_name", "")), detail=problem))
            if not problems:
                usable[image["id"]] = image
                listed.append(image)
        for image, read in self.images.examine(split, listed, path):
            refused = self.refused.get((split, image["file_name"]))
            if refused is not None and read:
                self.note("labels_unreadable", refused)
            bar.update()
        shows = self.classes.singles[split]
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
        readable = (image for image in usable.values() if (split, image["file_name"]) not in self.refused)
        check_maps(
            self.root, self.info, split, readable, self.note, shows, self.maps, trusted=self.images.place.trusted
        )

    def _grouped(
        self, usable: dict[Key, ImageEntry], annotations: list[Annotation]
    ) -> Iterator[tuple[ImageEntry, list[Annotation]]]:
        """Every usable image with its annotations, at the end those that have none."""
        by_image: dict[Key, list[Annotation]] = {key: [] for key in usable}
        dangling: list[Annotation] = []
        for annotation in annotations:
            by_image.get(_key(annotation.get("image_id")), dangling).append(annotation)
        yield from ((usable[key], own) for key, own in by_image.items())
        yield {}, dangling

    def _dangle(self, split: str, annotations: list[Annotation]) -> None:
        for annotation in annotations:
            detail = f"image id {annotation.get('image_id')!r}"
            self.note("dangling_image", Item(split, "", annotation.get("id"), detail))

    def _examine_id(self, split: str, annotation: Annotation, images: Mapping[Key, ImageEntry]) -> None:
        key = annotation.get("id")
        if not isinstance(key, int):
            self.note("malformed", Item(split, detail=f"annotation id {key!r} is not a whole number"))
        elif key in self.annotation_ids:
            name = images.get(_key(annotation.get("image_id")), {}).get("file_name", "")
            self.note("duplicate_annotation_id", Item(split, name, key))
        else:
            self.annotation_ids.add(key)

    def _examine_objects(self, split: str, image: ImageEntry, annotations: list[Annotation]) -> None:
        name, size = image["file_name"], (image["height"], image["width"])
        single = sum(not a.get("iscrowd") for a in annotations)
        if not annotations and self.info.num_things and (split, name) not in self.refused:
            self.note("no_objects", Item(split, name))
        if single > self.max_objects:
            self.note("many_objects", Item(split, name, detail=f"{single} objects"))
        self.classes.image(split, name)
        sizes = {image["id"]: size}
        sound = next(coco_file.annotation_problems(annotations, sizes, self.declared), None) is None
        measured: list[Measured | None] = []
        whole: list[Annotation] = []
        for annotation in annotations:
            key = annotation.get("id")
            if _key(annotation.get("category_id")) not in self.names:
                detail = f"category id {annotation.get('category_id')!r:.80}"
                self.note("dangling_category", Item(split, name, key, detail))
                continue
            category = self.names[annotation["category_id"]]
            broken = [] if sound else list(coco_file.annotation_problems([annotation], sizes, self.declared))
            for problem in broken:
                code = "rle_size" if rle_of_another_size(annotation, size) and "RLE" in problem else "malformed"
                self.note(code, Item(split, name, key, problem))
            if broken:
                self.classes.add(split, category, annotation, None, size[0] * size[1])
                continue
            self.coordinates[split].add(annotation, size)
            if annotation.get("iscrowd"):
                self.note("crowd", Item(split, name, key))
            problems, mask = measure(annotation, size, checked=True)
            if mask is not None and not annotation.get("iscrowd"):
                problems += shape_problems(mask, size)
            for code, detail in problems:
                self.note(code, Item(split, name, key, detail))
            area = mask.area if mask is not None else _box_area(annotation)
            self.classes.add(split, category, annotation, area, size[0] * size[1])
            whole.append(annotation)
            measured.append(mask)
        self._compare_objects(split, name, whole, measured)

    def _compare_objects(
        self, split: str, name: str, annotations: list[Annotation], measured: list[Measured | None]
    ) -> None:
        """Objects of one image that are labelled twice, exactly or nearly, as one class or as two."""
        first: dict[tuple[int, str], int | None] = {}
        for annotation in annotations:
            content = (annotation["category_id"], str(annotation.get("segmentation") or annotation.get("bbox")))
            if content in first:
                detail = f"as annotation {first[content]}"
                self.note("duplicate_object", Item(split, name, annotation.get("id"), detail))
            first.setdefault(content, annotation.get("id"))
        for i, j, share in same_shapes(annotations, measured):
            a, b = annotations[i], annotations[j]
            key, other = b.get("id"), f"as annotation {a.get('id')}, IoU {share:.2f}"
            if a["category_id"] != b["category_id"]:
                one, two = (self.names[x["category_id"]] for x in (b, a))
                self.note("two_classes", Item(split, name, key, f"{one}, and {two} {other}"))
            elif any(a.get(k) != b.get(k) for k in ("segmentation", "bbox")):
                self.note("nearly_twice", Item(split, name, key, other))

    def written(self) -> None:
        """Say so where coordinates are in another order, unit or size, and no image of another size explains it."""
        for split, coordinates in self.coordinates.items():
            explained = self.counted["image_size"] or self.counted["exif_rotated"]
            sentences, outside = coordinates.sentences(), coordinates.reading() in ("exchanged", "beyond")
            if sentences is not None and not (explained and outside):
                self.note("coordinates", Item(split, detail=sentences[0]))

    def trainable(self) -> None:
        """Say so where nothing of the train split can be learned, and no other error says why."""
        split = "train" if "train" in self.info.splits else UNDECIDED
        images = self.info.splits.get(split, 0)
        maps = self.info.num_things and (self.info.semantic or self.info.panoptic)
        learned = self.classes.usable if self.info.num_things else {split: sum(self.classes.singles[split].values())}
        explained = any(CODES[code][0] == "error" for code, count in self.counted.items() if count)
        if images and not maps and not learned[split] and not explained:
            what = "an object that covers anything" if self.info.num_things else "a map that says something"
            self.note("nothing_to_train", Item(split, detail=f"none of its {images:,} images has {what}"))


def _box_area(annotation: Annotation) -> float:
    """Of an annotation without a mask; 0 where it should have one."""
    box = annotation.get("bbox")
    return 0.0 if annotation.get("segmentation") or box is None else float(box[2] * box[3])


def _key(value: object) -> Key:
    """An id as a file may have it; None for what can be none, such as a list."""
    return value if isinstance(value, (int, float, str)) else None
