"""Bipartite matching of queries with labelled objects (Carion et al. 2020, section 3.1), and the costs it weighs.

Legend: L decoder layers, B images, Q queries, N objects of one image, C classes, P pixels, M matched pairs.
"""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from segcli.core.errors import NotFiniteError
from segcli.ops import boxes


@dataclasses.dataclass(frozen=True)
class Matching:
    """The matched pairs of all layers and images, ordered by layer, then image, then query.

    layer, image, query [M] int64 index tensors of shape [L,B,Q,...]; object [M] indexes the objects of all images laid
    end to end. Every layer has M/L pairs: min(Q, N) an image.
    """

    layer: Tensor
    image: Tensor
    query: Tensor
    object: Tensor

    def take(self, outputs_LBQx: Tensor) -> Tensor:
        """The outputs of the matched queries, [M,...]."""
        return outputs_LBQx[self.layer, self.image, self.query]

    def pairs(self, layer: int, image: int) -> tuple[Tensor, Tensor]:
        """(queries, objects) of one layer and image, [m] each; objects count from the first object of the batch."""
        here = (self.layer == layer) & (self.image == image)
        return self.query[here], self.object[here]


@torch.no_grad()
def match(costs: list[Tensor], image_ids: list[int]) -> Matching:
    """The pairs of least total cost, for every layer and image on its own.

    costs: one [L,Q,N] tensor an image (N may be 0 and may exceed Q), on one device. All of them travel to the host in
    one transfer, and the result travels back in one. Raises NotFiniteError naming the image where a cost is not finite.
    """
    layers, queries = costs[0].shape[:2]
    host = torch.cat([c.float().flatten() for c in costs]).cpu().numpy()
    counts = [c.shape[2] for c in costs]
    ends = np.cumsum([layers * queries * n for n in counts])
    tables = [t.reshape(layers, queries, n) for t, n in zip(np.split(host, ends[:-1]), counts, strict=True)]
    if not np.isfinite(host).all():
        bad = [str(i) for i, t in zip(image_ids, tables, strict=True) if not np.isfinite(t).all()]
        raise NotFiniteError(
            f"the matching costs of image {', '.join(bad)} are not finite: the model's outputs or the labels hold "
            "NaN or infinity",
            term="matching costs",
            hint="lower train.optimizer.lr or set train.clip; `segcli prepare --check` finds broken boxes",
        )
    starts = np.cumsum([0, *counts])
    rows = []
    for layer in range(layers):
        for image, table in enumerate(tables):
            query, target = linear_sum_assignment(table[layer])
            place = np.full((2, len(query)), [[layer], [image]])
            rows.append(np.concatenate([place, query[None], target[None] + starts[image]]))
    index = torch.from_numpy(np.concatenate(rows, axis=1).astype(np.int64)).to(costs[0].device)
    return Matching(*index)


def total(parts: dict[str, Tensor]) -> Tensor:
    """The sum of costs, in their order."""
    first, *others = parts.values()
    for part in others:
        first = first + part
    return first


def in_order(matching: Matching, alike_N: Tensor) -> Matching:
    """The matching, where objects that cost the same are dealt out in their own order: first query, first object.

    Which of two such pairs is cheaper is decided by how their sums were rounded, and that by the rest of the batch.
    alike [N]: of every object of all images the first one that costs the same as it does for every query.
    """
    count = len(alike_N)
    block_M = matching.layer * count + alike_N[matching.object]
    by_query, by_object = block_M.argsort(stable=True), (block_M * count + matching.object).argsort()
    dealt_M = torch.empty_like(matching.object)
    dealt_M[by_query] = matching.object[by_object]
    return dataclasses.replace(matching, object=dealt_M)


def fixed(labels_N: Tensor, counts: list[int], layers: int, queries: int, image_ids: list[int]) -> Matching:
    """Query i with the segment of class i, in every layer: MaskFormer's fixed matching (Cheng et al. 2021, an ablation
    of section 4), for at most one segment a class and image.

    labels [N] of all images' segments, laid end to end; counts: of each image. Raises ValueError naming the image where
    a class has two segments or no query.
    """
    rows = []
    for i, labels in enumerate(labels_N.split(counts)):
        if len(labels.unique()) < len(labels) or (len(labels) and int(labels.max()) >= queries):
            raise ValueError(f"image {image_ids[i]}: fixed matching needs one segment a class, and a query for each")
        rows.append(labels.new_full((len(labels),), i))
    image_N = torch.cat(rows)
    order = torch.argsort(image_N * queries + labels_N)
    one = torch.stack([image_N, labels_N, torch.arange(len(labels_N), device=labels_N.device)])[:, order]
    layer = torch.arange(layers, device=labels_N.device).repeat_interleave(len(labels_N))
    return Matching(layer, *one.repeat(1, layers))


def class_cost(probabilities_LQC: Tensor, labels_N: Tensor) -> Tensor:
    """Minus the probability of the object's class, [L,Q,N] in -1..0."""
    return -probabilities_LQC[..., labels_N]


def focal_class_cost(logits_LQC: Tensor, labels_N: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss of saying the object's class less that of not saying it (Zhu et al. 2021), sigmoid logits, [L,Q,N]."""
    x = logits_LQC[..., labels_N]
    p = x.sigmoid()
    return alpha * F.softplus(-x) * (1 - p) ** gamma - (1 - alpha) * F.softplus(x) * p**gamma


def l1_cost(boxes_LQ4: Tensor, targets_N4: Tensor) -> Tensor:
    """Sum of absolute differences over the four coordinates, [L,Q,N]."""
    return torch.cdist(boxes_LQ4, targets_N4.expand(len(boxes_LQ4), -1, -1), p=1)


def giou_cost(boxes_LQ4: Tensor, targets_N4: Tensor) -> Tensor:
    """Minus the generalised IoU of xyxy boxes, [L,Q,N] in -1..1."""
    return -boxes.giou(boxes_LQ4[:, :, None], targets_N4)


def focal_cost(logits_LQP: Tensor, masks_NP: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss of every query's mask against every object's (0..1), mean over pixels, [L,Q,N]."""
    p, outside = logits_LQP.sigmoid(), F.softplus(logits_LQP)  # outside: -log(1-p), what a pixel with label 0 costs
    inside = alpha * (outside - logits_LQP) * (1 - p) ** gamma  # -log(p) is -log(1-p) - logit
    outside = (1 - alpha) * outside * p**gamma
    # inside·m + outside·(1−m), summed over pixels, as one product instead of two
    return ((inside - outside) @ masks_NP.T + outside.sum(-1, keepdim=True)) / logits_LQP.shape[-1]


def dice_cost(logits_LQP: Tensor, masks_NP: Tensor) -> Tensor:
    """Dice loss (with 1 added to both sides) of every query's mask against every object's (0..1), [L,Q,N] in 0..1."""
    p = logits_LQP.sigmoid()
    total = p.sum(-1, keepdim=True) + masks_NP.sum(-1)
    return 1 - (2 * (p @ masks_NP.T) + 1) / (total + 1)
