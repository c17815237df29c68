"""A dataset of six small images, written in a moment, and a recipe that trains three steps on it."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.data.annotations import encode

COLOURS = {3: (220, 60, 40), 17: (40, 90, 230)}  # RGB of the objects, by source id


TINY_RECIPE = {
    "name": "tiny run",
    "task": "instance",
    "data": {"root": "data/tiny", "size": 64, "augment": {"flip": 0.5}},
    "model": {
        **{"name": "rcnn_lite", "width": 32, "proposals": [8, 8]},
        **{"backbone": {"name": "timm", "model": "test_resnet"}, "heads": {"iou_box": {}, "lite_mask": {}}},
    },
    "train": {"steps": 3, "batch_size": 2, "evaluations": 1, "log_every": 1},
    "hardware": {"device": "cpu", "workers": 0, "threads": 1},
}

NARROW = {  # keys that let a recipe of rcnn_lite train in a moment
    "model.backbone": {"name": "timm", "model": "test_efficientnet", "norm": "folded"},
    "model.width": 32,
    "model.proposals": [16, 16],
}


def write_tiny(root: Path) -> Path:
    names = {1: "one image.png", 2: "두 번째 🐈.jpg", 3: "three.png", 4: "four.jpg", 5: "five.png", 6: "sub/six.png"}
    ring = np.zeros((48, 64), np.uint8, order="F")
    ring[10:40, 20:50] = 1
    ring[20:30, 30:40] = 0
    stripe = np.zeros((48, 64), bool)
    stripe[30:48, 0:64] = True
    objects = [
        (101, 1, 3, [rectangle(10, 8, 30, 28)], 0),
        (102, 1, 17, [rectangle(36, 4, 46, 20), rectangle(50, 4, 60, 20)], 0),
        (103, 2, 17, uncompressed(np.pad(np.ones((20, 24), bool), ((5, 23), (30, 10)))), 0),
        (104, 2, 3, [[5.0, 40.0, 15.0, 20.0, 25.0, 40.0]], 0),
        (105, 4, 3, uncompressed(stripe), 1),
        (106, 4, 3, [rectangle(20, 10, 40, 36)], 0),
        (107, 5, 17, {"size": [48, 64], "counts": encode(uncompressed(ring), (48, 64))["counts"].decode()}, 0),
        (108, 5, 3, [rectangle(2, 2, 16, 44)], 0),
        (109, 6, 3, [rectangle(8, 8, 28, 40)], 0),
    ]
    rng = np.random.default_rng(0)
    for split, ids in (("train", (1, 2, 3, 4)), ("val", (5, 6))):
        for key in ids:
            image = rng.integers(90, 140, (48, 64, 3)).astype(np.uint8)
            for _, image_id, category, segmentation, _ in objects:
                if image_id == key:
                    image[mask_of(segmentation)] = COLOURS[category]
            write_image(root / "images" / names[key], image)
        annotations = [
            {"id": i, "image_id": image, "category_id": c, "segmentation": s, "iscrowd": crowd, **measure(s)}
            for i, image, c, s, crowd in objects
            if image in ids
        ]
        images = [{"id": key, "file_name": names[key], "width": 64, "height": 48} for key in ids]
        categories = [{"id": 3, "name": "cat"}, {"id": 17, "name": "dog"}]
        write_json(
            root / "annotations" / f"{split}.json",
            {"images": images, "annotations": annotations, "categories": categories},
        )
    info = DatasetInfo("tiny", (Category("cat", 3), Category("dog", 17)), {"train": 4, "val": 2}, licence="CC0")
    write_json(root / "info.json", info.to_json())
    return root


def rectangle(x1: float, y1: float, x2: float, y2: float) -> list[float]:
    """A COCO polygon that covers the columns x1 to x2 - 1 and the rows y1 to y2 - 1."""
    return [float(v) for v in (x1, y1, x2, y1, x2, y2, x1, y2)]


def uncompressed(mask: np.ndarray) -> dict:
    """A mask as COCO's plain list of runs, column by column, beginning with zeros."""
    flat = np.asarray(mask, bool).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges.tolist(), len(flat)]).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def mask_of(segmentation, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return coco_mask.decode(encode(segmentation, size)).astype(bool)


def measure(segmentation) -> dict:
    mask = mask_of(segmentation)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return {"bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y], "area": int(mask.sum())}


def write_json(path: Path, data) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")


def write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(path.suffix, image[:, :, ::-1])
    assert ok
    path.write_bytes(data.tobytes())


def edit(root: Path, split: str, change: Callable[[dict], object]) -> None:
    """Apply `change` to the parsed annotation file of a split."""
    path = root / "annotations" / f"{split}.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    write_json(path, data)


def add(root: Path, split: str, segmentation, key: int = 500, **more) -> None:
    """One more annotation, of a cat on the split's first image."""

    def change(data):
        known = {"id": key, "image_id": data["images"][0]["id"], "category_id": 3, "segmentation": segmentation}
        data["annotations"].append({**known, "iscrowd": 0, **more})

    edit(root, split, change)
