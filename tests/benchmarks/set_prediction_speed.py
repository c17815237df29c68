"""Paired benchmark, run by hand on an idle machine: DETR and MaskFormer (ResNet-50) against transformers' models.

    python tests/benchmarks/set_prediction_speed.py --rounds 5
    python tests/benchmarks/set_prediction_speed.py --quick      # whether it runs: small images, one round

Equal on both sides: weights, images, targets, AdamW, frozen batch norms (transformers' MaskFormer would update its
statistics), dropout 0, trainable stages as each family has them, threads. Inference: the network on one image, no
post-processing. A training step begins with a batch in memory and ends with changed weights. Peak memory: what one
training step adds to a process of its own. Goals, of transformers' time: DETR's inference 0.65, MaskFormer's 0.9, a
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

from segcli.cost import flops
from segcli.models import build_model
from segcli.ops import boxes
from segcli.run import prepare_layout
from segcli.types import Batch, Instances, Target
from segcli.weights import huggingface_detr, huggingface_maskformer

CLASSES, OBJECTS = 80, 7  # as many objects as a COCO image has in the mean
NAMES = ("segcli", "transformers")
SIZES = {"detr": (800, 1066), "maskformer": (512, 512)}
INFERENCE_GOALS = {"detr": "0.65 at most", "maskformer": "0.9 at most"}
TASKS = {"detr": "detection", "maskformer": "instance"}


def our_model(family: str) -> Any:
    settings = {"name": family, "backbone": {"name": "resnet", "depth": 50}, "dropout": 0.0}
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


def peak(family: str, ours: bool, size: tuple[int, int], images: int, threads: int) -> float:
    """MB that a training step adds at its highest to this process, which must not have done anything before."""
    torch.set_num_threads(threads)
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


def compare(family: str, rounds: int, size: tuple[int, int], images: int, at_most: float) -> None:
    batch = made_batch(size, images)
    ours, theirs = models(family)
    mine, other = Side(family, ours, batch, ours=True), Side(family, theirs, batch, ours=False)
    print(f"{family}: largest difference of class logits {(mine.outputs() - other.outputs()).abs().max():.1e}")
    title = f"{family} {size[0]}x{size[1]}"
    goal = INFERENCE_GOALS[family]
    seconds = paired(f"{title}, inference, 1 image", mine.infer, other.infer, rounds, names=NAMES, goal=goal)
    gflops = flops(ours, size)["gflops"]
    shares(gflops, seconds, NAMES, at_most)
    title = f"{title}, training step, {images} images"
    seconds = paired(title, mine.step, other.step, rounds, names=NAMES, goal="0.8 at most")
    shares(3 * images * gflops, seconds, NAMES, at_most)  # backward costs twice forward, less what is frozen


def compare_memory(family: str, size: tuple[int, int], images: int) -> None:
    found = []
    for ours in (True, False):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found.append(pool.apply(peak, (family, ours, size, images, torch.get_num_threads())))
    print(
        f"{family} {size[0]}x{size[1]}, peak memory of a training step, {images} images: {NAMES[0]} {found[0]:.0f} MB, "
        f"{NAMES[1]} {found[1]:.0f} MB, ratio {found[0] / found[1]:.3f}; goal 0.7 at most",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--family", choices=sorted(SIZES), nargs="+", default=sorted(SIZES))
    parser.add_argument("--images", type=int, default=2, help="in a training step")
    parser.add_argument("--threads", type=int, help="default: as many as torch takes")
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
        compare(family, rounds, size, arguments.images, at_most)
        if family == "maskformer":
            compare_memory(family, size, arguments.images)


if __name__ == "__main__":
    main()
