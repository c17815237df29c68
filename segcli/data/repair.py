"""`prepare --fix`: mend what the doctor finds while a dataset is written, and say what was done to which annotation.

Works on one record at a time. What can't be mended without guessing is left out, and named.
"""

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage

from segcli.core.files import read_bytes, resolve
from segcli.core.trust import images_of
from segcli.data import annotations as coco_file
from segcli.data import canonical, index, views
from segcli.data.canonical import Draft, Record
from segcli.data.decoders import FAILURES, open_image
from segcli.data.label_rules import crossings, inside, label_problems, rle_of_another_size, sound
from segcli.data.refit import UNKNOWN, fitted, refitted, stored
from segcli.errors import DataError
from segcli.info import DatasetInfo
from segcli.types import IGNORE, Rle

DRAWN = ("hole", "self_intersecting", "polygon_outside")  # mended by storing the mask itself


@dataclasses.dataclass(frozen=True)
class Repair:
    """What was done: to an image (annotation_id None) or an annotation, because of a finding of that code."""

    split: str
    file_name: str
    annotation_id: int | None
    code: str
    action: str


class Repairs:
    """Mends records of one dataset; `done` lists every repair."""

    def __init__(self, info: DatasetInfo):
        self.declared = set(info.source_ids)
        self.labels = {source: label for label, source in enumerate(info.source_ids)}
        self.done: list[Repair] = []
        self._files: set[str] = set()
        self._ids: dict[str, set[int]] = {"image": set(), "annotation": set()}

    def mend(self, split: str, records: Iterator[Record]) -> Iterator[Record]:
        """The records, mended; images that can't be used are left out."""
        for record in records:
            if (mended := self._record(split, record)) is not None:
                yield mended

    def _record(self, split: str, record: Record) -> Record | None:
        say = lambda code, action, key=None: self.done.append(Repair(split, record.file_name, key, code, action))
        if record.file_name in self._files:
            lost = f", with its {len(record.annotations)} annotations" if record.annotations else ""
            say("image_listed_twice", f"listed again: this time left out{lost}")
            return None
        self._files.add(record.file_name)
        if isinstance(record.image, Path):
            placed = fitted(record, say)
            if placed is None:
                return None
            record = placed
        if isinstance(record.problem, DataError):
            say("labels_unreadable", f"left out: {record.problem}")
            return None
        record = self._maps(record, say)
        kept: list[dict[str, Any]] = []
        seen = set()
        for annotation in record.annotations:
            key = annotation.get("id")
            mended, actions = mend(annotation, record.size, self.declared)
            content = mended and (mended["category_id"], str(mended.get("segmentation") or mended.get("bbox")))
            if mended is not None and content in seen:
                mended, actions = None, [*actions, ("duplicate_object", "left out: the same object again")]
            seen.add(content)
            for code, action in actions:
                say(code, action, key)
            if mended is not None:
                self._take("annotation", mended.get("id"), say)
                kept.append(mended)
        self._take("image", record.id, say)
        return dataclasses.replace(record, annotations=kept)

    def _take(self, kind: str, key: Any, say: Any) -> None:
        """Say so where an id is used again: the writer gives it another one."""
        if key in self._ids[kind]:
            say(f"duplicate_{kind}_id", f"{kind} id {key} is used before: renumbered", key if kind != "image" else None)
        elif key is not None:
            self._ids[kind].add(key)

    def _maps(self, record: Record, say: Any) -> Record:
        """Label maps whose values are declared; of a map that does not fit the image nothing is kept."""
        semantic, panoptic, segments = record.semantic, record.panoptic, record.segments
        if semantic is not None:
            labels = _pixels(semantic)
            if labels is None or labels.ndim != 2 or labels.shape != record.size:
                say("label_map", "the semantic map does not fit the image: every pixel is ignored")
                semantic = _png(np.full(record.size, IGNORE, np.uint8))
            elif (wrong := (labels >= len(self.labels)) & (labels != IGNORE)).any():
                values = ", ".join(map(str, np.unique(labels[wrong]).tolist()))
                say("label_map", f"{int(wrong.sum())} pixels of undeclared values ({values}) are ignored (255)")
                semantic = _png(np.where(wrong, IGNORE, labels).astype(np.uint8))
        if panoptic is not None:
            rgb = _pixels(panoptic)
            if rgb is None or rgb.ndim != 3 or rgb.shape[:2] != record.size:
                say("label_map", "the panoptic map does not fit the image: every pixel is void")
                rgb, segments = np.zeros((*record.size, 3), np.uint8), []
                panoptic = _png(rgb)
            ids = views.panoptic_ids(rgb)
            counts = Counter(str(s.get("id")) for s in segments)
            whole = [s for s in segments if type(s.get("id")) is int and type(s.get("category_id")) is int]
            painted = set(np.unique(ids).tolist()) - {0}
            kept = [s for s in whole if s["category_id"] in self.labels and s["id"] in painted]
            kept = [s for s in kept if counts[str(s["id"])] == 1]
            undeclared = ~np.isin(ids, [0, *(s["id"] for s in kept)])
            if len(kept) < len(segments) or undeclared.any():
                lost = len(segments) - len(kept)
                say("label_map", f"{lost} segments left out of the json, {int(undeclared.sum())} pixels made void")
                segments, panoptic = kept, _png(np.where(undeclared[..., None], 0, rgb[:, :, :3]).astype(np.uint8))
        problem = record.problem if panoptic is None else None  # where map and json disagreed, they agree now
        return dataclasses.replace(record, semantic=semantic, panoptic=panoptic, segments=segments, problem=problem)


def mend(
    annotation: dict[str, Any], size: tuple[int, int], declared: set[int]
) -> tuple[dict[str, Any] | None, list[tuple[str, str]]]:
    """(the annotation as it should be, [(code, action)]) on an image of `size` (h, w); None where it is left out."""
    out, actions = dict(annotation), []
    for key in ("image_id", "category_id"):
        if isinstance(out.get(key), float) and out[key].is_integer():  # as pandas writes a column with a gap
            out[key] = int(out[key])
            actions.append(("malformed", f"{key} {annotation[key]} made {out[key]}"))
    if type(out.get("category_id")) is not int or out["category_id"] not in declared:
        return None, [*actions, ("dangling_category", f"left out: {out.get('category_id')!r} is no declared category")]
    if out.get("id") is not None and not isinstance(out["id"], int):
        actions.append(("malformed", f"annotation id {out.pop('id')!r} replaced"))
    if not sound({"iscrowd": out.get("iscrowd")}, size, "iscrowd"):
        crowd = out["iscrowd"]
        out["iscrowd"] = int(bool(crowd) and crowd == crowd and crowd != "0")  # NaN is no crowd
        actions.append(("malformed", f"iscrowd {annotation['iscrowd']!r} made {out['iscrowd']}"))
    if out.get("segmentation"):
        segmentation, done = _mended_segmentation(out, size)
        actions += done
        if segmentation is None:
            return None, actions
        out["segmentation"] = segmentation
        rle = coco_file.encode(segmentation, size)
        if not coco_mask.area(rle):
            return None, [*actions, ("empty_mask", "left out: its mask covers no pixel")]
    if not out.get("segmentation"):
        return _mended_box(out, size, actions)
    for key, measured in (("bbox", coco_mask.toBbox(rle).tolist()), ("area", int(coco_mask.area(rle)))):
        if not sound(out, size, key):
            actions.append(("malformed", f"{key} {out[key]!r} taken from the mask"))
            out[key] = measured
    codes = [code for code, _ in label_problems(out, size)]
    if drawn := [code for code in codes if code in DRAWN]:
        out["segmentation"], rle = _drawn(out["segmentation"], size)
        did = ", ".join(drawn).replace("_", " ")
        actions.append((drawn[0], f"polygon stored as the mask that it stands for ({did})"))
        codes = [code for code, _ in label_problems(out, size)]
    if boxes := {"degenerate_box", "box_outside", "box_mismatch"} & set(codes):
        actions.append((min(boxes), f"bbox {out['bbox']} taken from the mask"))
        out["bbox"] = coco_mask.toBbox(rle).tolist()
    if "area_mismatch" in codes:
        actions.append(("area_mismatch", f"area {out['area']} counted anew on the mask"))
        out["area"] = int(coco_mask.area(rle))
    return out, actions


def _mended_segmentation(annotation: dict[str, Any], size: tuple[int, int]) -> tuple[Any, list[tuple[str, str]]]:
    """A segmentation that `encode` takes, without parts that say nothing; None where nothing is left."""
    segmentation = annotation["segmentation"]
    if rle_of_another_size(annotation, size):
        refit = refitted(annotation, size)
        if refit is None:
            return None, [("rle_size", f"left out: its RLE of {segmentation.get('size')} does not fit {list(size)}")]
        return refit, [("rle_size", f"RLE of {segmentation['size']} fitted to the image's {list(size)}")]
    if isinstance(segmentation, list):
        parts = [p for p in segmentation if isinstance(p, list) and sound({"segmentation": [p]}, size, "segmentation")]
        broken = len(segmentation) - len(parts)
        drawn = [p for p in parts if len(p) >= 6]
        actions = [("malformed", f"{broken} malformed parts of its polygon left out")] if broken else []
        if len(parts) > len(drawn):
            actions.append(("short_polygon", f"{len(parts) - len(drawn)} parts of fewer than three points left out"))
        return (drawn, actions) if drawn else (None, [*actions, ("empty_mask", "left out: no part of it is left")])
    if not sound(annotation, size, "segmentation"):
        return None, [("malformed", "left out: its mask is malformed")]
    try:
        coco_file.encode(segmentation, size)
    except ValueError as error:
        return None, [("malformed", f"left out: {error}")]
    return segmentation, []


def _mended_box(
    out: dict[str, Any], size: tuple[int, int], actions: list[tuple[str, str]]
) -> tuple[dict[str, Any] | None, list[tuple[str, str]]]:
    """An annotation of a box alone: cut at the border, left out where nothing is left."""
    if out.get("bbox") is None or not sound(out, size, "bbox"):
        return None, [*actions, ("malformed", f"left out: it has no mask, and bbox {out.get('bbox')!r}")]
    x, y, bw, bh = out["bbox"]
    x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + bw, size[1]), min(y + bh, size[0])
    if x2 <= x1 or y2 <= y1:
        return None, [*actions, ("degenerate_box", f"left out: bbox {out['bbox']} covers nothing of the image")]
    if not sound(out, size, "area"):
        actions.append(("malformed", f"area {out['area']!r} taken from the bbox"))
        out["area"] = (x2 - x1) * (y2 - y1)
    if any(code == "box_outside" for code, _ in label_problems(out, size)):
        actions.append(("box_outside", f"bbox {out['bbox']} cut at the border"))
        out["bbox"] = [x1, y1, x2 - x1, y2 - y1]
    return out, actions


def _drawn(parts: list[list[float]], size: tuple[int, int]) -> tuple[dict[str, Any], Rle]:
    """The mask that a polygon stands for: crossed outlines filled, parts inside others cut out (and islands in those
    put back), everything cut at the border."""
    depth = inside(parts, size).sum(1)
    mask = np.zeros(size, np.uint8)
    for i in np.argsort(depth, kind="stable"):
        part = coco_mask.decode(coco_file.encode([parts[i]], size))
        if crossings(parts[i]):
            part = ndimage.binary_fill_holes(part)
        mask[part.astype(bool)] = depth[i] % 2 == 0
    return stored(mask), coco_mask.encode(np.asfortranarray(mask))


def reopened(root: Path) -> Draft:
    """A prepared folder as a draft of the same splits, to be written again; the draft's notes say what belongs to no
    image. Raises DataError where an annotation file can't be read: that can't be mended.
    """
    info = DatasetInfo.load(root)
    place = images_of(root, info.image_root)
    place = dataclasses.replace(place, folder=place.folder.absolute())
    splits: dict[str, list[_Entry]] = {}
    notes: list[str] = list(canonical.prepared(root).get("notes", []))
    for split in info.splits:
        file = root / "annotations" / f"{split}.json"
        known = index.load(file)
        images, annotations = (known.images, []) if known is not None else coco_file.load(file)
        grouped: dict[str, list[dict[str, Any]]] = {}
        for annotation in annotations:
            grouped.setdefault(_key(annotation.get("image_id")), []).append(annotation)
        segments: dict[str, dict[str, Any]] = {}
        if info.panoptic:
            entries = coco_file.load(root / "panoptic" / f"{split}.json")[1]
            segments = {str(entry.get("image_id")): entry for entry in entries}
        splits[split] = []
        for i, image in enumerate(images):
            name = str(image.get("file_name") or "")
            if not name or any("file_name" in problem for problem in coco_file.image_problems([image])):
                notes.append(f"{split}: the image {name!r} is left out: its file_name is no path")
                continue
            own: _Labels = functools.partial(known.annotations, i) if known else grouped.pop(str(image.get("id")), [])
            entry = segments.get(str(image.get("id")))
            splits[split].append(
                _Entry(name, root, place.path(name, file), split, image, own, entry, info, place.trusted)
            )
        for annotation in itertools.chain.from_iterable(grouped.values()):
            key, image_id = annotation.get("id"), annotation.get("image_id")
            notes.append(f"{split}: annotation {key} is left out: image id {image_id!r} is not listed")
    return Draft(
        dataclasses.replace(info, image_root=None),
        splits,
        lambda entries: (entry.record() for entry in entries),
        place.folder,
        notes,
        masks=canonical.masks_read(root),
    )


def _key(image_id: Any) -> str:
    """What an image and its annotations have in common: 7, 7.0 and "7" are one."""
    return str(int(image_id)) if isinstance(image_id, float) and image_id.is_integer() else str(image_id)


_Labels = list[dict[str, Any]] | Callable[[], list[dict[str, Any]]]


@dataclasses.dataclass
class _Entry:
    """One image of a prepared folder. annotations: they, or how to read them; segments: its panoptic entry."""

    file_name: str
    root: Path
    path: Path
    split: str
    image: dict[str, Any]
    annotations: _Labels
    segments: dict[str, Any] | None
    info: DatasetInfo
    trusted: bool

    def record(self) -> Record:
        size = (self.image.get("height"), self.image.get("width"))
        segments = self.segments or {}
        name = canonical.label_name({**self.image, "file_name": self.file_name})
        panoptic = segments.get("file_name") or name
        whole = all(isinstance(side, int) and side > 0 for side in size)
        key = self.image.get("id")

        def read(kind: str, name: Any) -> bytes:
            where = f"{kind}/{self.split}: the map of {self.file_name}"
            path = resolve(self.root / kind / self.split, name, where, within=self.root, trusted=self.trusted)
            return read_bytes(path) if path.is_file() else b""

        return Record(
            file_name=self.file_name,
            size=size if whole else UNKNOWN,  # type: ignore[arg-type]
            image=self.path,
            annotations=self.annotations() if callable(self.annotations) else self.annotations,
            id=key if isinstance(key, int) and key >= 0 else None,
            semantic=read("semantic", name) if self.info.semantic else None,
            panoptic=read("panoptic", panoptic) if self.info.panoptic else None,
            segments=list(segments.get("segments_info") or []),
            extra={k: v for k, v in self.image.items() if k not in ("id", "file_name", "width", "height")},
        )


def _pixels(png: bytes) -> np.ndarray | None:
    """The stored values of a PNG; None where it can't be decoded."""
    try:
        with open_image(png) as image:
            return np.asarray(image)
    except FAILURES:
        return None


def _png(pixels: np.ndarray) -> bytes:
    data = BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()
