"""The scene that tests/sources.py writes in every format: three images of 32 x 24 pixels with a cat and a dog each."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

W, H = 32, 24
NAMES = ("cat", "dog")
SPLIT = {"a": "train", "b": "train", "c": "val"}
SCENE = {
    "a": {"cat": (2, 3, 12, 13), "dog": (15, 5, 28, 20)},
    "b": {"cat": (0, 0, 8, 24), "dog": (20, 0, 32, 6)},
    "c": {"cat": (10, 10, 20, 20), "dog": (22, 2, 30, 9)},
}


def photo(path: Path) -> Path:
    """A PNG of the right size whose pixels depend on its name."""
    pixels = np.random.default_rng(len(str(path.name))).integers(0, 255, (H, W, 3)).astype(np.uint8)
    return picture(path, pixels)


def picture(path: Path, pixels: np.ndarray, palette: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image = image.convert("P")
        image.putdata(pixels.ravel().tolist())
        image.putpalette([(i * 37) % 256 for i in range(768)])
    image.save(path)
    return path


def text(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def ids(name: str, *values: int, background: int = 0, dtype=np.uint8) -> np.ndarray:
    """[H,W]: the value of each object of an image on its pixels."""
    out = np.full((H, W), background, dtype)
    for (x1, y1, x2, y2), value in zip(SCENE[name].values(), values, strict=True):
        out[y1:y2, x1:x2] = value
    return out


def rle(box: tuple[int, int, int, int], compressed: bool) -> dict[str, Any]:
    """A rectangle as COCO's RLE: text, or the plain runs."""
    mask = np.zeros((H, W), np.uint8, order="F")
    mask[box[1] : box[3], box[0] : box[2]] = 1
    if compressed:
        return {"size": [H, W], "counts": coco_mask.encode(mask)["counts"].decode("ascii")}
    flat = mask.ravel("F")
    ends = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    runs = np.diff(ends).tolist()
    return {"size": [H, W], "counts": [0, *runs] if flat[0] else runs}


def corners(name: str) -> list[list[list[float]]]:
    return [[[x1, y1], [x2, y1], [x2, y2], [x1, y2]] for x1, y1, x2, y2 in SCENE[name].values()]
