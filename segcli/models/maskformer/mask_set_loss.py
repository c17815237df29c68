"""MaskFormer's set loss (Cheng et al., 2021, section 3.2): match queries with segments, then compare class and mask.

All queries' masks are needed for matching alone, where no gradient flows: they exist for one layer of one image at a
time. Losses then recompute the masks of matched queries.

L decoder layers, B images, Q queries, C channels, M matched pairs over all layers, N segments of the whole batch, P
pixels; h w size of the mask logits, H W of the canvas.
"""

import dataclasses

import torch
from torch import Tensor

from segcli.core import distributed
from segcli.models.layers.targets import Targets
from segcli.ops import losses
from segcli.ops.mask_losses import mask_losses
from segcli.ops.matcher import Matching, class_cost, dice_cost, focal_cost, match, total
from segcli.ops.segments import shrink


@dataclasses.dataclass(frozen=True)
class MaskLoss:
    """Section `model.loss` of maskformer and mask2former_lite.

    class, mask, dice: weights of the losses and of the same matching costs. no_object: weight of that class in the
    cross-entropy. auxiliary: losses on every decoder layer. points (Mask2Former): masks are learned at so many sampled
    points a segment, by their cross-entropy (null: whole masks, focal).
    """

    class_: float = 1.0
    mask: float = 20.0
    dice: float = 1.0
    no_object: float = 0.1
    auxiliary: bool = True
    points: int | None = None


@dataclasses.dataclass(frozen=True)
class MaskOutputs:
    """class logits [L,B,Q,classes+1], mask embeddings [L,B,Q,C], pixel embeddings [B,C,h,w]."""

    logits: Tensor
    embeddings: Tensor
    pixels: Tensor

    def last(self) -> "MaskOutputs":
        """The last decoder layer alone."""
        return MaskOutputs(self.logits[-1:], self.embeddings[-1:], self.pixels)


@torch.no_grad()
def segment_costs(out: MaskOutputs, targets: Targets, weights: MaskLoss) -> list[dict[str, Tensor]]:
    """For each image the weighted matching costs {"mask" (focal), "dice", "class"}, [L,Q,N] each, at the mask logits'
    size; their sum is what is matched by."""
    small_NP = shrink(targets.masks, (out.pixels.shape[2], out.pixels.shape[3]))
    costs = []
    for i, (labels, masks_NP) in enumerate(targets.by_image(targets.labels, small_NP)):
        focal, dice = [], []
        for embeddings_QC in out.embeddings[:, i]:
            logits_1QP = (embeddings_QC @ out.pixels[i].flatten(1)).float()[None]
            focal.append(weights.mask * focal_cost(logits_1QP, masks_NP))
            dice.append(weights.dice * dice_cost(logits_1QP, masks_NP))
        by_class = weights.class_ * class_cost(out.logits[:, i].float().softmax(-1), labels)
        costs.append({"mask": torch.cat(focal), "dice": torch.cat(dice), "class": by_class})
    return costs


def match_segments(out: MaskOutputs, targets: Targets, weights: MaskLoss, image_ids: list[int]) -> Matching:
    """The best one-to-one pairs by class, focal and dice cost, for every layer and image."""
    return match([total(parts) for parts in segment_costs(out, targets, weights)], image_ids)


def set_losses(
    out: MaskOutputs,
    targets: Targets,
    matching: Matching,
    weights: MaskLoss,
    normalisers: dict[str, float],
    pairs: tuple[Tensor, Tensor],
) -> dict[str, Tensor]:
    """Weighted losses of every layer, {"class" [L], "mask" [L], "dice" [L]}.

    pairs: (mask loss [M], dice [M]) of the matched pairs, from `pair_losses` or at sampled points.
    """
    layers, images, queries, classes = out.logits.shape
    count = max(normalisers["objects"], 1 / distributed.parts())
    index = (matching.layer, matching.image, matching.query)
    labels = losses.target_classes((layers, images, queries), index, targets.labels[matching.object], classes - 1)
    by_class = losses.cross_entropy(out.logits, labels, weights.no_object) / normalisers["class"]
    mask_M, dice_M = pairs
    return {
        "class": weights.class_ * by_class,
        "mask": weights.mask * losses.per_layer(mask_M, layers) / count,
        "dice": weights.dice * losses.per_layer(dice_M, layers) / count,
    }


def pair_losses(out: MaskOutputs, targets: Targets, matching: Matching) -> tuple[Tensor, Tensor]:
    """focal [M] and dice [M] of the matched pairs' whole masks, computed image by image."""
    chosen_MC = matching.take(out.embeddings)
    orders, values = [], []
    for i, pixels_Chw in enumerate(out.pixels):
        here = (matching.image == i).nonzero()[:, 0]
        logits_mhw = torch.einsum("mc,chw->mhw", chosen_MC[here], pixels_Chw)
        values.append(torch.stack(mask_losses(logits_mhw, targets.masks, matching.object[here])))
        orders.append(here)
    focal_M, dice_M = torch.cat(values, 1)[:, torch.cat(orders).argsort()]
    return focal_M, dice_M
