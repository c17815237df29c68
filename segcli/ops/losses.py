"""Set-prediction losses, as sums: the caller divides by a count that it has averaged over ranks and accumulation steps.

Legend: L decoder layers, B images, Q queries, C classes, N matched objects, P pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.ops import boxes


def cross_entropy(logits_LBQC: Tensor, labels_LBQ: Tensor, no_object: float) -> Tensor:
    """Cross-entropy summed over images and queries, [L].

    The last class is "no object"; its terms count `no_object` times. Divide by `cross_entropy_count`.
    """
    classes = logits_LBQC.shape[-1]
    weight = logits_LBQC.new_ones(classes)
    weight[-1] = no_object
    loss = F.cross_entropy(logits_LBQC.flatten(0, -2).float(), labels_LBQ.flatten(), weight.float(), reduction="none")
    return loss.view(len(logits_LBQC), -1).sum(1)


def matchability(logits: Tensor, targets: Tensor, gamma: float = 1.5) -> Tensor:
    """Matchability-aware loss of a sigmoid a class (Huang et al., "DEIM", 2025, equation 6), unreduced.

    targets: IoU^gamma at a matched query's class, else 0. Where nothing is matched, a logit counts by p^gamma, so that
    a sure error costs most; a matched pair counts in full, however bad its box is yet.
    """
    weight = torch.where(targets > 0, torch.ones_like(logits), logits.detach().sigmoid() ** gamma)
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * weight


def cross_entropy_count(matched: int, queries: int, no_object: float) -> float:
    """The sum of weights in `cross_entropy`: `matched` of all `queries` (both over the batch) have an object."""
    return matched + no_object * (queries - matched)


def l1(boxes_N4: Tensor, targets_N4: Tensor) -> Tensor:
    """Sum of absolute differences over the coordinates, [N]."""
    return (boxes_N4 - targets_N4).abs().sum(-1)


def giou(boxes_N4: Tensor, targets_N4: Tensor) -> Tensor:
    """1 - generalised IoU of xyxy boxes, [N] in 0..2."""
    return 1 - boxes.giou(boxes_N4, targets_N4)


def focal(logits_NP: Tensor, masks_NP: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Binary focal loss (Lin et al. 2017), mean over pixels, [N]. masks in 0..1, floating."""
    entropy = F.binary_cross_entropy_with_logits(logits_NP, masks_NP, reduction="none")
    p = logits_NP.sigmoid()
    wrong = p + masks_NP - 2 * p * masks_NP  # 1 - the probability of the right answer
    return (entropy * wrong**gamma * (1 - alpha + (2 * alpha - 1) * masks_NP)).mean(-1)


def dice(logits_NP: Tensor, masks_NP: Tensor) -> Tensor:
    """Dice loss with 1 added to both sides (Milletari et al. 2016), [N] in 0..1. masks in 0..1, floating."""
    p = logits_NP.sigmoid()
    return 1 - (2 * (p * masks_NP).sum(-1) + 1) / (p.sum(-1) + masks_NP.sum(-1) + 1)


def per_layer(values_M: Tensor, layers: int) -> Tensor:
    """Values of matched pairs (ordered by layer, the same number in each) -> their sum in each layer, [L].

    Without any pair the sums are 0 and still depend on `values_M`, so that every parameter keeps a (zero) gradient.
    """
    return values_M.reshape(layers, len(values_M) // layers).sum(1)


def target_classes(
    shape_LBQ: tuple[int, int, int], index: tuple[Tensor, Tensor, Tensor], labels_M: Tensor, no_object: int
) -> Tensor:
    """[L,B,Q] int64: the matched queries' labels, `no_object` everywhere else. index: layer, image, query [M]."""
    classes = torch.full(shape_LBQ, no_object, dtype=torch.int64, device=labels_M.device)
    classes[index] = labels_M
    return classes
