"""Small models that predict sets, and batches of random images with objects, for tests of models."""

import torch

from segcli.models import build_model
from segcli.types import IGNORE, Batch, Instances, Target

RESNET = {"name": "resnet", "depth": 18}
TRUNK = {"name": "timm", "model": "test_resnet"}  # half a million parameters
LAYERS = {"encoder_layers": 1, "decoder_layers": 2}
DETR = {"name": "detr", "backbone": TRUNK, "queries": 12, "transformer": {"dim": 128, "ffn": 64, **LAYERS}}
NARROW = {"dim": 64, "heads": 8, "ffn": 64, **LAYERS}
MASKFORMER = {"name": "maskformer", "backbone": TRUNK, "queries": 8, "transformer": NARROW}


def merged(*sections):
    """Model sections laid on one another, mapping by mapping; one with another `name` replaces the whole."""
    out = {}
    for section in sections:
        for key, value in section.items():
            both = isinstance(value, dict) and isinstance(out.get(key), dict) and "name" not in value
            out[key] = merged(out[key], value) if both else value
    return out


def small_detr(task, **settings):
    torch.manual_seed(0)
    return build_model(merged(DETR, settings), task=task, num_classes=5, num_things=3)


def small_maskformer(task, **settings):
    torch.manual_seed(0)
    return build_model(merged(MASKFORMER, settings), task=task, num_classes=4, num_things=2)


def padded(sizes, canvas):
    """[B,H,W]: True outside images of these sizes."""
    padding = torch.ones(len(sizes), *canvas, dtype=torch.bool)
    for mask, (h, w) in zip(padding, sizes, strict=True):
        mask[:h, :w] = False
    return padding


def rectangles(xyxy, size):
    """[N,h,w]: the masks of whole boxes."""
    masks = torch.zeros(len(xyxy), *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, xyxy.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def batch(counts=(2, 1)):
    """Images of 96 × 80 and 64 × 96 on one canvas, with so many objects of classes 0 and 1 on stuff 2."""
    torch.manual_seed(0)
    sizes, targets = [(96, 80), (64, 96)], []
    for i, (size, n) in enumerate(zip(sizes, counts, strict=True)):
        k = torch.arange(n)
        low = torch.stack([4 + 20 * k, 6 + 8 * k], 1)
        boxes = torch.cat([low, low + torch.tensor([24, 30])], 1)
        masks = rectangles(boxes, size)
        semantic = torch.full(size, IGNORE)
        semantic[: size[0] // 2] = 2
        for mask, label in zip(masks, k % 2, strict=True):
            semantic[mask] = label
        instances = Instances(boxes.float(), k % 2, masks=masks, crowd=torch.zeros(n, dtype=torch.bool))
        targets.append(Target(i + 7, size, instances, semantic=semantic))
    images, padding = torch.randn(2, 3, 96, 96), padded(sizes, (96, 96))
    return Batch(images, padding, sizes, [(123, 101), (70, 105)], [7, 8], targets, [11, 12])


def random_batch(counts=(2, 3), seed=0):
    """Two images of unequal size with random boxes, their masks and two kinds of stuff (3 and 4)."""
    generator = torch.Generator().manual_seed(seed)
    sizes, targets = [(60, 76), (64, 50)], []
    images = torch.zeros(2, 3, 64, 76)
    for i, ((h, w), n) in enumerate(zip(sizes, counts, strict=True)):
        images[i, :, :h, :w] = torch.randn(3, h, w, generator=generator)
        low = (torch.rand(n, 2, generator=generator) * torch.tensor([w / 2, h / 2])).round()
        xyxy = torch.cat([low, low + 6 + (torch.rand(n, 2, generator=generator) * 15).round()], 1)
        semantic = torch.full((h, w), IGNORE)
        if n:
            semantic[h // 2 :, :] = 3 + i
        labels = torch.randint(3, (n,), generator=generator)
        targets.append(Target(10 + i, (h, w), Instances(xyxy, labels, masks=rectangles(xyxy, (h, w))), semantic))
    return Batch(images, padded(sizes, (64, 76)), sizes, [(120, 152), (128, 100)], [10, 11], targets)


SIZE = (56, 90)  # of the images of `batch_of`
EMPTY = Target(9, SIZE, Instances.empty(SIZE), torch.full(SIZE, IGNORE))


def stripes(image_id, objects=2, semantic=True):
    """A target: thin things of classes 0 and 1 on stuff 3; a strip of IGNORE at the right."""
    masks = torch.zeros(objects, *SIZE, dtype=torch.bool)
    labels = torch.full(SIZE, 3)
    for k in range(objects):
        masks[k, 4 + 9 * k : 12 + 9 * k, 10 : 40 + 3 * k] = True
        labels[masks[k]] = k % 2
    labels[:, -10:] = IGNORE
    things = Instances(torch.zeros(objects, 4), torch.arange(objects) % 2, masks=masks)
    return Target(image_id, SIZE, things, labels if semantic else None)


def batch_of(*targets):
    """Random images of SIZE with these targets, on a canvas of 64 × 96."""
    torch.manual_seed(1)
    b, sizes = len(targets), [SIZE] * len(targets)
    images, padding = torch.randn(b, 3, 64, 96), padded(sizes, (64, 96))
    return Batch(images, padding, sizes, [(101, 163)] * b, [t.image_id for t in targets], list(targets))
