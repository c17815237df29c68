"""The set loss of box queries: DETR's one-to-one matching with a sigmoid a class, whose target is the box's IoU.

Legend: L decoder layers, B images, Q queries, C classes, M matched pairs over all layers, K denoising pairs.
"""

import dataclasses

import torch
from torch import Tensor

from segcli.models.layers.denoising import Noise
from segcli.models.layers.targets import BoxTargets
from segcli.ops import boxes, losses
from segcli.ops.matcher import Matching, focal_class_cost, giou_cost, l1_cost, match, total

GAMMA = 1.5  # of the target IoU^gamma and of the weight of unmatched queries
CLASS_COST = 2.0


@dataclasses.dataclass(frozen=True)
class BoxLoss:
    """Section `model.loss` of detr_lite: weights of the losses. l1 and giou weigh the matching costs, too; the class
    cost has the fixed weight CLASS_COST."""

    class_: float = 1.0
    l1: float = 5.0
    giou: float = 2.0


def costs(logits_LBQC: Tensor, boxes_LBQ4: Tensor, targets: BoxTargets, weights: BoxLoss) -> list[dict[str, Tensor]]:
    """For each image the weighted matching costs {"class", "l1", "giou"}, [L,Q,N] each; their sum is what is matched
    by.

    boxes: cxcywh."""
    logits, predicted = logits_LBQC.detach().float(), boxes_LBQ4.detach().float()
    return [
        {
            "class": CLASS_COST * focal_class_cost(logits[:, i], labels),
            "l1": weights.l1 * l1_cost(predicted[:, i], target),
            "giou": weights.giou * giou_cost(boxes.to_xyxy(predicted[:, i]), boxes.to_xyxy(target)),
        }
        for i, (labels, target) in enumerate(targets.by_image(targets.labels, targets.boxes))
    ]


def match_boxes(
    logits_LBQC: Tensor, boxes_LBQ4: Tensor, targets: BoxTargets, weights: BoxLoss, image_ids: list[int]
) -> Matching:
    """One-to-one pairs of least cost for every layer and image. boxes: cxcywh. Raises SegcliError on NaN."""
    return match([total(parts) for parts in costs(logits_LBQC, boxes_LBQ4, targets, weights)], image_ids)


def class_and_box_losses(
    logits_LBQC: Tensor,
    boxes_LBQ4: Tensor,
    targets: BoxTargets,
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
    predicted, target = matching.take(boxes_LBQ4).float(), targets.boxes[matching.object]
    corners, target_corners = boxes.to_xyxy(predicted), boxes.to_xyxy(target)
    quality_targets = torch.zeros_like(logits_LBQC, dtype=torch.float32)
    quality = boxes.iou(corners.detach(), target_corners).clamp(min=0.01) ** GAMMA
    quality_targets[matching.layer, matching.image, matching.query, targets.labels[matching.object]] = quality
    by_class = losses.matchability(logits_LBQC.float(), quality_targets, GAMMA)
    return {
        "class": weights.class_ * (by_class * share_BQ[..., None]).sum() / count,
        "l1": weights.l1 * (losses.l1(predicted, target) * share_M).sum() / count,
        "giou": weights.giou * (losses.giou(corners, target_corners) * share_M).sum() / count,
    }


def denoising_losses(
    logits_LBNC: Tensor, boxes_LBN4: Tensor, targets: BoxTargets, noise: Noise, weights: BoxLoss, count: float
) -> dict[str, Tensor]:
    """The same losses of the noisy copies, {"class_dn", "l1_dn", "giou_dn"}: all groups of an image weigh as much as
    its matched set."""
    layers = len(logits_LBNC)
    layer = torch.arange(layers, device=noise.image.device).repeat_interleave(len(noise.image))
    pairs = Matching(layer, noise.image.repeat(layers), noise.query.repeat(layers), noise.object.repeat(layers))
    of_copies = class_and_box_losses(logits_LBNC, boxes_LBN4, targets, pairs, weights, count, noise.share)
    return {f"{name}_dn": value for name, value in of_copies.items()}
