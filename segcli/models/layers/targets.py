"""Targets of a set loss: the labels of a whole batch, laid end to end, and the divisors of its losses.

Legend: N objects or segments of the whole batch; H W the canvas.
"""

import dataclasses
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.core.errors import DataError
from segcli.core.tasks import TASKS
from segcli.ops import boxes, losses
from segcli.ops.segments import segments
from segcli.types import Batch, Target


@dataclasses.dataclass(frozen=True)
class Targets:
    """labels [N]; masks bool [N,H,W] on the canvas, [0,H,W] for a detector; counts: how many each image has."""

    labels: Tensor
    masks: Tensor
    counts: list[int]

    def by_image(self, *values: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Values of all targets, [N,…] each, image by image."""
        return zip(*(value.split(self.counts) for value in values), strict=True)


@dataclasses.dataclass(frozen=True)
class BoxTargets(Targets):
    """boxes [N,4] cxcywh, as shares of their image or, with `of_canvas`, of the canvas."""

    boxes: Tensor


def segment_targets(batch: Batch, task: str, num_things: int) -> Targets:
    """The labelled segments, see `ops.segments`. Raises DataError naming the image where the task's labels are
    missing."""
    assert batch.targets is not None
    canvas = (batch.images.shape[2], batch.images.shape[3])
    labels, masks = zip(*(segments(t, task, num_things=num_things, canvas=canvas) for t in batch.targets), strict=True)
    return Targets(torch.cat(labels), torch.cat(masks), [len(x) for x in labels])


def box_targets(batch: Batch, task: str, *, classes: int, num_things: int, of_canvas: bool = False) -> BoxTargets:
    """detection, instance: the labelled objects; panoptic: one target for each thing and for each stuff class present;
    semantic: one for each class.

    Crowds, stuff that a detector has no class for, and boxes without area are left out. Raises DataError naming the
    image where the task needs labels that are missing.
    """
    assert batch.targets is not None
    canvas = (batch.images.shape[2], batch.images.shape[3])
    labels, shares, masks = [], [], []
    for target in batch.targets:
        if TASKS[task].stuff:
            label, mask = segments(target, task, num_things=num_things, canvas=canvas)
            corners = boxes.from_masks(mask)
        else:
            label, corners, mask = _instances(target, task, classes)
        height, width = canvas if of_canvas else target.size
        labels.append(label)
        shares.append(boxes.to_cxcywh(corners / corners.new_tensor([width, height] * 2)))
        masks.append(F.pad(mask, (0, canvas[1] - mask.shape[2], 0, canvas[0] - mask.shape[1])))
    return BoxTargets(torch.cat(labels), torch.cat(masks), [len(x) for x in labels], torch.cat(shares))


def normalisers(counts: list[int], queries: int, no_object: float) -> dict[str, float]:
    """The divisors {"objects", "class"} of the losses of images with `counts` targets.

    Both are plain sums, so that they may be averaged over ranks and accumulation steps before they are used.
    """
    matched = sum(min(count, queries) for count in counts)
    return {
        "objects": float(sum(counts)),
        "class": losses.cross_entropy_count(matched, len(counts) * queries, no_object),
    }


def _instances(target: Target, task: str, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """(labels [n], boxes [n,4] xyxy, masks [n,h,w], or [0,h,w] for a detector) of the objects to be found."""
    objects = target.instances
    flat = (objects.boxes[:, 2:] <= objects.boxes[:, :2]).any(1)  # False for NaN, which the matching then reports
    keep = ~flat & (objects.labels < classes)
    if objects.crowd is not None:
        keep &= ~objects.crowd
    masks = objects.boxes.new_zeros(0, *target.size, dtype=torch.bool)
    if TASKS[task].masks and len(objects):
        if not isinstance(objects.masks, Tensor):
            raise DataError(
                f"image {target.image_id}: its objects have no masks, and this model learns masks",
                hint="annotate polygons or RLE, or train a detector (task: detection)",
            )
        masks = objects.masks[keep]
    return objects.labels[keep], objects.boxes[keep], masks
