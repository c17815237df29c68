"""Set losses of masks at sampled points (Cheng et al., "Mask2Former", 2022, section 3.3; after PointRend, 2020).

Matching compares all queries at the same random points of an image. The losses then read each matched pair where its
mask is least certain.

L decoder layers, B images, Q queries, E width of the embeddings, M matched pairs, N segments, P points.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.models.layers.sampler import keyed_generator
from segcli.models.layers.targets import Targets
from segcli.models.maskformer.mask_set_loss import MaskLoss, MaskOutputs
from segcli.ops import losses
from segcli.ops.matcher import Matching, class_cost, dice_cost, in_order, match

OVERSAMPLED, IMPORTANT = 3, 0.75  # PointRend's: of 3 P random points the least certain ones make up three quarters of P


def read_points(maps_NEhw: Tensor, points_NP2: Tensor) -> Tensor:
    """[N,E,P]: maps read bilinearly at points (x, y) in 0..1, shares of the canvas."""
    return F.grid_sample(maps_NEhw, 2 * points_NP2[:, None] - 1, align_corners=False, padding_mode="border")[:, :, 0]


def logits_at(embeddings_ME: Tensor, pixels_EHW: Tensor, points_MP2: Tensor) -> Tensor:
    """[M,P]: each mask's logits (embedding · pixel) at its own points (x, y) in 0..1.

    The masks are drawn whole and then read. Reading the pixel embeddings first gives the same, for logits are linear in
    them, but moves E numbers a point where this moves one: 2 to 40 times slower on a CPU.
    """
    masks_M1HW = (embeddings_ME @ pixels_EHW.flatten(1)).view(-1, 1, *pixels_EHW.shape[1:])
    grid = 2 * points_MP2[:, None] - 1
    return F.grid_sample(masks_M1HW, grid, align_corners=False, padding_mode="border")[:, 0, 0]


def masks_at(masks_NHW: Tensor, object_M: Tensor, points_MP2: Tensor) -> Tensor:
    """float [M,P]: the bool mask of each row's object at the row's points (x, y) in 0..1."""
    height, width = masks_NHW.shape[1:]
    x, y = (points_MP2 * points_MP2.new_tensor([width, height])).long().unbind(-1)
    return masks_NHW[object_M[:, None], y, x].float()


@torch.no_grad()
def match_at_points(
    out: MaskOutputs, targets: Targets, weights: MaskLoss, points: int, image_ids: list[int], seeds: list[int]
) -> Matching:
    """One-to-one pairs by class, cross-entropy and dice at `points` random points of each image."""
    costs, alike, start = [], [torch.zeros_like(targets.labels[:0])], 0
    for i, (labels, masks_NHW) in enumerate(targets.by_image(targets.labels, targets.masks)):
        places = _random((1, points, 2), seeds[i] if seeds else i, 41, out.pixels.device)
        logits_LQP = out.embeddings[:, i] @ read_points(out.pixels[i : i + 1], places)[0]
        every = torch.arange(len(masks_NHW), device=places.device)
        labels_NP = masks_at(masks_NHW, every, places.expand(len(masks_NHW), -1, -1))
        logits_LQP = logits_LQP.float()
        entropy = (F.softplus(logits_LQP).sum(-1, keepdim=True) - logits_LQP @ labels_NP.T) / points
        by_mask = weights.mask * entropy + weights.dice * dice_cost(logits_LQP, labels_NP)
        costs.append(by_mask + weights.class_ * class_cost(out.logits[:, i].float().softmax(-1), labels))
        alike.append(start + _first_alike(labels, labels_NP))
        start += len(labels)
    return in_order(match(costs, image_ids), torch.cat(alike))


def _first_alike(labels_N: Tensor, read_NP: Tensor) -> Tensor:
    """[N]: the first segment of the same class with the same values at all points, as small ones have that none hit."""
    if not len(labels_N):
        return labels_N
    with torch.autocast(read_NP.device.type, enabled=False):  # counts, to the last one
        both_NN, own_N = read_NP @ read_NP.T, read_NP.sum(-1)
    same_NN = (both_NN == own_N) & (both_NN == own_N[:, None]) & (labels_N == labels_N[:, None])
    return same_NN.int().argmax(1)


def losses_at_points(
    out: MaskOutputs, targets: Targets, matching: Matching, points: int, seeds: list[int]
) -> tuple[Tensor, Tensor]:
    """(cross-entropy [M], dice [M]) of the matched pairs, each at the points where its own mask is least certain."""
    chosen_ME = matching.take(out.embeddings)
    entropy = [chosen_ME.flatten()[:0], out.pixels.flatten()[:0]]  # without any pair, gradients are 0 and not missing
    dice = [chosen_ME.new_zeros(0)]
    orders = [matching.image.new_zeros(0)]
    for i, pixels in enumerate(out.pixels):
        here = (matching.image == i).nonzero()[:, 0]
        if not len(here):
            continue
        embedding_mE = chosen_ME[here]
        seed = seeds[i] if seeds else i
        with torch.no_grad():
            many = _random((1, OVERSAMPLED * points, 2), seed, 43, pixels.device)
            logits = embedding_mE @ read_points(pixels[None], many)[0]
            uncertain = int(points * IMPORTANT)
            at = logits.abs().topk(uncertain, 1, largest=False).indices
            random = _random((len(here), points - uncertain, 2), seed, 47, pixels.device)
            places_mP2 = torch.cat([many[0][at], random], 1)
        logits_mP = logits_at(embedding_mE, pixels, places_mP2).float()
        labels_mP = masks_at(targets.masks, matching.object[here], places_mP2)
        entropy.append(F.binary_cross_entropy_with_logits(logits_mP, labels_mP, reduction="none").mean(-1))
        dice.append(losses.dice(logits_mP, labels_mP))
        orders.append(here)
    order = torch.cat(orders).argsort()
    return torch.cat(entropy)[order], torch.cat(dice)[order]


def _random(shape: tuple[int, ...], seed: int, salt: int, device: torch.device) -> Tensor:
    return torch.rand(*shape, generator=keyed_generator(seed, salt)).clamp_(max=1 - 1e-4).to(device)
