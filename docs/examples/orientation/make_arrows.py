"""Images of arrows, with the direction of each: python make_arrows.py FOLDER [TRAIN VAL]"""

import itertools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

SIDE, ARROW = 128, np.array([[1, 0], [0.2, 0.6], [0.2, 0.25], [-1, 0.25], [-1, -0.25], [0.2, -0.25], [0.2, -0.6]])


def make(folder: Path, split: str, count: int, rng: np.random.Generator, ids: Iterator[int]) -> None:
    images, annotations = [], []
    for i in range(count):
        name, image_id = f"{split}_{i:04d}.png", next(ids)
        picture = rng.normal(rng.uniform(60, 200), 12, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
        for cell in rng.permutation(4)[: rng.integers(1, 4)]:
            degrees, length = rng.uniform(0, 360), rng.uniform(16, 28)
            turn = math.radians(degrees)
            along, across = np.array([math.cos(turn), -math.sin(turn)]), np.array([math.sin(turn), math.cos(turn)])
            middle = (np.array([cell % 2, cell // 2]) + 0.5) * SIDE / 2
            points = middle + length * (ARROW[:, :1] * along + ARROW[:, 1:] * across)
            colour = rng.integers(0, 255, 3).tolist()
            cv2.fillPoly(picture, [np.rint(points * 16).astype(int)], colour, cv2.LINE_AA, 4)
            (x, y), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
            annotations.append(
                {
                    **{"id": next(ids), "image_id": image_id, "category_id": 1, "iscrowd": 0},
                    **{"bbox": [x, y, x2 - x, y2 - y], "segmentation": [points.ravel().tolist()]},
                    "orientation": round(degrees, 1),
                }
            )
        images.append({"id": image_id, "file_name": name, "width": SIDE, "height": SIDE})
        (folder / "images").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "images" / name), picture)
    data = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "arrow"}]}
    (folder / f"{split}.json").write_text(json.dumps(data), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 4):
        sys.exit(__doc__)
    counts, ids = [int(v) for v in sys.argv[2:]] or [200, 40], itertools.count(1)
    for name, count, seed in zip(("train", "val"), counts, (0, 1), strict=True):
        make(Path(sys.argv[1]), name, count, np.random.default_rng(seed), ids)
