"""What all makers of images share: the key of an image, its labels in every task's form, and the processes at work."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from typing_extensions import Self

from segcli.core.coco_json import Annotation, SegmentInfo, as_json
from segcli.data.canonical import Record
from segcli.data.png import encode_png
from segcli.sources.shapes import extent

SPLITS = {"train": 0, "val": 1}  # part of every image's random key
SIDES = (64, 1024)  # image sides that the makers are meant for


Key = TypeVar("Key")


class Renamed(Protocol):
    """A key of an image that can be given another file name."""

    def _replace(self, *, file_name: str) -> Self: ...


Named = TypeVar("Named", bound=Renamed)


class Index(NamedTuple):
    """One image to be made."""

    file_name: str
    number: int
    split: str
    seed: int
    size: int

    @classmethod
    def numbered(cls, split: str, count: int, seed: int, size: int) -> "list[Index]":
        """The images of a split."""
        return [cls(f"{split}/{i + 1:06d}.png", i, split, seed, size) for i in range(count)]


def in_processes(record: Callable[[Key], Record], entries: Sequence[Key]) -> Iterator[Record]:
    """The records of `entries`, in order, made by as many processes as there are processors. `record` is a function of
    a module, so that processes find it."""
    processes = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)
    if processes == 1 or len(entries) < 100:
        yield from map(record, entries)
        return
    with multiprocessing.Pool(processes, initializer=_quiet) as pool:
        yield from pool.imap(record, entries, chunksize=16)


def divided(splits: Mapping[str, Sequence[Named]], shares: Mapping[str, float]) -> dict[str, list[Named]]:
    """The images of all splits, in order, divided anew by shares that add up to 1, and called after their split."""
    everything = [entry for part in splits.values() for entry in part]
    ends = np.rint(np.cumsum([0, *shares.values()]) * len(everything)).astype(int).tolist()
    out: dict[str, list[Named]] = {}
    for (name, _), first, end in zip(shares.items(), ends[:-1], ends[1:], strict=True):
        out[name] = [e._replace(file_name=f"{name}/{i + 1:06d}.png") for i, e in enumerate(everything[first:end])]
    return out


def labelled(
    file_name: str, image: np.ndarray, ids: np.ndarray, labels: np.ndarray, stuff: np.ndarray, things: int
) -> Record:
    """A record with instance, semantic and panoptic labels.

    image uint8 [S,S,3] RGB; ids int32 [S,S] (0 = stuff, i + 1 = object i); labels [N], below `things`; stuff uint8
    [S,S], counted from 0. Category ids are labels + 1, those of stuff follow those of things.
    """
    annotations: list[Annotation] = []
    segments: list[SegmentInfo] = []
    for i, label in enumerate(labels.tolist()):
        mask = ids == i + 1
        shared: SegmentInfo = {"category_id": label + 1, "bbox": _box(mask), "area": int(mask.sum()), "iscrowd": 0}
        segments.append({"id": i + 1, **shared})
        rle = as_json(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))))
        annotations.append({**shared, "segmentation": rle})
    semantic = np.concatenate([[0], labels])[ids]
    semantic = np.where(ids > 0, semantic, stuff + things).astype(np.uint8)
    panoptic = ids.copy()
    for label in np.unique(semantic[ids == 0]).tolist():
        mask = (ids == 0) & (semantic == label)
        number = len(labels) + 1 + label - things
        panoptic[mask] = number
        segments.append(
            {"id": number, "category_id": label + 1, "bbox": _box(mask), "area": int(mask.sum()), "iscrowd": 0}
        )
    colours = np.stack([panoptic & 255, panoptic >> 8 & 255, panoptic >> 16], 2).astype(np.uint8)
    return Record(
        file_name=file_name,
        size=ids.shape,
        image=encode_png(image, level=1),
        annotations=annotations,
        semantic=encode_png(semantic, level=1),
        panoptic=encode_png(colours, level=1),
        segments=segments,
    )


def _quiet() -> None:
    """A worker leaves Ctrl-C to the main process, and threads to the other workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # how the pool ends its workers: not with the program's own handler
    cv2.setNumThreads(0)


def _box(mask: np.ndarray) -> list[float]:
    place = extent(mask)
    assert place is not None  # a scene's objects and grounds have pixels
    rows, columns = place
    return [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
