"""DETR's set loss (Carion et al. 2020, section 3.1): match queries with objects, then compare class, box and mask.

Legend: L decoder layers, B images, Q queries, N objects of the whole batch, M matched pairs over all layers.
"""

import dataclasses
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.core import distributed
from segcli.core.errors import DataError
from segcli.core.tasks import TASKS
from segcli.ops import boxes, losses
from segcli.ops.mask_losses import mask_losses
from segcli.ops.matcher import Matching, class_cost, giou_cost, l1_cost, match
from segcli.ops.segments import segments
from segcli.types import Target


@dataclasses.dataclass(frozen=True)
class DetrLoss:
    """Section `model.loss` of detr. class, l1, giou, mask (focal), dice: weights of the losses; the first three weigh
    the matching costs, too. no_object: weight of that class in the cross-entropy. auxiliary: losses on every decoder
    layer.
    """

    class_: float = 1.0
    l1: float = 5.0
    giou: float = 2.0
    mask: float = 1.0
    dice: float = 1.0
    no_object: float = 0.1
    auxiliary: bool = True


@dataclasses.dataclass(frozen=True)
class Objects:
    """What a batch holds, laid end to end.

    labels [N]; boxes [N,4] cxcywh as shares of their image (not of the canvas); masks bool [N,H,W] on the canvas, or
    None for a detector; counts: objects of each image.
    """

    labels: Tensor
    boxes: Tensor
    masks: Tensor | None
    counts: list[int]


def objects(
    targets: list[Target],
    task: str,
    *,
    classes: int,
    num_things: int,
    canvas: tuple[int, int],
    of_canvas: bool = False,
) -> Objects:
    """of_canvas: boxes become shares of the canvas, not of each image.

    detection, instance: the annotated objects; panoptic: one for each thing, one for each stuff
    class present; semantic: one for each class.

    Crowds, stuff that a detector has no class for, and boxes without area are left out: they are no object to find.
    Raises DataError naming the image where the task needs labels that are missing.
    """
    found = [
        _segments(t, task, num_things, canvas) if TASKS[task].stuff else _instances(t, task, classes) for t in targets
    ]
    labels, xyxy, masks = zip(*found, strict=True)
    sizes = [canvas if of_canvas else t.size for t in targets]
    shares = [boxes.to_cxcywh(b / b.new_tensor([w, h] * 2)) for b, (h, w) in zip(xyxy, sizes, strict=True)]
    canvases = None
    if TASKS[task].masks:
        canvases = torch.cat([F.pad(m, (0, canvas[1] - m.shape[2], 0, canvas[0] - m.shape[1])) for m in masks])
    return Objects(torch.cat(labels), torch.cat(shares), canvases, [len(x) for x in labels])


def match_objects(
    logits_LBQC: Tensor, boxes_LBQ4: Tensor, wanted: Objects, weights: DetrLoss, image_ids: list[int]
) -> Matching:
    """The best one-to-one pairs of queries and objects by class, L1 and GIoU, for every layer and image.

    boxes: cxcywh. Warns where an image has more objects than there are queries. Raises SegcliError on NaN.
    """
    queries = logits_LBQC.shape[2]
    for image_id, count in zip(image_ids, wanted.counts, strict=True):
        if count > queries:
            warnings.warn(
                f"image {image_id} has {count} objects and model.queries is {queries}: {count - queries} of them teach "
                "nothing at each step, and can't be found",
                stacklevel=2,
            )
    p_LBQC, found = logits_LBQC.detach().float().softmax(-1), boxes_LBQ4.detach().float()
    costs = []
    for i, (labels, target) in enumerate(
        zip(wanted.labels.split(wanted.counts), wanted.boxes.split(wanted.counts), strict=True)
    ):
        costs.append(
            weights.l1 * l1_cost(found[:, i], target)
            + weights.class_ * class_cost(p_LBQC[:, i], labels)
            + weights.giou * giou_cost(boxes.to_xyxy(found[:, i]), boxes.to_xyxy(target))
        )
    return match(costs, image_ids)


def class_and_box_losses(
    logits_LBQC: Tensor,
    boxes_LBQ4: Tensor,
    wanted: Objects,
    matching: Matching,
    weights: DetrLoss,
    normalisers: dict[str, float],
) -> dict[str, Tensor]:
    """Weighted losses of every layer, {"class" [L], "l1" [L], "giou" [L]}."""
    layers, batch, queries, classes = logits_LBQC.shape
    count = max(normalisers["objects"], 1 / distributed.parts())
    index = (matching.layer, matching.image, matching.query)
    answers = losses.target_classes((layers, batch, queries), index, wanted.labels[matching.object], classes - 1)
    found, target = matching.take(boxes_LBQ4).float(), wanted.boxes[matching.object]
    l1 = losses.l1(found, target)
    giou = losses.giou(boxes.to_xyxy(found), boxes.to_xyxy(target))
    return {
        "class": weights.class_ * losses.cross_entropy(logits_LBQC, answers, weights.no_object) / normalisers["class"],
        "l1": weights.l1 * losses.per_layer(l1, layers) / count,
        "giou": weights.giou * losses.per_layer(giou, layers) / count,
    }


def pair_mask_losses(
    masks_mhw: Tensor, wanted: Objects, matching: Matching, weights: DetrLoss, normalisers: dict[str, float]
) -> dict[str, Tensor]:
    """Weighted {"mask" (focal), "dice"} of logits [m,h,w] of the m pairs of one layer; means over the padded canvas."""
    assert wanted.masks is not None
    focal, dice = mask_losses(masks_mhw, wanted.masks, matching.object)
    count = max(normalisers["objects"], 1 / distributed.parts())
    return {"mask": weights.mask * focal.sum() / count, "dice": weights.dice * dice.sum() / count}


def last_layer(matching: Matching, layers: int) -> Matching:
    """The pairs of the last of `layers` layers alone."""
    here = slice(len(matching.layer) - len(matching.layer) // layers, None)
    return Matching(matching.layer[here], matching.image[here], matching.query[here], matching.object[here])


def normalisers(counts: list[int], queries: int, no_object: float) -> dict[str, float]:
    """What the losses of images with so many objects are divided by: {"objects", "class"}.

    Both are plain sums, so that they may be averaged over ranks and accumulation steps before they are used.
    """
    matched = sum(min(count, queries) for count in counts)
    return {
        "objects": float(sum(counts)),
        "class": losses.cross_entropy_count(matched, len(counts) * queries, no_object),
    }


def _instances(target: Target, task: str, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    found = target.instances
    flat = (found.boxes[:, 2:] <= found.boxes[:, :2]).any(1)  # False for NaN, which the matching then reports
    keep = ~flat & (found.labels < classes)
    if found.crowd is not None:
        keep &= ~found.crowd
    masks = found.boxes.new_zeros(0, *target.size, dtype=torch.bool)
    if TASKS[task].masks and len(found):
        if not isinstance(found.masks, Tensor):
            raise DataError(
                f"image {target.image_id}: its objects have no masks, and this model learns masks",
                hint="annotate polygons or RLE, or train a detector (task: detection)",
            )
        masks = found.masks[keep]
    return found.labels[keep], found.boxes[keep], masks


def _segments(target: Target, task: str, num_things: int, canvas: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    labels, masks = segments(target, task, num_things=num_things, canvas=canvas)
    return labels, boxes.from_masks(masks), masks
