"""The set loss of box queries: DETR's one-to-one matching with a sigmoid a class whose goal is how good the box is.

Legend: L decoder layers, B images, Q queries, C classes, M matched pairs over all layers, K denoising pairs.
"""

import dataclasses

import torch
from torch import Tensor

from segcli.models.layers.denoising import Noise
from segcli.models.layers.set_loss import Objects
from segcli.ops import boxes, losses
from segcli.ops.matcher import Matching, focal_class_cost, giou_cost, l1_cost, match

GAMMA = 1.5  # of the goal IoU^gamma and of the weight of unmatched queries
CLASS_COST = 2.0


@dataclasses.dataclass(frozen=True)
class BoxLoss:
    """Section `model.loss` of detr_lite: weights of the losses and, with CLASS_COST, of the matching costs."""

    class_: float = 1.0
    l1: float = 5.0
    giou: float = 2.0


def match_boxes(
    logits_LBQC: Tensor, boxes_LBQ4: Tensor, wanted: Objects, weights: BoxLoss, image_ids: list[int]
) -> Matching:
    """One-to-one pairs of least cost for every layer and image. boxes: cxcywh. Raises SegcliError on NaN."""
    logits, found = logits_LBQC.detach().float(), boxes_LBQ4.detach().float()
    costs = []
    for i, (labels, target) in enumerate(
        zip(wanted.labels.split(wanted.counts), wanted.boxes.split(wanted.counts), strict=True)
    ):
        costs.append(
            CLASS_COST * focal_class_cost(logits[:, i], labels)
            + weights.l1 * l1_cost(found[:, i], target)
            + weights.giou * giou_cost(boxes.to_xyxy(found[:, i]), boxes.to_xyxy(target))
        )
    return match(costs, image_ids)


def class_and_box_losses(
    logits_LBQC: Tensor,
    boxes_LBQ4: Tensor,
    wanted: Objects,
    matching: Matching,
    weights: BoxLoss,
    count: float,
    share_BQ: Tensor | None = None,
) -> dict[str, Tensor]:
    """Weighted losses summed over the layers, {"class", "l1", "giou"}, divided by `count`. share: each query's weight
    (None: 1)."""
    if share_BQ is None:
        share_BQ = boxes_LBQ4.new_ones(boxes_LBQ4.shape[1:3], dtype=torch.float32)
    share_M = share_BQ[matching.image, matching.query]
    found, target = matching.take(boxes_LBQ4).float(), wanted.boxes[matching.object]
    corners, wanted_corners = boxes.to_xyxy(found), boxes.to_xyxy(target)
    goals = torch.zeros_like(logits_LBQC, dtype=torch.float32)
    quality = boxes.iou(corners.detach(), wanted_corners).clamp(min=0.01) ** GAMMA
    goals[matching.layer, matching.image, matching.query, wanted.labels[matching.object]] = quality
    by_class = losses.matchability(logits_LBQC.float(), goals, GAMMA)
    return {
        "class": weights.class_ * (by_class * share_BQ[..., None]).sum() / count,
        "l1": weights.l1 * (losses.l1(found, target) * share_M).sum() / count,
        "giou": weights.giou * (losses.giou(corners, wanted_corners) * share_M).sum() / count,
    }


def denoising_losses(
    logits_LBNC: Tensor, boxes_LBN4: Tensor, wanted: Objects, noise: Noise, weights: BoxLoss, count: float
) -> dict[str, Tensor]:
    """The same of the noisy copies, {"class_dn", "l1_dn", "giou_dn"}: all groups of an image weigh as much as its
    matched set."""
    layers = len(logits_LBNC)
    layer = torch.arange(layers, device=noise.image.device).repeat_interleave(len(noise.image))
    pairs = Matching(layer, noise.image.repeat(layers), noise.query.repeat(layers), noise.object.repeat(layers))
    found = class_and_box_losses(logits_LBNC, boxes_LBN4, wanted, pairs, weights, count, noise.share)
    return {f"{name}_dn": value for name, value in found.items()}
