"""The embedded 2D data: textured shapes that hide one another, on four kinds of ground. Nothing is downloaded.

Eight classes, two of them pairs that look alike at any rotation (square and rhombus, circle and ellipse), and four
stuff classes. 3 to 12 objects an image; extents log-uniform from 12 pixels to 9/16 of the side (90 of 160); any
rotation. Of every object at least 25 pixels and a quarter of its whole area are visible; more than 30 % of the
objects have a fifth or more of their area hidden by others. Masks are exact: a pixel belongs to a shape when its
centre lies inside. Keypoints: the middle and the tips of each shape, numbered clockwise from the topmost.

Image `index` of a split depends on (seed, split, index, size) alone, not on how many are made, nor by how many
processes. The generator is a fixed measure: scores on it are comparable only as long as nothing here changes.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from segcli.core.coco_json import CocoFile, PanopticFile
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import UsageError
from segcli.data.canonical import Draft, Record
from segcli.sources.synthetic._records import SIDES, SPLITS, Index, in_processes, labelled
from segcli.sources.synthetic._scene import HIDE, STUFF, THINGS, Scene, draw

KEYPOINTS = ("middle", "top", "second", "third", "fourth", "fifth")
TIPS = {"square": 4, "rhombus": 4, "ellipse": 4, "triangle": 3, "star": 5, "cross": 4}
OUTLINED = ("square", "rhombus", "triangle")  # their skeleton goes around, that of the others from the middle out


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
    splits = {split: Index.numbered(split, count, seed, size) for split, count in (("train", train), ("val", val))}
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
    """The records of `entries`, in order."""
    return in_processes(record, entries)


def record(entry: Index) -> Record:
    """One image with its instance, semantic and panoptic labels."""
    scene = generate(entry.number, entry.split, entry.seed, entry.size)
    out = labelled(entry.file_name, scene.image, scene.ids, scene.labels, scene.stuff, len(THINGS))
    for i, annotation in enumerate(out.annotations):
        annotation["visible"] = round(float(scene.visible[i]), 4)
        annotation["extent"] = round(float(scene.extents[i]), 2)
        annotation["keypoints"] = scene.points[i].round(2).ravel().tolist()
        annotation["num_keypoints"] = int((scene.points[i][:, 2] > 0).sum())
    return out


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
