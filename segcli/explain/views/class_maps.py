"""A per-pixel model's answer: for every class a map of how probable it is."""

import torch

from segcli.explain.pictures import heat_over, shrunk
from segcli.explain.scene import Scene
from segcli.explain.view import Maps, Picture, Shown, View
from segcli.models.per_pixel.base import PerPixel

PICTURES, LISTED = 12, 60  # classes of the PNG and of the page


def build() -> View:
    return View(
        "A probability map for each class",
        "Every pixel divides a probability of 1 among the classes, and the largest share names it. Nothing here "
        "knows of objects: two cars side by side are one region.",
        ("FCN, section 4", "https://arxiv.org/abs/1411.4038"),
        PerPixel.inspect,
        ("probabilities",),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    maps = scene.tensor("probabilities")[0]
    covered, inside = scene.covered(maps), scene.content(maps)
    chosen = torch.bincount(inside.argmax(0).flatten(), minlength=len(inside)) / inside[0].numel()
    order = (chosen + 1e-3 * inside.mean((1, 2))).argsort(descending=True).tolist()
    name = lambda k: f"{scene.info.names[k]}: {100 * chosen[k]:.0f} % of the image"
    pictures = [Picture(heat_over(scene.canvas, inside[k], covered), name(k)) for k in order[:PICTURES]]
    names = [name(k) for k in order[:LISTED]]
    facts = [f"The {PICTURES} of {len(inside)} classes with most pixels."] if len(inside) > PICTURES else []
    return Shown(pictures, [Maps(shrunk(inside[order[:LISTED]]), names, covered)], facts, columns=4)
