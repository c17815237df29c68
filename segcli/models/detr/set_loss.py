"""DETR's set loss (Carion et al. 2020, section 3.1): match queries with objects, then compare class, box and mask.

Legend: L decoder layers, B images, Q queries, M matched pairs over all layers, m those of one layer.
"""

import dataclasses

from torch import Tensor

from segcli.core import distributed
from segcli.models.layers.targets import BoxTargets
from segcli.ops import boxes, losses
from segcli.ops.mask_losses import mask_losses
from segcli.ops.matcher import Matching, class_cost, giou_cost, l1_cost, match, total


@dataclasses.dataclass(frozen=True)
class DetrLoss:
    """Section `model.loss` of detr. class, l1, giou, mask (focal), dice: weights of the losses; the first three weigh
    the matching costs, too; mask and dice have no effect in task detection. no_object: weight of that class in the
    cross-entropy. auxiliary: losses on every decoder layer.
    """

    class_: float = 1.0
    l1: float = 5.0
    giou: float = 2.0
    mask: float = 1.0
    dice: float = 1.0
    no_object: float = 0.1
    auxiliary: bool = True


def costs(logits_LBQC: Tensor, boxes_LBQ4: Tensor, targets: BoxTargets, weights: DetrLoss) -> list[dict[str, Tensor]]:
    """For each image the weighted matching costs {"l1", "class", "giou"}, [L,Q,N] each; their sum is what is matched
    by.

    boxes: cxcywh."""
    p_LBQC, predicted = logits_LBQC.detach().float().softmax(-1), boxes_LBQ4.detach().float()
    return [
        {
            "l1": weights.l1 * l1_cost(predicted[:, i], target),
            "class": weights.class_ * class_cost(p_LBQC[:, i], labels),
            "giou": weights.giou * giou_cost(boxes.to_xyxy(predicted[:, i]), boxes.to_xyxy(target)),
        }
        for i, (labels, target) in enumerate(targets.by_image(targets.labels, targets.boxes))
    ]


def match_objects(
    logits_LBQC: Tensor, boxes_LBQ4: Tensor, targets: BoxTargets, weights: DetrLoss, image_ids: list[int]
) -> Matching:
    """The best one-to-one pairs of queries and objects by class, L1 and GIoU, for every layer and image.

    boxes: cxcywh. Raises NotFiniteError on NaN.
    """
    return match([total(parts) for parts in costs(logits_LBQC, boxes_LBQ4, targets, weights)], image_ids)


def class_and_box_losses(
    logits_LBQC: Tensor,
    boxes_LBQ4: Tensor,
    targets: BoxTargets,
    matching: Matching,
    weights: DetrLoss,
    normalisers: dict[str, float],
) -> dict[str, Tensor]:
    """Weighted losses of every layer, {"class" [L], "l1" [L], "giou" [L]}."""
    layers, batch, queries, classes = logits_LBQC.shape
    count = max(normalisers["objects"], 1 / distributed.parts())
    index = (matching.layer, matching.image, matching.query)
    labels = losses.target_classes((layers, batch, queries), index, targets.labels[matching.object], classes - 1)
    predicted, target = matching.take(boxes_LBQ4).float(), targets.boxes[matching.object]
    l1 = losses.l1(predicted, target)
    giou = losses.giou(boxes.to_xyxy(predicted), boxes.to_xyxy(target))
    return {
        "class": weights.class_ * losses.cross_entropy(logits_LBQC, labels, weights.no_object) / normalisers["class"],
        "l1": weights.l1 * losses.per_layer(l1, layers) / count,
        "giou": weights.giou * losses.per_layer(giou, layers) / count,
    }


def pair_mask_losses(
    masks_mhw: Tensor, targets: BoxTargets, matching: Matching, weights: DetrLoss, normalisers: dict[str, float]
) -> dict[str, Tensor]:
    """Weighted {"mask" (focal), "dice"} of logits [m,h,w]; means over the padded canvas."""
    focal, dice = mask_losses(masks_mhw, targets.masks, matching.object)
    count = max(normalisers["objects"], 1 / distributed.parts())
    return {"mask": weights.mask * focal.sum() / count, "dice": weights.dice * dice.sum() / count}


def last_layer(matching: Matching, layers: int) -> Matching:
    """The pairs of the last of `layers` layers alone."""
    here = slice(len(matching.layer) - len(matching.layer) // layers, None)
    return Matching(matching.layer[here], matching.image[here], matching.query[here], matching.object[here])
