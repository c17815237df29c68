"""The lite proposal network: few, well-ranked proposals from an anchor-free dense head.

Two-stage detection gets by with a tenth of the proposals when the first stage is itself a well-trained one-stage
detector (Zhou et al., "Probabilistic two-stage detection", 2021). Its labels are assigned by how well prediction and
object agree, not by fixed overlaps (Feng et al., "TOOD", 2021), so every object has positives from the first step on.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss, nms

from segcli.core import distributed
from segcli.models.layers.pyramid import conv_norm
from segcli.ops.boxes import clamp
from segcli.ops.preprocess_graph import Framed
from segcli.types import Batch, Target


class DenseProposals(nn.Module):
    """One 3×3 layer shared by all levels, then a score for every class and distances to the four sides at every cell.

    Scoring classes here, not only object against background, gives the trunk a class signal at every cell of every
    object from the first step on, which a few sampled regions do not. proposals: kept in training and at inference,
    after non-maximum suppression at IoU `overlap` among the best 4× as many.
    """

    class_layers: tuple[str, ...] = ("classes.",)

    def __init__(
        self,
        num_things: int,
        channels: int,
        strides: list[int],
        *,
        proposals: tuple[int, int] = (32, 100),
        overlap: float = 0.7,
    ):
        super().__init__()
        self.strides, self.proposals, self.overlap = strides, proposals, overlap
        self.tower = conv_norm(channels, channels)
        self.classes = _head(channels, num_things, -4.0)  # objects are rare: start at 2 %
        self.sides = _head(channels, 4, 1.8)  # softplus(1.8) ≈ 2 cells to each side

    def propose(self, batch: Batch, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
        """-> proposals [n,4] and scores [n,C] an image, and the raw outputs: logits [B,N,C], boxes [B,N,4], points."""
        raw, _ = self.outputs(features)
        logit_BNC, boxes_BN4 = raw["logits"], raw["boxes"]
        kept, scores = [], []
        limit = self.proposals[0 if self.training else 1]
        for score_NC, boxes_N4, size in zip(logit_BNC.detach().sigmoid(), boxes_BN4.detach(), batch.sizes, strict=True):
            box, score = self.best(score_NC, boxes_N4, size, limit)
            kept.append(box)
            scores.append(score)
        return kept, scores, raw

    def candidates(self, raw: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """(boxes [N,4] on the canvas, best class's score [N] 0..1) of every cell, an image: before any is
        suppressed."""
        return list(zip(raw["boxes"], raw["logits"].sigmoid().amax(-1), strict=True))

    def deploy(self, framed: Framed, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """(proposals [n,4], scores [n,C]) of one image."""
        raw, _ = self.outputs(features)
        return self.best(raw["logits"][0].sigmoid(), raw["boxes"][0], framed.content, self.proposals[1])

    def best(
        self, score_NC: Tensor, boxes_N4: Tensor, size: tuple[int | Tensor, int | Tensor], limit: int
    ) -> tuple[Tensor, Tensor]:
        """One image's proposals [n,4] inside `size` (h, w), and their scores [n,C]."""
        best, at = score_NC.amax(1).topk(min(4 * limit, len(score_NC)))
        box = clamp(boxes_N4[at], size)
        solid = ((box[:, 2:] - box[:, :2]) >= 1.0).all(1)
        box, best, at = box[solid], best[solid], at[solid]
        keep = nms(box, best, self.overlap)[:limit]
        return box[keep], score_NC[at[keep]]

    def outputs(self, features: list[Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """({"logits" [B,N,C], "boxes" [B,N,4] xyxy on the canvas, "points" [N,2]} of cells, the tower's [B,N,D])."""
        towers = [self.tower(f) for f in features]
        tokens = lambda maps: torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
        points_N2, steps_N = _grid(features, self.strides)
        sides_BN4 = F.softplus(tokens([self.sides(t) for t in towers])) * steps_N[None, :, None]
        boxes_BN4 = torch.cat([points_N2 - sides_BN4[..., :2], points_N2 + sides_BN4[..., 2:]], -1)
        raw = {"logits": tokens([self.classes(t) for t in towers]), "boxes": boxes_BN4, "points": points_N2}
        return raw, tokens(towers)

    def loss(self, raw: dict[str, Tensor], targets: list[Target], seeds: list[int]) -> dict[str, Tensor]:
        """Varifocal loss on the agreement, GIoU and L1 on the boxes, all divided by the batch's summed agreement."""
        logit_BNC, boxes_BN4 = raw["logits"], raw["boxes"]
        target_BNC = torch.zeros_like(logit_BNC)
        crowd_BN = torch.zeros_like(logit_BNC[..., 0], dtype=torch.bool)
        weights, predicted, labelled = [], [], []
        for i, target in enumerate(targets):
            crowd = target.instances.crowd
            boxes, labels = target.instances.boxes.to(logit_BNC), target.instances.labels
            if crowd is not None and crowd.any():
                crowd_BN[i] = _inside(raw["points"], boxes[crowd]).any(1)
                boxes, labels = boxes[~crowd], labels[~crowd]
            if not len(boxes):
                continue
            score_NM = logit_BNC[i].detach()[:, labels].sigmoid()
            cell, matched, weight = align(score_NM, boxes_BN4[i].detach(), boxes, raw["points"])
            target_BNC[i, cell, labels[matched]] = weight
            weights.append(weight)
            predicted.append(boxes_BN4[i, cell])
            labelled.append(boxes[matched])
        weight_K = torch.cat(weights) if weights else logit_BNC.new_zeros(0)
        total = distributed.mean(weight_K.sum(), least=1.0)
        probability = logit_BNC.detach().sigmoid()
        importance = torch.where(target_BNC > 0, torch.ones_like(target_BNC), 0.75 * probability**1.5)
        importance = importance.masked_fill(crowd_BN[..., None] & (target_BNC == 0), 0.0)
        entropy = F.binary_cross_entropy_with_logits(logit_BNC, target_BNC, reduction="none")
        losses = {"loss_proposal_classes": (entropy * importance).sum() / total}
        if not len(weight_K):
            return {**losses, "loss_proposal_box": boxes_BN4.sum() * 0}
        a, b = torch.cat(predicted), torch.cat(labelled)
        giou = (generalized_box_iou_loss(a, b) * weight_K).sum() / total
        side = (b[:, 2:] - b[:, :2]).mean(1, keepdim=True).clamp(min=8.0)
        l1 = (((a - b).abs() / side).clamp(max=4.0).sum(1) * weight_K).sum() / total
        return {**losses, "loss_proposal_box": 2 * giou + 0.5 * l1}

    def count(self, features: list[Tensor]) -> None:
        for feature in features:
            tower = self.tower(feature)
            self.classes(tower)
            self.sides(tower)


def _head(channels: int, outputs: int, bias: float) -> nn.Conv2d:
    layer = nn.Conv2d(channels, outputs, 1)
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, bias)
    return layer


@torch.no_grad()
def align(
    score_NM: Tensor, boxes_N4: Tensor, labelled_M4: Tensor, points_N2: Tensor, top: int = 9
) -> tuple[Tensor, Tensor, Tensor]:
    """Task-aligned assignment (TOOD, equation 1 with α = 1, β = 5): the `top` cells inside each object whose
    score of its class · IoU⁵ is highest. score_NM: every cell's score of every object's class. -> cells [K], the object
    of each [K], and its target [K]: the agreement, scaled so that an object's best cell gets its IoU.
    """
    centre, half = (labelled_M4[:, :2] + labelled_M4[:, 2:]) / 2, (labelled_M4[:, 2:] - labelled_M4[:, :2]) / 2
    near = ((points_N2[:, None] - centre).abs() < half.clamp(min=6.0)).all(-1)
    overlap = iou_matrix(boxes_N4, labelled_M4).clamp(min=1e-4)
    agreement = score_NM * overlap**5 * near
    chosen = torch.zeros_like(near).scatter_(0, agreement.topk(min(top, len(score_NM)), 0).indices, True) & near
    best, matched = torch.where(chosen, overlap, 0.0).max(1)
    cell = torch.where(best > 0)[0]
    matched = matched[cell]
    strength = agreement[cell, matched]
    zero = strength.new_zeros(len(labelled_M4))
    strongest = zero.scatter_reduce(0, matched, strength, "amax")
    closest = zero.scatter_reduce(0, matched, overlap[cell, matched], "amax")
    return cell, matched, strength / (strongest[matched] + 1e-12) * closest[matched]


def iou_matrix(a_N4: Tensor, b_M4: Tensor) -> Tensor:
    """IoU [N,M] of xyxy boxes; 0 where both are empty."""
    low, high = torch.maximum(a_N4[:, None, :2], b_M4[:, :2]), torch.minimum(a_N4[:, None, 2:], b_M4[:, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    area = lambda box: (box[:, 2:] - box[:, :2]).clamp(min=0).prod(-1)
    return both / (area(a_N4)[:, None] + area(b_M4) - both).clamp(min=1e-9)


def _inside(points_N2: Tensor, boxes_M4: Tensor) -> Tensor:
    return ((points_N2[:, None] >= boxes_M4[:, :2]) & (points_N2[:, None] < boxes_M4[:, 2:])).all(-1)


def _grid(features: list[Tensor], strides: list[int]) -> tuple[Tensor, Tensor]:
    """Cell centres [N,2] as (x, y) on the canvas and their strides [N], level after level."""
    points, steps = [], []
    for feature, stride in zip(features, strides, strict=True):
        h, w = feature.shape[-2:]
        y = (torch.arange(h, device=feature.device) + 0.5) * stride
        x = (torch.arange(w, device=feature.device) + 0.5) * stride
        points.append(torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).view(-1, 2))
        steps.append(y.new_full((h * w,), stride))
    return torch.cat(points), torch.cat(steps)
