"""Run by hand: what `segcli visualize explain` costs beside a prediction, for the papers' ResNet-50 models.

    python tests/benchmarks/explain_cost.py --rounds 5
    python tests/benchmarks/explain_cost.py --recipe coco/detr_r50 --parts views      # which view takes how long
    python tests/benchmarks/explain_cost.py --rounds 1 --size 192                     # whether it runs

Weights are random, in the layout of the official files, with class scores spread so that there are detections; the
recipe opens them as it opens the official ones. Both sides have one open model and begin with the same PNG file of
480 × 640 pixels and its labels: a prediction ends with RLE masks or maps on the image's pixels, an explanation with all
views' PNGs and the page. They take turns, seconds are of the processor, and the ratio is of a pair, so that a busy
machine slows both. Peak memory: the largest of a process that explains, less the largest of one that predicts. Goals:
at most 3 times a prediction and 1,000 MB more.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import paired
from PIL import Image
from rcnn_speed import labels, picture
from torchvision.models.detection import maskrcnn_resnet50_fpn
from transformers import DetrConfig, DetrForObjectDetection

from segcli.commands.predictor import Predictor
from segcli.core.files import write_json
from segcli.core.recipe.recipe import Recipe
from segcli.data.image import read_image
from segcli.engine.opening import Opened, build, open_model, prepare_layout
from segcli.explain.explain import available, draw, look, views_named, write
from segcli.types import Target
from segcli.weights.class_rows import official_info

NAMES = ("explanation", "prediction")
GOAL, MEMORY_GOAL = "3 at most", "1,000 MB at most"
PARTS = ["time", "memory", "views"]


def mask_rcnn() -> dict[str, Any]:
    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    model.roi_heads.box_predictor.cls_score.weight.data *= 60
    return model.state_dict()


def detr() -> dict[str, Any]:
    model = DetrForObjectDetection(DetrConfig(backbone="resnet50", use_pretrained_backbone=False, num_labels=91))
    model.class_labels_classifier.weight.data *= 12
    return model.state_dict()


def maskformer() -> dict[str, Any]:
    recipe = Recipe.load("coco/maskformer_r50", {"model.backbone.weights": None})
    model = build(recipe, official_info("coco_panoptic"))  # its names are the official ones
    state = model.state_dict()
    state["sem_seg_head.predictor.class_embed.weight"] *= 12
    return state


RECIPES: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {  # the classes of its official weights, the weights
    "coco/mask_rcnn_r50_fpn": ("coco", mask_rcnn),
    "coco/detr_r50": ("coco", detr),
    "coco/maskformer_r50": ("coco_panoptic", maskformer),
}


def prepare(recipe: str, folder: Path) -> None:
    """Write the weights, the classes and the image."""
    classes, made = RECIPES[recipe]
    torch.manual_seed(0)
    torch.save(made(), folder / "weights.pth")
    write_json(folder / "info.json", official_info(classes).to_json())
    Image.fromarray(picture(0)).save(folder / "image.png")


def opened(recipe: str, folder: Path, size: int | None) -> Opened:
    changes: dict[str, Any] = {"data.root": str(folder), "model.backbone.weights": None}
    if size is not None:
        changes["data.size"] = size
    one = open_model(recipe, weights=str(folder / "weights.pth"), overrides=changes, device="cpu")
    prepare_layout(one.model)
    return one


class Sides:
    """One open model, which predicts and explains."""

    def __init__(self, recipe: str, folder: Path, size: int | None):
        self.opened, self.folder = opened(recipe, folder, size), folder
        self.predictor = Predictor(self.opened.model, self.opened.recipe, self.opened.info)

    def target(self) -> Target:
        one = labels(0)
        semantic = torch.full(one.size, 255)
        return Target(0, one.size, one.instances, semantic)

    def predict(self) -> float:
        begun = time.process_time()
        self.predictor(str(self.folder / "image.png"))
        return time.process_time() - begun

    def explain(self) -> float:
        begun = time.process_time()
        scene = look(self.opened, read_image(self.folder / "image.png"), self.target(), 0.5)
        views = available(scene, views_named(()), named=False)
        write(self.folder / "out", "explain-image", "an image", scene, views, draw(scene, views, progress=False))
        return time.process_time() - begun

    def views(self) -> None:
        """Print the seconds of each step, and what the page takes."""
        begun = time.process_time()
        scene = look(self.opened, read_image(self.folder / "image.png"), self.target(), 0.5)
        print(f"  {'model':18} {time.process_time() - begun:6.2f} s")
        views = available(scene, views_named(()), named=False)
        for name, view in views.items():
            begun = time.process_time()
            shown = view.shown(scene)
            drawn = time.process_time() - begun
            write(self.folder / "out", "one", "an image", scene, {name: view}, [(name, shown)])
            written, page = time.process_time() - begun - drawn, (self.folder / "out" / "one.html").stat().st_size
            print(f"  {name:18} {drawn:6.2f} s drawn, {written:5.2f} s written, {page / 1e6:5.2f} MB of the page")


def peak(recipe: str, folder: Path, size: int | None, *, explains: bool) -> float:
    """MB of this process at its highest."""
    torch.set_num_threads(1)  # each thread has buffers of its own
    sides = Sides(recipe, folder, size)
    sides.explain() if explains else sides.predict()
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1e3


def measure(recipe: str, folder: Path, rounds: int, size: int | None, parts: list[str]) -> None:
    prepare(recipe, folder)
    if "memory" in parts:
        spawn, mb = multiprocessing.get_context("spawn"), []
        for explains in (True, False):
            with spawn.Pool(1) as pool:
                mb.append(pool.apply(peak, (recipe, folder, size), {"explains": explains}))
        print(
            f"{recipe}, peak memory: {NAMES[0]} {mb[0]:,.0f} MB, {NAMES[1]} {mb[1]:,.0f} MB, "
            f"{mb[0] - mb[1]:,.0f} MB more; goal {MEMORY_GOAL}",
            flush=True,
        )
    if {"time", "views"} & {*parts}:
        sides = Sides(recipe, folder, size)
    if "views" in parts:
        sides.explain()
        sides.views()
    if "time" in parts:
        paired(recipe, sides.explain, sides.predict, rounds, names=NAMES, goal=GOAL)
        done = [path.stat().st_size for path in (folder / "out").glob("explain-*.png")]
        page = (folder / "out" / "explain-image.html").stat().st_size
        print(f"  {len(done)} views: PNGs of {sum(done) / 1e6:.1f} MB, a page of {page / 1e6:.1f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--recipe", choices=[*RECIPES], nargs="+", default=[*RECIPES])
    parser.add_argument("--size", type=int, help="the input's shorter side; default: the recipe's")
    parser.add_argument("--threads", type=int, help="default: as many as torch takes")
    parser.add_argument("--parts", choices=PARTS, nargs="+", default=["memory", "time"])
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        parser.error("peak memory is read as Linux states it")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    for recipe in arguments.recipe:
        with tempfile.TemporaryDirectory(prefix="segcli-explain-") as name:
            measure(recipe, Path(name), arguments.rounds, arguments.size, arguments.parts)


if __name__ == "__main__":
    main()
