"""Masks that were drawn on an image of another size lie where the image shows their object, to a tenth of a pixel."""

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from segcli.data.canonical import Record
from segcli.data.rescale_labels import fitted, refitted, stored


@pytest.mark.parametrize("factor", [0.37, 0.5, 0.8, 1.7, 3.0])
def test_a_scaled_mask_is_not_moved(factor):
    y, x = np.mgrid[:120, :200] + 0.5
    mask = ((x - 90) / 50) ** 2 + ((y - 61) / 34) ** 2 < 1
    size = (round(120 * factor), round(200 * factor))
    found = coco_mask.decode(refitted({"segmentation": stored(mask)}, size))
    across, down = (found.sum(0) * (np.arange(size[1]) + 0.5)).sum(), (found.sum(1) * (np.arange(size[0]) + 0.5)).sum()
    centre = np.array([across / size[1], down / size[0]]) / found.sum() * (200, 120)
    assert np.abs((centre - (90, 61)) * factor).max() < 0.1
    assert found.sum() / factor**2 == pytest.approx(mask.sum(), rel=0.01)


def test_a_mesh_follows_its_image_to_another_size(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    mesh = {"file": "a.obj", "rotation": [1, 0, 0, 0, 1, 0, 0, 0, 1], "shift": [0, 0, 3], "camera": [30, 30, 16, 12]}
    label = {"id": 1, "category_id": 1, "bbox": [2, 3, 10, 6], "keypoints": [4, 5, 2], "mesh": mesh}
    said = []
    found = fitted(Record("a.png", (24, 32), tmp_path / "a.png", [label]), lambda *words: said.append(words), {})
    assert found.annotations[0]["mesh"] == {**mesh, "camera": [60, 60, 32, 24]}
    assert found.annotations[0]["bbox"] == [4, 6, 20, 12]
    assert found.annotations[0]["keypoints"] == [8, 10, 2]
    assert said == [("image_size", "1 labels scaled to 64 x 48")]
