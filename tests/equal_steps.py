"""Twenty steps of every family on the same images: by one process, in accumulated pieces, or by one of two processes.

In double precision. In single precision a convolution of one image rounds otherwise than one of four; units that are
within rounding of 0 then open or close, and what follows is another training, equal in all but the last digits at
first. Doubles leave no room for that: what differs here is computed otherwise.

As a script, `equal_steps.py FOLDER` is one of the processes that torchrun's variables tell of: each line that it
reads is a number of pieces and a family's name; it trains that, and says so when FOLDER/NAME.pt has what came out.
"""

import contextlib
import functools
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from segcli.core import distributed
from segcli.engine.accumulation import step_losses
from segcli.fields.body_surface import surface
from segcli.fields.densepose import DensePose
from segcli.fields.keypoints import Keypoints
from segcli.fields.mesh import PosedMeshes
from segcli.models import build_model
from segcli.models.rcnn.heads.mesh import MeshHead
from segcli.ops.meshes.cubify import icosphere
from segcli.types import Batch, Instances, Target

STEPS = 20
SIZES = [(32, 40), (24, 36), (40, 40), (40, 28)]  # each half of a batch has a canvas of its own
WIDTHS = {"dim": 32, "heads": 4, "ffn": 32, "decoder_layers": 2, "dropout": 0.0}
SMALL = {"encoder_layers": 1, **WIDTHS}
QUERIES = {"queries": 6, "transformer": SMALL}
MASKS = {"transformer": {**SMALL, "dim": 128, "heads": 8}}  # DETR's mask head can't be smaller
POINTS = {"loss": {"points": 32}}
LEARNED = {"levels": 3, "boxes": {"denoising": 12, "groups": 2}}
SELECTED = {"levels": 3, "boxes": {"denoising": 12, "selection": True}}
DISTINCT = {"levels": 3, "boxes": {**SELECTED["boxes"], "distinct": 0.7, "deformable": True}}
RCNN = {"name": "rcnn", "proposals": [20, 20], "samples": 16, "width": 32}
LITE = {"name": "rcnn_lite", "width": 32}
PIXEL = {"name": "per_pixel", "dim": 32}
BOX, IOU = {"box": {"width": 32}}, {"iou_box": {"width": 32}}
NARROW = {"convolutions": 1, "width": 16}
MESH = {"grid": 4, "width": 8, "stages": 2}
FAMILIES = {
    "rcnn": ("instance", {**RCNN, "heads": {**BOX, "mask": NARROW}}),
    "lite": ("instance", {**LITE, "heads": {**IOU, "lite_mask": {}}}),
    "keypoints": ("keypoints", {**RCNN, "heads": {**BOX, "keypoint": NARROW}}),
    "densepose": ("densepose", {**RCNN, "heads": {**BOX, "densepose": NARROW}}),
    "densepose, lite": ("densepose", {**LITE, "heads": {**IOU, "lite_densepose": NARROW}}),
    "mesh": ("mesh", {**RCNN, "heads": {**BOX, "mesh": MESH}}),
    "mesh, lite": ("mesh", {**LITE, "heads": {**IOU, "lite_mesh": MESH}}),
    "detr": ("instance", {"name": "detr", **QUERIES, **MASKS}),
    "detr_lite": ("detection", {"name": "detr_lite", **QUERIES, **LEARNED}),
    "detr_lite, selected": ("detection", {"name": "detr_lite", **QUERIES, **DISTINCT}),
    "maskformer": ("panoptic", {"name": "maskformer", **QUERIES}),
    "mask2former_lite": ("instance", {"name": "mask2former_lite", **QUERIES, **POINTS, "levels": 3}),
    "maskformer_lite": (
        "panoptic",
        {"name": "maskformer_lite", **QUERIES, **POINTS, **SELECTED, "kernels": True},
    ),
    "maskformer_lite, learned": ("instance", {"name": "maskformer_lite", **QUERIES, **POINTS, **LEARNED}),
    "per_pixel": ("semantic", PIXEL),
    "per_pixel_plus": ("semantic", {"name": "per_pixel_plus", **WIDTHS}),
    "fcn": ("semantic", {"name": "fcn"}),
}


@contextlib.contextmanager
def double_precision():
    """In the block, float32 is float64 wherever segcli asks for it."""
    single, narrow = torch.float32, torch.Tensor.float
    torch.float32, torch.Tensor.float = torch.float64, torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    icosphere.cache_clear()  # made with the wrong precision, it would stay for others
    try:
        yield
    finally:
        icosphere.cache_clear()
        torch.float32, torch.Tensor.float = single, narrow
        torch.set_default_dtype(single)


def build(name):
    """The family's model; fcn's batch norms and dropout are off: what these do is each part's own."""
    task, settings = FAMILIES[name]
    torch.manual_seed(0)
    more = {"num_keypoints": 2} if task == "keypoints" else {}
    backbone = {"name": "timm", "model": "test_resnet"}
    model = build_model({"backbone": backbone, **settings}, task=task, num_classes=4, num_things=2, **more).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.Dropout):
            module.eval()
        if isinstance(module, MeshHead):
            module.points = 60
    return model


@functools.cache
def ball(dtype):
    """What a meshes.shape.Shape has, of a ball of diameter 1. dtype: the default one. Made once: drawing balls anew for
    every object took a third of the trainings' time."""
    directions, _ = icosphere(2)
    axis = (torch.arange(48) + 0.5) / 48 - 0.5
    filled = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0) < 0.5
    points, normals = (directions / 2).numpy(), directions.numpy()
    return SimpleNamespace(vertices=points, points=points, normals=normals, voxels=filled.numpy())


def described(boxes, generator):
    """Keypoints, DensePose and meshes of the objects in `boxes`; the third object has none of the latter two."""
    low, extent, n = boxes[:, :2], boxes[:, 2:] - boxes[:, :2], len(boxes)
    points = torch.cat([boxes.view(-1, 2, 2) * 0.9 + 2, torch.full((n, 2, 1), 2.0)], 2)
    rows = []
    for i in range(n):
        place = low[i] + extent[i] * torch.rand(3 * i + 2, 2, generator=generator)
        charts = torch.randint(1, 25, (len(place), 1), generator=generator)
        rows.append(torch.cat([place, charts, torch.rand(len(place), 2, generator=generator)], 1)[: 0 if i == 2 else 9])
    grid = torch.eye(3)[:2].repeat(n, 1, 1)
    grid[:, :, :2] *= extent[:, None] / 256
    grid[:, :, 2] = low
    coarse = [None if i == 1 else torch.full((256, 256), 1, dtype=torch.uint8) for i in range(n)]
    camera = torch.cat([torch.full((n, 2), 40.0), low + extent / 2], 1)
    shift, scales = torch.tensor([[0.0, 0, 3]]).repeat(n, 1), extent.amax(1) / 13
    if n:  # its label reaches out of the cube of its box
        shift[0, 0] = 4.0
    shapes = [None if i == 2 else ball(torch.get_default_dtype()) for i in range(n)]
    return {
        "keypoints": Keypoints(points),
        "densepose": DensePose(rows, coarse, grid, surface({})),
        "mesh": PosedMeshes(shapes, torch.eye(3).repeat(n, 1, 1), scales, shift, camera),
    }


def image(step, i):
    """(pixels [3,h,w], target): 0 to 3 objects; of every third image, half the label map is unknown."""
    height, width = SIZES[i]
    generator = torch.Generator().manual_seed(100 * step + i)
    count = (step + 2 * i + i // 2) % 4
    low = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) / 2
    extent = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * 0.3 + 6
    boxes = torch.cat([low, low + extent], 1).round()
    labels = torch.randint(2, (count,), generator=generator)
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    semantic = torch.full((height, width), 2 + i % 2)
    semantic[: height // 2 if (step + i) % 3 == 0 else 0] = 255
    for mask, (x1, y1, x2, y2), label in zip(masks, boxes.int().tolist(), labels.tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
        semantic[mask] = label
    pixels = torch.randn(3, height, width, generator=generator)
    objects = Instances(boxes, labels, masks=masks, fields=described(boxes, generator))
    return pixels, Target(i, (height, width), objects, semantic)


def batch(step, own):
    """The step's images of the numbers `own`, on the smallest canvas that holds them."""
    images, targets = zip(*(image(step, i) for i in own), strict=True)
    sizes = [target.size for target in targets]
    height, width = (max(side) for side in zip(*sizes, strict=True))
    pad = lambda x, value: F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]), value=value)
    pixels = torch.stack([pad(x, 0) for x in images])
    padding = torch.stack([pad(torch.zeros(size, dtype=torch.bool), True) for size in sizes])
    return Batch(pixels, padding, sizes, sizes, list(own), list(targets), [50 * step + i for i in own])


def train(name, parts=1):
    """(the losses of each step, the weights after the last) of this process's share of the images."""
    log, model = trained(name, parts)
    return log, model.state_dict()


def trained(name, parts=1, steps=STEPS):
    """(the losses of each step, the model after the last) of this process's share of the images."""
    with double_precision(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build(name)
        optimizer = torch.optim.SGD(model.parameters(), 1e-3, 0.9)
        each = len(SIZES) // distributed.world()
        own = range(distributed.rank() * each, (distributed.rank() + 1) * each)
        log = []
        for step in range(steps):
            numbers = {}
            for _, losses in step_losses(model, batch(step, own), parts, torch.device("cpu"), contextlib.nullcontext()):
                torch.stack(list(losses.values())).sum().backward()
                for key, value in losses.items():
                    numbers[key] = numbers.get(key, 0.0) + value.item()
            distributed.average_gradients([p for p in model.parameters() if p.requires_grad])
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            optimizer.zero_grad()
            log.append(distributed.average(numbers))
        return log, model


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    for line in sys.stdin:
        number, name = line.strip().split(" ", 1)
        found = train(name, int(number))
        if not distributed.rank():
            torch.save(found, Path(sys.argv[1]) / f"{name}.pt")
            print("saved", flush=True)
    torch.distributed.destroy_process_group()
