"""Batches of random images with objects, for tests of models."""

import torch

from segcli.types import Batch, Instances, Target


def batch(counts, task):
    """Images of 96 × 80 and 64 × 96 on one canvas, with so many objects."""
    torch.manual_seed(0)
    sizes, originals = [(96, 80), (64, 96)], [(123, 101), (70, 105)]
    targets = []
    padding = torch.ones(2, 96, 96, dtype=torch.bool)
    for i, ((h, w), n) in enumerate(zip(sizes, counts, strict=True)):
        padding[i, :h, :w] = False
        masks = torch.zeros(n, h, w, dtype=torch.bool)
        boxes = torch.zeros(n, 4)
        for k in range(n):
            x, y = 4 + 20 * k, 6 + 8 * k
            masks[k, y : y + 30, x : x + 24] = True
            boxes[k] = torch.tensor([x, y, x + 24, y + 30])
        semantic = torch.full((h, w), 255)
        semantic[: h // 2] = 2
        for k in range(n):
            semantic[masks[k]] = k % 2
        instances = Instances(boxes, torch.arange(n) % 2, masks=masks, crowd=torch.zeros(n, dtype=torch.bool))
        targets.append(Target(i + 7, (h, w), instances, semantic=semantic))
    return Batch(torch.randn(2, 3, 96, 96), padding, sizes, originals, [7, 8], targets, [11, 12])
