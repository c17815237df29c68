"""`prepare --fix`: mend what the doctor finds while a dataset is written, and say what was done to which annotation.

Works on one record at a time, after a look at all of them (`overview`). What can't be mended without guessing is left
out, and named; how much that may be, `removals` decides.
"""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError
from segcli.data import views
from segcli.data.canonical import Record
from segcli.data.decoders import FAILURES, open_image
from segcli.data.png import encode_map
from segcli.data.rescale_labels import fitted
from segcli.doctor.repair.mend import mend
from segcli.doctor.repair.overview import Survey
from segcli.doctor.repair.removals import Removals, Repair
from segcli.sources.coordinates import readings
from segcli.types import ignore_label, label_type


class Say(Protocol):
    """Notes what was done to an image, or to the annotation of that id, because of a finding of that code."""

    def __call__(self, code: str, action: str, key: int | None = None) -> None: ...


class Repairs:
    """Mends records of one dataset; `done` lists every repair, `removed` counts what they cost. known: what holds for
    the whole dataset."""

    def __init__(self, info: DatasetInfo, known: Survey):
        self.names = dict(zip(info.names, info.source_ids, strict=True))
        self.labels = {source: label for label, source in enumerate(info.source_ids)}
        self.known = known
        self.readings = readings(known.coordinates)
        self.done: list[Repair] = []
        self.removed = Removals()
        self._files: dict[str, set[tuple[str, str]]] = {}  # file name -> the objects of it, where it is listed again
        self._ids: dict[str, set[int]] = {"image": set(), "annotation": set()}

    def mend(self, split: str, records: Iterator[Record]) -> Iterator[Record]:
        """The records, mended; images that can't be used are left out."""
        for record in records:
            if (mended := self._record(split, record)) is not None:
                yield mended

    def _record(self, split: str, record: Record) -> Record | None:
        def say(code: str, action: str, key: int | None = None) -> None:
            self.done.append(Repair(split, file_name, key, code, action))

        file_name = record.file_name
        if record.file_name in self._files:
            self._again(record, say)
            return None
        further = self.known.again.get(record.file_name)
        if further:
            record = dataclasses.replace(record, annotations=[*record.annotations, *further])
        self._files[record.file_name] = set() if further is None else {_content(a) for a in record.annotations}
        there = not isinstance(record.image, Path) or os.path.isfile(record.image)
        placed: Record | None = record
        if isinstance(record.image, Path):
            placed = fitted(record, say, self.known.sides)
        if placed is not None and isinstance(placed.problem, DataError):
            say("labels_unreadable", f"left out: {placed.problem}")
            placed = None
        if placed is None:
            self.removed.image(self.done[-1], len(record.annotations), there)
            return None
        record = self._maps(placed, say)
        kept: list[Annotation] = []
        contents = set()
        reading = self.readings.get(split)
        for annotation in record.annotations:
            key = annotation.get("id")
            mended, actions = mend(annotation, record.size, self.names, self.known, reading)
            content = _content(mended) if mended else None
            twice = mended is not None and content in contents
            if twice:
                mended, actions = None, [*actions, ("duplicate_object", "left out: the same object again")]
            contents.add(content)
            for code, action in actions:
                say(code, action, key)
            if mended is not None:
                self._take("annotation", mended.get("id"), say)
                kept.append(mended)
            elif not twice:
                self.removed.object(self.done[-1])
        self._take("image", record.id, say)
        return dataclasses.replace(record, annotations=kept)

    def _again(self, record: Record, say: Say) -> None:
        """An image that is listed again: its objects are with the first one already, unless the split is another."""
        before = self._files[record.file_name]
        new = [a for a in record.annotations if _content(a) not in before]
        did = f", with {len(new)} annotations that the first listing lacks" if new else ""
        say("image_listed_twice", f"listed again: this time left out{did}")
        self.removed.objects(self.done[-1], len(new))

    def _take(self, kind: str, key: int | None, say: Say) -> None:
        """Say so where an id is used again: the writer gives it another one."""
        if key in self._ids[kind]:
            say(f"duplicate_{kind}_id", f"{kind} id {key} is used before: renumbered", key if kind != "image" else None)
        elif key is not None:
            self._ids[kind].add(key)

    def _maps(self, record: Record, say: Say) -> Record:
        """Label maps whose values are declared; of a map that does not fit the image nothing is kept."""
        semantic, panoptic, segments = record.semantic, record.panoptic, record.segments
        self.removed.mapped += record.size[0] * record.size[1] * ((semantic is not None) + (panoptic is not None))
        if semantic is not None:
            labels, ignore, kind = _pixels(semantic), ignore_label(len(self.labels)), label_type(len(self.labels))
            labels = None if labels is None else views.in_memory(labels, len(self.labels))
            if labels is None or labels.ndim != 2 or labels.shape != record.size:
                say("label_map", "the semantic map does not fit the image: every pixel is ignored")
                self.removed.map(self.done[-1], there=bool(semantic))
                semantic = encode_map(np.full(record.size, ignore, kind))
            elif (wrong := (labels >= len(self.labels)) & (labels != ignore)).any():
                values = ", ".join(map(str, np.unique(labels[wrong]).tolist()))
                say("label_map", f"{int(wrong.sum())} pixels of undeclared values ({values}) are ignored ({ignore})")
                self.removed.pixels(self.done[-1], int(wrong.sum()))
                semantic = encode_map(np.where(wrong, ignore, labels).astype(kind))
        if panoptic is not None:
            rgb = _pixels(panoptic)
            if rgb is None or rgb.ndim != 3 or rgb.shape[:2] != record.size:
                say("label_map", "the panoptic map does not fit the image: every pixel is void")
                self.removed.map(self.done[-1], there=bool(panoptic))
                rgb, segments = np.zeros((*record.size, 3), np.uint8), []
                panoptic = encode_map(rgb)
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
                self.removed.pixels(self.done[-1], int(undeclared.sum()))
                segments, panoptic = (
                    kept,
                    encode_map(np.where(undeclared[..., None], 0, rgb[:, :, :3]).astype(np.uint8)),
                )
        segments = [{**s, "iscrowd": 0} if s.get("category_id") in self.known.crowds else s for s in segments]
        problem = record.problem if panoptic is None else None  # where map and json disagreed, they agree now
        return dataclasses.replace(record, semantic=semantic, panoptic=panoptic, segments=segments, problem=problem)


def _content(annotation: Annotation) -> tuple[str, str]:
    """What makes two objects of an image the same."""
    return str(annotation.get("category_id")), str(annotation.get("segmentation") or annotation.get("bbox"))


def _pixels(png: bytes) -> np.ndarray | None:
    """The stored values of a PNG; None where it can't be decoded."""
    try:
        with open_image(png) as image:
            return np.asarray(image)
    except FAILURES:
        return None
