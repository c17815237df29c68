"""Copy-paste augmentation (Ghiasi et al. 2021, arXiv:2012.07177): objects of another image, put on top of this one."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

import cv2
import numpy as np

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import UsageError
from segcli.data.augment.stages import Change, Draw, Share, Usual, refuse_mixed
from segcli.data.geometry import Scene, resize, window
from segcli.types import Field, Sample

MOST = 3  # objects a sample
SCALE = (0.5, 1.2)  # of the size at which the other image would fit the canvas
SMALLEST = 4  # pixels: shorter objects are not pasted


@dataclasses.dataclass
class CopyPaste(Change):
    probability: float

    def change(self, scene: Scene, draw: Draw, rng: np.random.Generator) -> None:
        if rng.random() < self.probability:
            paste(scene, draw(), rng)


def build(
    *,
    info: DatasetInfo,
    copy_paste: Annotated[Share, Usual(0.5)] = 0.0,
    fields: Mapping[str, type[Field]] = MappingProxyType({}),
) -> CopyPaste:
    """copy_paste: the probability. Raises UsageError for a dataset without things, or with fields."""
    if copy_paste:
        refuse_mixed("copy_paste", fields)
    if copy_paste and not info.num_things:
        raise UsageError(f"data.augment.copy_paste: the dataset {info.name!r} has no things to paste")
    return CopyPaste(copy_paste)


def paste(scene: Scene, other: Sample, rng: np.random.Generator) -> None:
    """Paste one to three objects of `other` at random places of `scene`, in place: masks below are cut, new objects
    come last. Crowd regions, and objects that would not fit the canvas, are not pasted.

    Raises UsageError where there are no masks, or fields (keypoints ...), which can't be mixed.
    """
    source = other.target.instances
    if scene.masks is None or source.masks is None:
        raise UsageError("data.augment.copy_paste: the dataset has boxes only, and pasting needs masks")
    if scene.fields or source.fields:
        raise UsageError(f"data.augment.copy_paste: can't be used with {sorted(scene.fields or source.fields)[0]}")
    crowd = np.zeros(len(source), bool) if source.crowd is None else source.crowd.numpy()
    candidates = np.flatnonzero(~crowd)
    pieces = []
    for _ in range(int(rng.integers(1, MOST + 1))):
        if len(candidates):
            piece = _piece(other, int(rng.choice(candidates)), scene.image.shape[:2], rng)
            pieces += [piece] if piece is not None else []
    if not pieces:
        return
    count, (height, width) = len(scene.boxes), scene.image.shape[:2]
    scene.masks = np.concatenate([scene.masks, np.zeros((len(pieces), height, width), bool)])
    scene.boxes = np.concatenate([scene.boxes, np.zeros((len(pieces), 4), np.float32)])
    scene.labels = np.concatenate([scene.labels, np.array([label for _, _, label in pieces], np.int64)])
    scene.crowd = np.concatenate([scene.crowd, np.zeros(len(pieces), bool)])
    scene.area = np.concatenate([scene.area, [float(np.count_nonzero(mask)) for _, mask, _ in pieces]])
    scene.truncated = np.concatenate([scene.truncated, np.zeros(len(pieces), bool)])
    for i, (pixels, mask, label) in enumerate(pieces, count):
        h, w = mask.shape
        y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
        place = (slice(y, y + h), slice(x, x + w))
        np.copyto(scene.image[place], pixels, where=mask[:, :, None])
        if scene.semantic is not None:
            scene.semantic[place][mask] = label
        below = scene.boxes[:i]
        touched = (below[:, 0] < x + w) & (below[:, 2] > x) & (below[:, 1] < y + h) & (below[:, 3] > y)
        for j in np.flatnonzero(touched):
            covered = scene.masks[j][place]
            scene.truncated[j] |= bool((covered & mask).any())
            covered &= ~mask
        scene.masks[i][place] = mask
        scene.boxes[i] = x, y, x + w, y + h
    scene.tighten()


def _piece(
    other: Sample, i: int, canvas: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, int] | None:
    """Object i of `other`, rescaled, perhaps mirrored: (uint8 [h,w,3], bool [h,w], label); None if unusable."""
    (height, width), (h, w) = other.target.size, canvas
    instances = other.target.instances
    part = window(instances.boxes[i].numpy())
    mask = instances.mask(i)[part]
    scale = min(h / height, w / width) * rng.uniform(*SCALE)
    mirrored = rng.random() < 0.5
    new_h, new_w = round(mask.shape[0] * scale), round(mask.shape[1] * scale)
    if min(new_h, new_w) < SMALLEST or new_h > h or new_w > w:
        return None
    pixels = resize(np.ascontiguousarray(other.image[part]), (new_h, new_w))
    shape = np.ascontiguousarray(mask).view(np.uint8)
    mask = cv2.resize(shape, (new_w, new_h), interpolation=cv2.INTER_NEAREST_EXACT).view(bool)
    if not mask.any():
        return None
    if mirrored:
        pixels, mask = pixels[:, ::-1], mask[:, ::-1]
    return pixels, mask, int(instances.labels[i])
