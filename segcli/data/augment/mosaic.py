"""Mosaic augmentation (Bochkovskiy et al. 2020, arXiv:2004.10934): four images in the parts of one canvas."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

import numpy as np

from segcli.core.errors import UsageError
from segcli.data.augment.stages import Combine, Share, Size, Usual, refuse_mixed
from segcli.data.geometry import Scene
from segcli.types import Field


class Mosaic(Combine):
    def parts(self, canvas: Size, rng: np.random.Generator) -> list[Size]:
        """Four, which meet at a point in the middle of the canvas."""
        height, width = canvas
        y, x = (rng.uniform(0.3, 0.7, 2) * (height, width)).round().astype(int).clip(1).tolist()
        return [(y, x), (y, width - x), (height - y, x), (height - y, width - x)]

    def join(self, scenes: list[Scene]) -> Scene:
        return joined(scenes)


def build(
    *, mosaic: Annotated[Share, Usual(0.5)], fields: Mapping[str, type[Field]] = MappingProxyType({})
) -> Mosaic | None:
    """mosaic: the probability. Raises UsageError for a dataset with fields."""
    if mosaic:
        refuse_mixed("mosaic", fields)
    return Mosaic(mosaic) if mosaic else None


def joined(parts: list[Scene]) -> Scene:
    """Four scenes [top left, top right, bottom left, bottom right] -> one; neighbours' sides must agree.

    Raises UsageError where there are fields (keypoints ...), which can't be joined, or where some have masks only.
    """
    fields = sorted({name for part in parts for name in part.fields})
    if fields:
        raise UsageError(f"data.augment.mosaic: can't be used with {fields[0]}")
    if len({part.masks is None for part in parts}) > 1:
        raise UsageError("data.augment.mosaic: every image must have masks, or none")
    height, width = parts[0].image.shape[:2]
    corners = [(0, 0), (0, width), (height, 0), (height, width)]
    image = _block([part.image for part in parts])
    masks = None
    if parts[0].masks is not None:
        masks = np.zeros((sum(len(part.boxes) for part in parts), *image.shape[:2]), bool)
        first = 0
        for part, (y, x) in zip(parts, corners, strict=True):
            n, h, w = part.masks.shape  # type: ignore[union-attr]
            masks[first : first + n, y : y + h, x : x + w] = part.masks
            first += n
    boxes = [part.boxes + np.array([x, y, x, y], np.float32) for part, (y, x) in zip(parts, corners, strict=True)]
    maps = [part.semantic for part in parts if part.semantic is not None]
    return Scene(
        image=image,
        boxes=np.concatenate(boxes),
        labels=np.concatenate([part.labels for part in parts]),
        crowd=np.concatenate([part.crowd for part in parts]),
        masks=masks,
        semantic=_block(maps) if maps else None,
        fields={},
        area=np.concatenate([part.area for part in parts]),
        truncated=np.concatenate([part.truncated for part in parts]),
    )


def _block(parts: list[np.ndarray]) -> np.ndarray:
    """[h,w,...] each -> [H,W,...], two beside two."""
    return np.concatenate([np.concatenate(parts[:2], 1), np.concatenate(parts[2:], 1)])
