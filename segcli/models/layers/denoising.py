"""Denoising queries (Li et al., "DN-DETR", 2022), contrastive as in DINO (Zhang et al., 2023).

In training, noisy copies of the labelled boxes join the queries. Each has its object from the start: the decoder learns
to correct boxes without waiting for the matching to settle; a copy that is noised too much learns to say "no object".
Copies may not see each other's groups, and the real queries none of them: they would read their targets.

Legend: B images, N noisy queries of the image with most, Q real queries, K pairs.
"""

import dataclasses

import torch
from torch import Tensor

from segcli.ops import boxes

FLIPPED = 0.25  # share of copies with a random class (DINO: half of 0.5)


@dataclasses.dataclass(frozen=True)
class Noise:
    """labels [B,N] (the number of classes where nothing is); boxes [B,N,4] cxcywh; group [B,N]: which may see each
    other, -1: copies of nothing; share [B,N]: 1 / groups of the image, 0: copies of nothing; image, query, object [K]:
    the lightly noised copies and what they are of. No image's copies depend on those of others in the batch."""

    labels: Tensor
    boxes: Tensor
    group: Tensor
    share: Tensor
    image: Tensor
    query: Tensor
    object: Tensor

    def attention_mask(self, queries: int) -> Tensor:
        """[B,1,N+Q,N+Q], added to attention logits: -inf where a query may not look."""
        real = self.group.new_full((len(self.group), queries), -2)
        group = torch.cat([self.group, real], 1)
        hidden = (group[:, :, None] != group[:, None]) & (group[:, None] != -2)
        return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, -torch.inf)[:, None]


def make_noise(
    labels_N: Tensor, boxes_N4: Tensor, counts: list[int], classes: int, copies: int, generators: list[torch.Generator]
) -> Noise | None:
    """About `copies` noisy copies an image (at least one group of two copies of each object); None without objects.

    labels, boxes (cxcywh, shares of the canvas): of all images' objects laid end to end, `counts` an image.
    generators: one an image, on the CPU.
    """
    groups = [max(1, copies // (2 * count)) if count else 0 for count in counts]
    most = max(2 * g * count for g, count in zip(groups, counts, strict=True))
    if not most:
        return None
    device, size = boxes_N4.device, (len(counts), most)
    labels = torch.full(size, classes, device=device)
    noisy = boxes_N4.new_full((*size, 4), 0.5)
    group = torch.full(size, -1, device=device)
    share = torch.zeros(size, device=device)
    pairs = []
    start = 0
    for i, (count, generator) in enumerate(zip(counts, generators, strict=True)):
        if not count:
            continue
        own, shape = slice(start, start + count), (groups[i], 2, count)
        used = slice(0, 2 * groups[i] * count)
        draw = lambda *more, g=generator, s=shape: torch.rand(*s, *more, generator=g).to(device)
        random_label = (draw() * classes).long().clamp(max=classes - 1)
        labels[i, used] = torch.where(draw() < FLIPPED, random_label, labels_N[own]).flatten()
        corners = boxes.to_xyxy(boxes_N4[own])
        half = boxes_N4[own, 2:].repeat(1, 2) / 2
        # light copies move each side by up to half the object's extent, heavy ones by up to all of it
        shift = draw(4) + torch.tensor([0.0, 1.0], device=device)[None, :, None, None]
        corners = (corners + shift * torch.where(draw(4) < 0.5, -1.0, 1.0) * half).clamp(0, 1)
        low, high = torch.minimum(corners[..., :2], corners[..., 2:]), torch.maximum(corners[..., :2], corners[..., 2:])
        placed = boxes.to_cxcywh(torch.cat([low, high], -1)).clamp(1e-3, 1 - 1e-3)
        noisy[i, used] = placed.flatten(0, 2).to(noisy)
        group[i, used] = torch.arange(groups[i], device=device).repeat_interleave(2 * count)
        share[i, used] = 1 / groups[i]
        query = (torch.arange(groups[i])[:, None] * 2 * count + torch.arange(count)).flatten()
        objects = torch.arange(start, start + count).repeat(groups[i])
        pairs.append(torch.stack([torch.full_like(query, i), query, objects]))
        start += count
    image, query, objects = torch.cat(pairs, 1).to(device)
    return Noise(labels, noisy, group, share, image, query, objects)
