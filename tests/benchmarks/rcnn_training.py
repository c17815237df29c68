"""Paired benchmark, run by hand on an idle machine: segcli's lite Mask R-CNN against torchvision's, equal minutes.

    python tests/benchmarks/rcnn_training.py pennfudan/mask_rcnn_lite --minutes 12 --seeds 0 1 2
    python tests/benchmarks/rcnn_training.py quickstart/mask_rcnn --minutes 4.5

torchvision's side: MaskRCNN as it comes (default heads), the same EfficientNet-Lite0 with ImageNet weights, FPN-128
from stride 4, the recipe's input
size, AdamW (backbone 1e-4, rest 3e-4, weight decay 0.01), batch 2, flips, 50 warm-up steps
then cosine, clip 5. Both sides train on the same images and are scored by the same evaluator on the same split, four
times, evaluation not counted as training time. The dataset must be prepared already (`segcli prepare`).
"""

import argparse
import math
import time
from collections import OrderedDict

import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

import segcli
from segcli.core.recipe.recipe import Recipe
from segcli.data.augment.compose import build_augment
from segcli.data.dataset import Dataset
from segcli.data.loader import eval_loader, train_loader
from segcli.engine.checkpoint import initialise
from segcli.engine.run_folder import RunFolder
from segcli.metrics.instance import InstanceScores
from segcli.models import build_backbone
from segcli.ops.cpu.allocator import keep_freed_memory
from segcli.ops.paste import paste_masks
from segcli.ops.preprocess import Preprocess
from segcli.types import Instances, Prediction


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        settings = {"name": "efficientnet_lite0", "weights": "imagenet", "norm": "frozen", "frozen_stages": 0}
        self.body = build_backbone(settings)
        initialise(self)
        self.fpn = FeaturePyramidNetwork(self.body.channels, 128, LastLevelMaxPool())
        self.out_channels = 128

    def forward(self, x):
        return self.fpn(OrderedDict((str(i), f) for i, f in enumerate(self.body(x))))


def torchvision_run(recipe: Recipe, minutes: float, seed: int) -> list[tuple[float, dict[str, float]]]:
    """-> (minutes of training, scores) at four moments."""
    torch.manual_seed(seed)
    names = str(recipe.resolve(recipe.data.split_file)) if recipe.data.split_file else None
    train_set = Dataset(recipe.data.root, "train", split_file=names)
    size = recipe.data.size if isinstance(recipe.data.size, int) else 800
    model = MaskRCNN(
        Backbone(),
        train_set.info.num_things + 1,
        min_size=size,
        max_size=int(size * 1.6),
        rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in (32, 64, 128, 256, 512)), ((0.5, 1, 2),) * 5),
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=500,
        rpn_pre_nms_top_n_test=500,
        rpn_post_nms_top_n_test=200,
        box_batch_size_per_image=128,
        box_detections_per_img=recipe.eval.max_detections,
    )
    # the model resizes and normalises itself, so it is fed the original pixels in 0..1
    plain = Preprocess(divisor=1, keep_size=True, mean=(0, 0, 0), std=(1, 1, 1))
    backbone = [p for n, p in model.named_parameters() if p.requires_grad and "body" in n]
    rest = [p for n, p in model.named_parameters() if p.requires_grad and "body" not in n]
    groups = [{"params": backbone, "lr": 1e-4, "base": 1e-4}, {"params": rest, "lr": 3e-4, "base": 3e-4}]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-2)
    augment = build_augment({"flip": 0.5}, canvas=None, info=train_set.info)
    batches = train_loader(
        train_set, plain, augment, batch_size=2, seed=seed, start_step=0, workers=recipe.hardware.workers
    )
    budget, spent, step, curve = 60 * minutes, 0.0, 0, []
    model.train()
    while spent < budget:
        begun = time.perf_counter()
        batch = next(batches)
        factor = min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * spent / budget))
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * factor
        images = [i[:, :h, :w] for i, (h, w) in zip(batch.images, batch.sizes, strict=True)]
        targets = [
            {"boxes": t.instances.boxes, "labels": t.instances.labels + 1, "masks": t.instances.masks.byte()}
            for t in batch.targets
        ]
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(backbone + rest, 5.0)
        optimizer.step()
        spent += time.perf_counter() - begun
        step += 1
        if spent >= budget * (len(curve) + 1) / 4:
            curve.append((spent / 60, torchvision_scores(model, recipe, names, plain)))
            print(f"torchvision seed {seed} step {step}", *shown(curve[-1]), flush=True)
    return curve


def torchvision_scores(model: nn.Module, recipe: Recipe, names: str | None, plain: Preprocess) -> dict[str, float]:
    val_set = Dataset(recipe.data.root, recipe.eval.split, split_file=names)
    scores = InstanceScores(val_set.info, ("bbox", "segm"), recipe.eval.max_detections)
    model.eval()
    with torch.inference_mode():
        for i, batch in enumerate(eval_loader(val_set, plain, batch_size=1, workers=0)):
            # torchvision pastes masks at full size in floats; taking its 28x28 ones instead saves memory, not accuracy
            features, found = capture(model, batch.images)
            size = tuple(features.shape[-2:])
            masks = paste_masks(found["masks"][:, 0], found["boxes"], size, batch.original_sizes[0])
            scale = torch.tensor([batch.original_sizes[0][1] / size[1], batch.original_sizes[0][0] / size[0]] * 2)
            instances = Instances(found["boxes"] * scale, found["labels"] - 1, found["scores"], masks=masks)
            scores.update([Prediction(batch.image_ids[0], batch.original_sizes[0], instances)], [val_set.target(i)])
    model.train()
    return scores.compute()


def capture(model: MaskRCNN, images: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The resized image and the detections on it, before torchvision maps them back."""
    resized, _ = model.transform(list(images))
    features = model.backbone(resized.tensors)
    proposals, _ = model.rpn(resized, features)
    found, _ = model.roi_heads(features, proposals, resized.image_sizes)
    h, w = resized.image_sizes[0]
    return resized.tensors[:, :, :h, :w], found[0]


def segcli_run(recipe_name: str, overrides: dict, minutes: float, seed: int) -> list[tuple[float, dict[str, float]]]:
    # as torchvision's, which has no weights of the scenes: from the trunk alone
    settings = {"init": None, **overrides, "train.minutes": minutes, "train.seed": seed, "train.evaluations": 4}
    run = RunFolder(segcli.train(Recipe.load(recipe_name, settings)))
    curve = [(e["seconds"] / 60, e["metrics"]) for e in run.read_log() if "metrics" in e]
    for point in curve:
        print(f"segcli seed {seed}", *shown(point), flush=True)
    return curve


def shown(point: tuple[float, dict[str, float]]) -> tuple[str, str, str]:
    minutes, metrics = point
    return f"{minutes:.1f} min", f"box {metrics['bbox_AP']:.3f}", f"mask {metrics['segm_AP']:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--side", choices=("both", "segcli", "torchvision"), default="both")
    parser.add_argument("--root", help="the prepared dataset, where it is not the recipe's own data.root")
    arguments = parser.parse_args()
    overrides = {"data.root": arguments.root} if arguments.root else {}
    recipe = Recipe.load(arguments.recipe, overrides)
    keep_freed_memory()  # for both sides
    ends: dict[str, list[float]] = {}
    for seed in arguments.seeds:
        if arguments.side != "torchvision":
            ends.setdefault("segcli", []).append(
                segcli_run(arguments.recipe, overrides, arguments.minutes, seed)[-1][1]["segm_AP"]
            )
        if arguments.side != "segcli":
            ends.setdefault("torchvision", []).append(
                torchvision_run(recipe, arguments.minutes, seed)[-1][1]["segm_AP"]
            )
    for side, values in ends.items():
        print(
            f"{side}: mean segm AP {sum(values) / len(values):.3f}, {len(values)} seeds, {arguments.minutes:g} minutes"
        )


if __name__ == "__main__":
    main()
