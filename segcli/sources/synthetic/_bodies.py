"""What solids and puppets share: where bodies stand in a scene, and the annotation of each."""

import numpy as np
from pycocotools import mask as coco_mask

from segcli.core.coco_json import Annotation, as_json
from segcli.meshes.raster import Camera
from segcli.sources.shapes import extent
from segcli.sources.synthetic._render import Picture

SPOTS = {1: [(0.5, 0.5)], 2: [(0.32, 0.5), (0.68, 0.5)], 3: [(0.3, 0.36), (0.68, 0.66), (0.7, 0.3)]}
REACH = {1: (0.45, 0.85), 2: (0.36, 0.56), 3: (0.3, 0.46)}  # projected extents, as shares of the side
LEAST, SHARE = 80, 0.35  # pixels, and share of the whole, that stay visible of every body


def camera_of(size: int, rng: np.random.Generator) -> Camera:
    """A camera whose focal length suits bodies a few metres away, looking at the middle of the image."""
    focal = float(rng.uniform(1.1, 1.9) * size)
    return focal, focal, size / 2, size / 2


def place(
    flat: np.ndarray, spot: tuple[float, float], reach: float, camera: Camera, rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    """(scale, shift [3]) that bring points [V,3], turned as they will be seen, to a spot of the image, `reach` of its
    side long."""
    size, depth = 2 * camera[2], float(rng.uniform(2.5, 5.0))
    longest = float(np.ptp(flat[:, :2], 0).max())
    scale = reach * size / camera[0] * depth / longest
    middle = [(spot[k] + rng.uniform(-0.07, 0.07)) * size for k in (0, 1)]
    shift = [(middle[0] - camera[2]) / camera[0] * depth, (middle[1] - camera[3]) / camera[1] * depth, depth]
    return scale, np.array(shift)


def seen_enough(picture: Picture) -> bool:
    """Whether of every body enough is visible to be found."""
    shown = np.array([np.count_nonzero(picture.owner == i) for i in range(len(picture.whole))])
    return bool((shown >= np.maximum(LEAST, SHARE * picture.whole)).all())


def annotated(mask: np.ndarray, category: int, whole: int) -> Annotation:
    """The COCO annotation of a visible mask; `visible`: its share of the whole body."""
    where = extent(mask)
    assert where is not None  # `seen_enough`
    rows, columns = where
    return {
        "category_id": category,
        "bbox": [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start],
        "area": int(mask.sum()),
        "iscrowd": 0,
        "segmentation": as_json(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))),
        "visible": round(float(mask.sum()) / max(whole, 1), 4),
    }
