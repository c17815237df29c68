"""Where a per-pixel model is unsure."""

import math

import torch

from segcli.drawing.overlays import draw as overlay
from segcli.explain.pictures import SIDE, heat_over
from segcli.explain.scene import Scene
from segcli.explain.view import Picture, Shown, View
from segcli.models.per_pixel.base import PerPixel


def build() -> View:
    return View(
        "Where the model is unsure",
        "Left: the classes; middle: the entropy of each pixel's probabilities, 0 where one class has all, 1 where "
        "all share alike; right: how far the best class is ahead of the next. Borders and rare classes are bright.",
        ("FCN, section 4", "https://arxiv.org/abs/1411.4038"),
        PerPixel.inspect,
        ("probabilities",),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    maps = scene.tensor("probabilities")[0]
    covered, inside = scene.covered(maps), scene.content(maps)
    entropy = torch.special.entr(inside).sum(0) / math.log(max(2, len(inside)))
    best = inside.topk(min(2, len(inside)), 0).values
    ahead = best[0] - best[-1]
    width = round(SIDE * min(1.0, scene.image.shape[1] / scene.image.shape[0]))
    pictures = [
        Picture(overlay(scene.image, scene.prediction, scene.info, width=width), "the predicted classes"),
        Picture(heat_over(scene.canvas, entropy, covered), f"entropy, mean {entropy.mean():.2f} of 1"),
        Picture(heat_over(scene.canvas, 1 - ahead, covered), "1 − lead of the best class over the next"),
    ]
    return Shown(
        pictures, [], [f"{100 * float((ahead < 0.2).float().mean()):.1f} % of the cells are nearly undecided."]
    )
