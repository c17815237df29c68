"""Images with a side beyond what 16 bits count are read, written and cut to the pixel, like all others."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from sources import picture, text

from segcli.commands.prepare import export, prepare
from segcli.data.dataset import Dataset

NARROW = 24


def labelme(root, size):
    """Two images of (H, W) `size`, with a polygon and a mask near the far end of each."""
    across = size[1] > size[0]
    far = max(size) - 50
    turned = lambda x, y: [x, y] if across else [y, x]
    stream = io.BytesIO()
    Image.fromarray(np.full((5, 8) if across else (8, 5), 255, np.uint8)).save(stream, "PNG")
    polygon = [turned(far, 2), turned(far + 20, 2), turned(far + 20, 12), turned(far, 12)]
    shapes = [
        {"label": "cat", "points": polygon},
        {"label": "cat", "shape_type": "mask", "points": [turned(far + 30, 3), turned(far + 37, 7)]},
    ]
    shapes[1]["mask"] = base64.b64encode(stream.getvalue()).decode()
    for name in ("a", "b"):
        picture(root / f"{name}.png", np.full((*size, 3), ord(name), np.uint8))
        sides = {"imageHeight": size[0], "imageWidth": size[1]}
        text(root / f"{name}.json", {"shapes": shapes, "imagePath": f"{name}.png", **sides})
    return (slice(2, 12), slice(far, far + 20)), (slice(3, 8), slice(far + 30, far + 38))


@pytest.mark.parametrize("size", [(NARROW, 2**15), (2**15, NARROW), (NARROW, 2**16 + 512)])
def test_labelme_and_back(tmp_path, size):
    places = labelme(tmp_path / "source", size)
    root = prepare(str(tmp_path / "source"), tmp_path / "out", samples=False)
    masks = Dataset(root).target(0).instances.masks.numpy()
    for mask, (y, x) in zip(masks, places, strict=True):
        where = (y, x) if size[1] > size[0] else (x, y)
        assert mask[where].all()
        assert mask.sum() == mask[where].size
    for form in ("yolo", "labelme", "coco"):
        export(str(root), form, tmp_path / form)
        again = prepare(str(tmp_path / form), tmp_path / f"{form} again", samples=False)
        assert (Dataset(again).target(0).instances.masks.numpy() == masks).all()
    tiles = Dataset(prepare(str(tmp_path / "source"), tmp_path / "tiles", samples=False, tile=1024))
    areas = [annotation["area"] for i in range(len(tiles)) for annotation in tiles.annotations(i)]
    assert sum(areas) == 2 * masks.sum()
