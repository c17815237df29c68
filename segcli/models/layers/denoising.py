"""Denoising queries (Li et al., "DN-DETR", 2022), contrastive as in DINO (Zhang et al., 2023).

In training, noisy copies of the labelled boxes join the queries. Each has its object from the start: the decoder learns
to correct boxes without waiting for the matching to settle; a copy that is noised too much learns to say "no object".
Copies may not see each other's groups, and the real queries none of them: they would read the answers.

Legend: B images, N noisy queries, G groups, Q real queries, M most objects of an image, K pairs.
"""

import dataclasses

import torch
from torch import Tensor

from segcli.ops import boxes

FLIPPED = 0.25  # share of copies with a random class (DINO: half of 0.5)


@dataclasses.dataclass(frozen=True)
class Noise:
    """labels [B,N] (the number of classes where an image has fewer than M objects); boxes [B,N,4] cxcywh;
    used bool [B,N]: copies of objects; image, query, object [K]: the lightly noised copies and what they are of."""

    labels: Tensor
    boxes: Tensor
    used: Tensor
    image: Tensor
    query: Tensor
    object: Tensor
    groups: int

    def attention_mask(self, queries: int) -> Tensor:
        """[N+Q,N+Q], added to attention logits: -inf where a query may not look."""
        n = self.boxes.shape[1]
        group = torch.arange(n + queries, device=self.boxes.device) // (n // self.groups)
        group[n:] = self.groups
        hidden = (group[:, None] != group) & (group < self.groups)
        return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, -torch.inf)


def make_noise(
    labels_N: Tensor, boxes_N4: Tensor, counts: list[int], classes: int, wanted: int, generators: list[torch.Generator]
) -> Noise | None:
    """About `wanted` noisy copies an image (at least one group of two copies of each object); None without objects.

    labels, boxes (cxcywh, shares of the canvas): of all images' objects laid end to end, `counts` an image.
    generators: one an image, on the CPU.
    """
    most = max(counts)
    if not most:
        return None
    groups = max(1, wanted // (2 * most))
    device, size = boxes_N4.device, (groups, 2, most)
    labels = torch.full((len(counts), *size), classes, device=device)
    noisy = boxes_N4.new_full((len(counts), *size, 4), 0.5)
    used = torch.zeros(len(counts), *size, dtype=torch.bool, device=device)
    pairs = []
    start = 0
    for i, (count, generator) in enumerate(zip(counts, generators, strict=True)):
        own = slice(start, start + count)
        shape = (groups, 2, count)
        draw = lambda *more, g=generator, s=shape: torch.rand(*s, *more, generator=g).to(device)
        random_label = (draw() * classes).long().clamp(max=classes - 1)
        labels[i, :, :, :count] = torch.where(draw() < FLIPPED, random_label, labels_N[own])
        corners = boxes.to_xyxy(boxes_N4[own])
        half = boxes_N4[own, 2:].repeat(1, 2) / 2
        # light copies move each side by up to half the object's extent, heavy ones by up to all of it
        shift = draw(4) + torch.tensor([0.0, 1.0], device=device)[None, :, None, None]
        corners = (corners + shift * torch.where(draw(4) < 0.5, -1.0, 1.0) * half).clamp(0, 1)
        low, high = torch.minimum(corners[..., :2], corners[..., 2:]), torch.maximum(corners[..., :2], corners[..., 2:])
        noisy[i, :, :, :count] = boxes.to_cxcywh(torch.cat([low, high], -1)).clamp(1e-3, 1 - 1e-3)
        used[i, :, :, :count] = True
        query = (torch.arange(groups)[:, None] * 2 * most + torch.arange(count)).flatten()
        objects = torch.arange(start, start + count).repeat(groups)
        pairs.append(torch.stack([torch.full_like(query, i), query, objects]))
        start += count
    image, query, objects = torch.cat(pairs, 1).to(device)
    return Noise(labels.flatten(1), noisy.flatten(1, 3), used.flatten(1), image, query, objects, groups)
