"""Paired benchmark, run by hand on an idle machine: DETR and MaskFormer (ResNet-50) against transformers' models.

    python tests/benchmarks/set_prediction_speed.py --rounds 5
    python tests/benchmarks/set_prediction_speed.py --quick      # whether it runs: small images, one round

Equal on both sides: weights, images, targets, AdamW, frozen batch norms (transformers' MaskFormer would update its
statistics), dropout 0, trainable stages as each family has them, threads. Inference: the network on one image, no
post-processing. A training step begins with a batch in memory and ends with changed weights. Peak memory: what one
training step adds. Each side has a process of its own, ours with the allocator setting that every segcli command makes
(--same-allocator leaves it out). Goals, of transformers' time: DETR's inference 0.65, MaskFormer's 0.9, a
training step 0.8; memory of MaskFormer 0.7; or 1.05 times what this machine's limit allows where that is more.
"""

import argparse
import multiprocessing
import sys
import time
from typing import Any

import torch
from machine import limit, paired, shares
from torch import Tensor, nn
from transformers import (
    DetrConfig,
    DetrForObjectDetection,
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    ResNetConfig,
)

from segcli.engine.cost import flops
from segcli.engine.opening import prepare_layout
from segcli.models import build_model
from segcli.ops import boxes
from segcli.ops.cpu.allocator import keep_freed_memory
from segcli.types import Batch, Instances, Target
from segcli.weights import huggingface_detr, huggingface_maskformer

CLASSES, OBJECTS = 80, 7  # as many objects as a COCO image has in the mean
NAMES = ("segcli", "transformers")
SIZES = {"detr": (800, 1066), "maskformer": (512, 512)}
INFERENCE_GOALS = {"detr": "0.65 at most", "maskformer": "0.9 at most"}
MEMORY_GOALS = {"detr": "none", "maskformer": "0.7 at most"}
PARTS = ["inference", "training", "memory"]
TASKS = {"detr": "detection", "maskformer": "instance"}


def our_model(family: str) -> Any:
    settings = {"name": family, "backbone": {"name": "resnet", "depth": 50}, "transformer": {"dropout": 0.0}}
    model = build_model(settings, task=TASKS[family], num_classes=CLASSES, num_things=CLASSES)
    return prepare_layout(model)


def their_model(family: str) -> Any:
    """With batch norms that stay in evaluation mode and, as ours, constants for their gains and biases."""
    if family == "detr":
        plain = {"dropout": 0.0, "auxiliary_loss": True}
        return DetrForObjectDetection(
            DetrConfig(backbone="resnet50", use_pretrained_backbone=False, num_labels=CLASSES, **plain)
        )
    trunk = ResNetConfig(out_features=["stage1", "stage2", "stage3", "stage4"])
    config = MaskFormerConfig(backbone_config=trunk, num_labels=CLASSES)
    config.decoder_config.dropout = 0.0
    model = MaskFormerForInstanceSegmentation(config)
    for module in norms(model):
        module.requires_grad_(False)
    return model


def norms(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def models(family: str) -> tuple[Any, Any]:
    torch.manual_seed(0)
    ours, theirs = our_model(family), their_model(family)
    source = huggingface_detr if family == "detr" else huggingface_maskformer
    ours.load_state_dict(source.to_official(theirs.state_dict()))
    return ours, theirs


def made_batch(size: tuple[int, int], images: int) -> Batch:
    """Random images, each with a few rectangles."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    targets = []
    for i in range(images):
        low = torch.rand(OBJECTS, 2, generator=generator) * torch.tensor([width, height]) * 0.5
        high = low + 8 + torch.rand(OBJECTS, 2, generator=generator) * torch.tensor([width, height]) * 0.4
        corners = torch.cat([low, high], 1).round()
        masks = torch.zeros(OBJECTS, *size, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, corners.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = True
        labels = torch.randint(CLASSES, (OBJECTS,), generator=generator)
        targets.append(Target(i, size, Instances(corners, labels, masks=masks)))
    pixels = torch.randn(images, 3, *size, generator=generator)
    padding = torch.zeros(images, *size, dtype=torch.bool)
    return Batch(pixels, padding, [size] * images, [size] * images, list(range(images)), targets)


def their_targets(family: str, batch: Batch) -> dict[str, Any]:
    instances = [t.instances for t in batch.targets or []]
    if family == "maskformer":
        return {
            "mask_labels": [i.masks.float() for i in instances],
            "class_labels": [i.labels for i in instances],
        }
    scale = torch.tensor([batch.images.shape[3], batch.images.shape[2]] * 2)
    return {"labels": [{"class_labels": i.labels, "boxes": boxes.to_cxcywh(i.boxes / scale)} for i in instances]}


class Side:
    """One model with its optimiser. `loss(batch)` is the only difference between the two."""

    def __init__(self, family: str, model: Any, batch: Batch, *, ours: bool):
        self.model, self.batch, self.ours = model, batch, ours
        self.inputs = {} if ours else their_targets(family, batch)
        self.optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6)

    def loss(self) -> Tensor:
        if self.ours:
            return torch.stack([*self.model(self.batch).values()]).sum()
        if hasattr(self.model.config, "use_auxiliary_loss"):  # it would cost time at inference, where we leave it out
            self.model.config.use_auxiliary_loss = True
            return self.model(self.batch.images, **self.inputs, output_hidden_states=True).loss
        return self.model(self.batch.images, **self.inputs).loss

    def step(self) -> float:
        self.model.train()
        for module in norms(self.model):
            module.eval()
        begun = time.perf_counter()
        self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.perf_counter() - begun

    @torch.inference_mode()
    def outputs(self) -> Any:
        """Class logits [1,Q,C+1] first."""
        self.model.eval()
        images = self.batch.images[:1]
        if self.ours:
            return self.model.network(images.contiguous(memory_format=torch.channels_last))[0]
        if hasattr(self.model.config, "use_auxiliary_loss"):
            self.model.config.use_auxiliary_loss = False
        found = self.model(images)
        return found.logits if hasattr(found, "logits") else found.class_queries_logits

    def infer(self) -> float:
        begun = time.perf_counter()
        self.outputs()
        return time.perf_counter() - begun


SIDE: list[Side] = []  # of this process


def begin(allocator: bool, threads: int) -> None:
    """What a process of one side begins with. allocator: segcli's setting of it."""
    torch.set_num_threads(threads)
    if allocator:
        keep_freed_memory()


def open_side(family: str, size: tuple[int, int], images: int, ours: bool) -> None:
    SIDE.append(Side(family, models(family)[0 if ours else 1], made_batch(size, images), ours=ours))


def infer() -> float:
    return SIDE[0].infer()


def step() -> float:
    return SIDE[0].step()


def outputs() -> Any:
    return SIDE[0].outputs().numpy()


def peak(family: str, size: tuple[int, int], images: int, ours: bool) -> float:
    """MB that a training step adds at its highest to this process, which must not have done anything before."""
    model = our_model(family) if ours else their_model(family)
    side = Side(family, model, made_batch(size, images), ours=ours)
    before = resident("VmRSS")
    side.step()
    return (resident("VmHWM") - before) / 1e3


def resident(key: str) -> int:
    """kB of this process now (VmRSS) or at its highest (VmHWM; `getrusage` would give the parent's, inherited at the
    fork)."""
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key))


def compare(
    family: str, rounds: int, size: tuple[int, int], images: int, at_most: float, *, same: bool, parts: list[str]
) -> None:
    """Each side in a process of its own, which waits while the other one works. same: with glibc's own allocator."""
    spawn, threads = multiprocessing.get_context("spawn"), torch.get_num_threads()
    given = [(family, size, images, ours) for ours in (True, False)]
    process = lambda ours: spawn.Pool(1, begin, (ours and not same, threads))
    title = f"{family} {size[0]}x{size[1]}"
    if "memory" in parts:
        mb = []
        for arguments in given:
            with process(arguments[-1]) as pool:
                mb.append(pool.apply(peak, arguments))
        print(
            f"{title}, peak memory of a training step, {images} images: {NAMES[0]} {mb[0]:.0f} MB, "
            f"{NAMES[1]} {mb[1]:.0f} MB, ratio {mb[0] / mb[1]:.3f}; goal {MEMORY_GOALS[family]}",
            flush=True,
        )
    if parts == ["memory"]:
        return
    with process(True) as mine, process(False) as other:
        for pool, arguments in zip((mine, other), given, strict=True):
            pool.apply(open_side, arguments)
        print(
            f"{family}: largest difference of class logits {abs(mine.apply(outputs) - other.apply(outputs)).max():.1e}"
        )
        gflops = flops(our_model(family), size)["gflops"]
        works = {
            "inference": (infer, f"{title}, inference, 1 image", INFERENCE_GOALS[family], gflops),
            # backward costs twice forward, less what is frozen
            "training": (step, f"{title}, training step, {images} images", "0.8 at most", 3 * images * gflops),
        }
        for run, what, goal, work in (works[part] for part in works if part in parts):
            sides = [lambda pool=pool, run=run: pool.apply(run) for pool in (mine, other)]
            seconds = paired(what, *sides, rounds, names=NAMES, goal=goal)
            shares(work, seconds, NAMES, at_most)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--family", choices=sorted(SIZES), nargs="+", default=sorted(SIZES))
    parser.add_argument("--images", type=int, default=2, help="in a training step")
    parser.add_argument("--threads", type=int, help="default: as many as torch takes")
    parser.add_argument("--same-allocator", action="store_true", help="leave out segcli's setting of the allocator")
    parser.add_argument("--parts", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--quick", action="store_true", help="small images and one round: does it run?")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        parser.error("peak memory is read as Linux states it")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rounds = 1 if arguments.quick else arguments.rounds
    at_most = limit()
    for family in arguments.family:
        size = (96, 128) if arguments.quick else SIZES[family]
        same, parts = arguments.same_allocator, arguments.parts
        compare(family, rounds, size, arguments.images, at_most, same=same, parts=parts)


if __name__ == "__main__":
    main()
