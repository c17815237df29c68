"""The embedded 2D data: textured shapes that hide one another, on four kinds of ground. Nothing is downloaded.

Eight classes, two of them pairs that look alike at any rotation (square and rhombus, circle and ellipse), and four
stuff classes. 3 to 12 objects an image; extents log-uniform from 12 pixels to 9/16 of the side (90 of 160); any
rotation. Of every object at least 25 pixels and a quarter of its whole area are visible; more than 30 % of the
objects have a fifth or more of their area hidden by others. Masks are exact: a pixel belongs to a shape when its
centre lies inside. Keypoints: the middle and the tips of each shape, numbered clockwise from the topmost.

Image `index` of a split depends on (seed, split, index, size) alone, not on how many are made, nor by how many
processes. The generator is a fixed measure: scores on it are comparable only as long as nothing here changes.
"""

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from segcli.core.coco_json import Annotation, CocoFile, PanopticFile, SegmentInfo, as_json
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import UsageError
from segcli.data.canonical import Draft, Record
from segcli.data.png import encode_png
from segcli.sources.shapes import extent
from segcli.sources.synthetic._scene import HIDE, STUFF, THINGS, Scene, draw

SPLITS = {"train": 0, "val": 1}  # part of every image's random key
KEYPOINTS = ("middle", "top", "second", "third", "fourth", "fifth")
TIPS = {"square": 4, "rhombus": 4, "ellipse": 4, "triangle": 3, "star": 5, "cross": 4}
OUTLINED = ("square", "rhombus", "triangle")  # their skeleton goes around, that of the others from the middle out
SIDES = (64, 1024)  # image sides that the generator is meant for


class Index(NamedTuple):
    """One image to be made."""

    file_name: str
    number: int
    split: str
    seed: int
    size: int


def build(*, train: int = 2000, val: int = 200, seed: int = 0, size: int = 160) -> Draft:
    """`train` and `val` images of `size` × `size` pixels. Raises UsageError for numbers out of range."""
    for name, value, low, high in [("train", train, 1, 10**6), ("val", val, 1, 10**6), ("size", size, *SIDES)]:
        if not low <= value <= high:
            raise UsageError(f"shapes: {name} must be {low} to {high}, not {value}")
    if seed < 0:
        raise UsageError(f"shapes: seed must be 0 or more, not {seed}")
    categories = [thing(name, i + 1) for i, name in enumerate(THINGS)]
    categories += [Category(name, len(THINGS) + i + 1, thing=False) for i, name in enumerate(STUFF)]
    info = DatasetInfo(
        name="shapes",
        categories=tuple(categories),
        splits={"train": train, "val": val},
        licence="CC0-1.0 (made by segcli)",
        source=f"segcli shapes, seed {seed}, size {size}",
        semantic=True,
        panoptic=True,
    )
    splits = {
        split: [Index(f"{split}/{i + 1:06d}.png", i, split, seed, size) for i in range(count)]
        for split, count in (("train", train), ("val", val))
    }
    return Draft(info, splits, records)


def thing(name: str, number: int) -> Category:
    """A shape's class. In a mirror image the topmost tip stays, and the others come in reverse order."""
    tips = TIPS.get(name, 0)
    around = [(k, k % tips + 1) for k in range(1, tips + 1)]
    return Category(
        name,
        number,
        keypoints=KEYPOINTS[: tips + 1],
        skeleton=tuple(around if name in OUTLINED else [(0, k) for k, _ in around]),
        flip_pairs=tuple((k, tips + 2 - k) for k in range(2, tips + 1) if k < tips + 2 - k),
        upright=tips > 0,
    )


def generate(index: int, split: str, seed: int = 0, size: int = 160) -> Scene:
    """Image number `index` (from 0) of a split: a `_scene.Scene`."""
    return draw(size, np.random.default_rng([seed, SPLITS[split], index]))


def records(entries: Sequence[Index]) -> Iterator[Record]:
    """The records of `entries`, in order, made by as many processes as there are processors."""
    processes = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)
    if processes == 1 or len(entries) < 100:
        yield from map(record, entries)
        return
    with multiprocessing.Pool(processes, initializer=_quiet) as pool:
        yield from pool.imap(record, entries, chunksize=16)


def record(entry: Index) -> Record:
    """One image with its instance, semantic and panoptic labels."""
    scene = generate(entry.number, entry.split, entry.seed, entry.size)
    annotations: list[Annotation] = []
    segments: list[SegmentInfo] = []
    for i, label in enumerate(scene.labels.tolist()):
        mask = scene.ids == i + 1
        shared: SegmentInfo = {"category_id": label + 1, "bbox": _box(mask), "area": int(mask.sum()), "iscrowd": 0}
        segments.append({"id": i + 1, **shared})
        rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        annotations.append(
            {
                "category_id": label + 1,
                "bbox": shared["bbox"],
                "area": shared["area"],
                "iscrowd": 0,
                "segmentation": as_json(rle),
                "visible": round(float(scene.visible[i]), 4),
                "extent": round(float(scene.extents[i]), 2),
                "keypoints": scene.points[i].round(2).ravel().tolist(),
                "num_keypoints": int((scene.points[i][:, 2] > 0).sum()),
            }
        )
    semantic = np.concatenate([[0], scene.labels])[scene.ids]
    semantic = np.where(scene.ids > 0, semantic, scene.stuff + len(THINGS)).astype(np.uint8)
    panoptic = scene.ids.copy()
    for label in np.unique(semantic[scene.ids == 0]).tolist():
        mask = (scene.ids == 0) & (semantic == label)
        number = len(scene.labels) + 1 + label - len(THINGS)
        panoptic[mask] = number
        area = int(mask.sum())
        segments.append({"id": number, "category_id": label + 1, "bbox": _box(mask), "area": area, "iscrowd": 0})
    ids = np.stack([panoptic & 255, panoptic >> 8 & 255, panoptic >> 16], 2).astype(np.uint8)
    return Record(
        file_name=entry.file_name,
        size=scene.ids.shape,
        image=encode_png(scene.image, level=1),
        annotations=annotations,
        semantic=encode_png(semantic, level=1),
        panoptic=encode_png(ids, level=1),
        segments=segments,
    )


def statistics(coco: CocoFile, panoptic: PanopticFile) -> dict[str, object]:
    """What a generated split is like, from the contents of its annotations and panoptic json.

    objects_per_image: fewest, mean, most; extents: the deciles of the whole shapes' longest extents, in pixels;
    occluded: share of objects with a fifth or more of the area hidden by others; per_class: objects by name;
    stuff: share of the pixels that no object covers, by name.
    """
    annotations = coco["annotations"]
    counts = Counter(a["image_id"] for a in annotations)
    labels = Counter(a["category_id"] for a in annotations)
    areas: Counter[int] = Counter()
    for entry in panoptic["annotations"]:
        for segment in entry["segments_info"]:
            areas[segment["category_id"]] += int(segment["area"])
    bare = sum(areas[len(THINGS) + 1 + i] for i in range(len(STUFF)))
    return {
        "objects_per_image": [min(counts.values()), len(annotations) / len(coco["images"]), max(counts.values())],
        "extents": np.quantile([a["extent"] for a in annotations], np.linspace(0, 1, 11)).round(1).tolist(),
        "occluded": float(np.mean([a["visible"] <= 1 - HIDE for a in annotations])),
        "per_class": {name: labels[i + 1] for i, name in enumerate(THINGS)},
        "stuff": {name: round(areas[len(THINGS) + 1 + i] / bare, 4) for i, name in enumerate(STUFF)},
    }


def _quiet() -> None:
    """A worker leaves Ctrl-C to the main process, and threads to the other workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # how the pool ends its workers: not with the program's own handler
    cv2.setNumThreads(0)


def _box(mask: np.ndarray) -> list[float]:
    place = extent(mask)
    assert place is not None  # a scene's objects and materials have pixels
    rows, columns = place
    return [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
