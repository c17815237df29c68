"""Paired benchmark, run by hand on an idle machine: full-size Mask R-CNN R50-FPN against torchvision's model and loop.

    python tests/benchmarks/rcnn_speed.py --rounds 5
    python tests/benchmarks/rcnn_speed.py --rounds 1 --size 128 213 --images 2      # whether it runs

Equal on both sides: weights, frozen norms, trainable stages, images (480 x 640, made here), targets, batch 2, input
size, SGD, threads. A training step begins with decoded images and ends with changed weights. A prediction begins with
a folder of JPEG files and ends with a COCO results file of RLE masks; torchvision's loop is the plain one, image by
image. Goal: 0.8 of torchvision's time, or 1.05 times what this machine's limit allows where that is more.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import limit, paired, shares
from PIL import Image
from pycocotools import mask as coco_mask
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms.functional import pil_to_tensor

from segcli.commands.predict.files import predict_files
from segcli.commands.predictor import Predictor
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.recipe.recipe import Recipe
from segcli.engine.checkpoint import load_strict
from segcli.engine.cost import flops
from segcli.engine.opening import prepare_layout
from segcli.models import build_model
from segcli.ops.cpu.allocator import keep_freed_memory
from segcli.types import Batch, Instances, Target
from segcli.weights.torchvision_rcnn import from_torchvision

CLASSES = 90
INFO = DatasetInfo("made", tuple(Category(f"class {i}", i) for i in range(1, CLASSES + 1)), {"val": 1})
SGD: dict[str, Any] = {"lr": 1e-5, "momentum": 0.9, "weight_decay": 1e-4}
NAMES = ("segcli", "torchvision")
GOAL = "0.8 at most"


def models(size: tuple[int, int]) -> tuple[Any, Any]:
    """Ours and torchvision's with the same weights, whose class scores are spread so that there are detections."""
    torch.manual_seed(0)
    body = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3)
    theirs = MaskRCNN(body, CLASSES + 1, min_size=size[0], max_size=size[1])
    theirs.roi_heads.box_predictor.cls_score.weight.data *= 30
    settings = {"name": "rcnn", "backbone": {"name": "resnet", "depth": 50}, "heads": {"box": {}, "mask": {}}}
    ours: Any = build_model(settings, task="instance", num_classes=CLASSES, num_things=CLASSES)
    load_strict(ours, from_torchvision(theirs.state_dict()), "torchvision's model")
    ours.preprocess = ours.preprocess.with_size(size)
    return prepare_layout(ours), theirs


def picture(seed: int) -> np.ndarray:
    """uint8 RGB [480,640,3] with edges at every scale."""
    rng = np.random.default_rng(seed)
    image = np.full((480, 640, 3), 110, np.int16)
    for _ in range(25):
        y, x, side = rng.integers(0, 440), rng.integers(0, 600), rng.integers(10, 200)
        image[y : y + side, x : x + side] = rng.integers(0, 255, 3)
    return np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)


def labels(image_id: int, objects: int = 7) -> Target:
    """As many objects as a COCO image has in the mean."""
    rng = np.random.default_rng(image_id)
    masks = np.zeros((objects, 480, 640), bool)
    boxes = []
    for mask in masks:
        y, x, h, w = rng.integers(0, 300), rng.integers(0, 400), rng.integers(20, 180), rng.integers(20, 240)
        mask[y : y + h, x : x + w] = True
        boxes.append([x, y, x + w, y + h])
    classes = torch.from_numpy(rng.integers(0, CLASSES, objects))
    instances = Instances(torch.tensor(boxes, dtype=torch.float32), classes, masks=torch.from_numpy(masks))
    return Target(image_id, (480, 640), instances)


def our_step(model: Any, optimizer: Any, images: list[np.ndarray], targets: list[Target]) -> float:
    begun = time.perf_counter()
    tensors = [model.preprocess.image(image) for image in images]
    padded, padding = model.preprocess.pad(tensors)
    batch = Batch(
        images=padded.contiguous(memory_format=torch.channels_last),
        padding=padding,
        sizes=[(t.shape[1], t.shape[2]) for t in tensors],
        original_sizes=[t.size for t in targets],
        image_ids=[t.image_id for t in targets],
        targets=[model.preprocess.target(t) for t in targets],
        seeds=[t.image_id for t in targets],
    )
    torch.stack(list(model(batch).values())).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - begun


def their_step(model: Any, optimizer: Any, images: list[np.ndarray], targets: list[Target]) -> float:
    begun = time.perf_counter()
    floats = [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in images]
    given = [
        {"boxes": t.instances.boxes, "labels": t.instances.labels + 1, "masks": t.instances.masks.byte()}  # type: ignore[union-attr]
        for t in targets
    ]
    sum(model(floats, given).values()).backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - begun


def our_folder(predictor: Predictor, folder: Path, out: Path) -> float:
    begun = time.perf_counter()
    predict_files(predictor, [folder], out, score=0.05, save=["coco"], progress=False)
    return time.perf_counter() - begun


@torch.inference_mode()
def their_folder(model: Any, folder: Path, out: Path) -> float:
    begun, results = time.perf_counter(), []
    for number, file in enumerate(sorted(folder.iterdir()), 1):
        with Image.open(file) as image:
            pixels = pil_to_tensor(image.convert("RGB")).float() / 255
        found = model([pixels])[0]
        for box, label, score, mask in zip(*(found[k] for k in ("boxes", "labels", "scores", "masks")), strict=True):
            rle = coco_mask.encode(np.asfortranarray((mask[0] > 0.5).byte().numpy()))
            x1, y1, x2, y2 = box.tolist()
            results.append(
                {
                    **{"image_id": number, "category_id": int(label), "score": float(score)},
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                }
            )
    out.write_text(json.dumps(results))
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=8, help="in the folder to predict")
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), help="shortest side, and longest at most")
    parser.add_argument("--threads", type=int, help="default: as many as torch takes")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as every segcli command does; it serves both sides, which share the process
    at_most = limit()
    ours, theirs = models((arguments.size[0], arguments.size[1]))
    canvas = ours.preprocess.canvas([ours.preprocess.output_size(480, 640)])
    gflops = flops(ours, canvas)["gflops"]

    recipe = Recipe.load("coco/mask_rcnn_r50_fpn", {"eval.batch_size": 1})
    predictor, plain = Predictor(ours.eval(), recipe, INFO), theirs.eval()
    with tempfile.TemporaryDirectory(prefix="segcli-speed-") as name:
        folder, out = Path(name) / "images", Path(name) / "out"
        folder.mkdir()
        for i in range(arguments.images):
            Image.fromarray(picture(i)).save(folder / f"{i:04}.jpg", quality=92)
        seconds = paired(
            f"predicting a folder of {arguments.images} images",
            lambda: our_folder(predictor, folder, out),
            lambda: their_folder(plain, folder, Path(name) / "theirs.json"),
            arguments.rounds,
            names=NAMES,
            goal=GOAL,
        )
        shares(arguments.images * gflops, seconds, NAMES, at_most)
        mine = json.loads((out / "predictions.json").read_text(encoding="utf-8"))["annotations"]
        other = json.loads((Path(name) / "theirs.json").read_text(encoding="utf-8"))
        print(f"detections: segcli {len(mine)}, torchvision {len(other)}")

    images, targets = [picture(i) for i in range(2)], [labels(i) for i in range(2)]
    sides = []
    for model, step in ((ours.train(), our_step), (theirs.train(), their_step)):
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], **SGD)
        sides.append(lambda m=model, o=optimizer, s=step: s(m, o, images, targets))
    seconds = paired("training step, 2 images", *sides, arguments.rounds, names=NAMES, goal=GOAL)
    # backward costs twice forward, less the frozen stages; 512 samples stand for the 1,000 proposals and 100 masks
    shares(2 * 3 * gflops, seconds, NAMES, at_most)


if __name__ == "__main__":
    main()
