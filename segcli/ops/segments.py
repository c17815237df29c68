"""Ground-truth segments (labels, masks) for mask classification."""

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.core.errors import DataError
from segcli.core.tasks import TASKS
from segcli.ops.resize_labels import resize_nearest
from segcli.types import Target


def segments(target: Target, task: str, *, num_things: int, canvas: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """labels [N] int64 and masks bool [N,*canvas] of one image; segments without a pixel on the canvas are left out.

    semantic: one mask for each class present. instance: one for each thing. panoptic: one for each thing, one for each
    stuff class present. Crowd regions and unlabelled pixels belong to no segment: they are background to
    every mask, as in the official code. Raises DataError naming the image where the task's labels are missing.
    """
    labels, masks = [], []
    if TASKS[task].things:
        objects = target.instances
        masks_of = objects.masks if len(objects) else torch.zeros(0, *target.size, dtype=torch.bool)
        if not isinstance(masks_of, Tensor):
            raise DataError(
                f"image {target.image_id}: its objects have no masks, and task {task} needs them",
                hint="annotate polygons or RLE, or train a detector (task: detection)",
            )
        kept = torch.ones_like(objects.labels, dtype=torch.bool) if objects.crowd is None else ~objects.crowd
        kept &= objects.labels < num_things
        labels.append(objects.labels[kept])
        masks.append(masks_of.to(kept.device)[kept])
    if TASKS[task].stuff:
        semantic = semantic_labels(target, task)
        present = semantic.unique()
        present = present[(present != target.ignore) & (present >= (num_things if TASKS[task].things else 0))]
        labels.append(present)
        masks.append(semantic == present[:, None, None])
    label, mask = torch.cat(labels), torch.cat(masks)
    visible = mask.flatten(1).any(1)
    label, mask = label[visible], mask[visible]
    (height, width), (h, w) = canvas, mask.shape[1:]
    return label, F.pad(mask, (0, width - w, 0, height - h))


def shrink(masks_NHW: Tensor, size: tuple[int, int]) -> Tensor:
    """bool [N,H,W] -> float [N,h*w] by nearest neighbour: targets for matching with mask logits of `size`."""
    return resize_nearest(masks_NHW, size).flatten(1).float()


def label_maps(targets: list[Target], canvas: tuple[int, int], task: str = "semantic") -> Tensor:
    """Semantic labels of the images on one canvas, int64 [B,H,W], `ignore` in the padding. Raises DataError naming the
    image if `task`'s labels are missing."""
    maps = []
    for target in targets:
        labels = semantic_labels(target, task)
        height, width = labels.shape
        maps.append(F.pad(labels, (0, canvas[1] - width, 0, canvas[0] - height), value=target.ignore))
    return torch.stack(maps).long()


def semantic_labels(target: Target, task: str) -> Tensor:
    """The image's label map [h,w]. Raises DataError naming the image where it has none."""
    if target.semantic is None:
        raise DataError(
            f"image {target.image_id} has no semantic labels, and task {task} needs them",
            hint="segcli prepare the dataset again",
        )
    return target.semantic
