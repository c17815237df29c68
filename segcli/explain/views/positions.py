"""DETR's tokens: the backbone's coarsest map, and the sines that tell each cell where it is."""

import numpy as np
import torch
import torch.nn.functional as F

from segcli.explain.pictures import cells, feature_colours, heat_over
from segcli.explain.scene import Scene
from segcli.explain.view import Maps, Picture, Shown, View
from segcli.models.layers.position import SinePosition


def build() -> View:
    return View(
        "What a token is: features, and where it lies",
        "Attention has no sense of place, so that sines of each cell's row and column are added to its features. The "
        "heat shows how alike the positions of all cells are to the chosen one's.",
        ("DETR, section 3.2 and appendix A.4", "https://arxiv.org/abs/2005.12872"),
        SinePosition.forward,
        ("projected", "position"),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    features, position = (scene.content(scene.tensor(key)[0]) for key in ("projected", "position"))
    channels, (h, w) = len(position), features.shape[1:]
    unit = F.normalize(position.flatten(1), dim=0)
    alike = (unit.T @ unit).clamp(min=0).view(h * w, h, w) ** 4  # to the fourth power: neighbours stand out
    covered = scene.covered(scene.tensor("projected"))
    middle = h // 2 * w + w // 2
    waves = [0, channels // 8, channels // 2, channels // 2 + channels // 8]
    pictures = [
        Picture(cells(feature_colours(features)[0]), f"features: {h} × {w} tokens of {channels} numbers"),
        Picture(cells(feature_colours(features + position)[0]), "features + positions: of these, queries and keys"),
        Picture(heat_over(scene.canvas, alike[middle], covered), "positions like that of the cell in the middle"),
    ]
    for k in waves:
        wave = ((position[k] + 1) * 127.5).round().to(torch.uint8).numpy()
        axis = "row" if k < channels // 2 else "column"
        pictures.append(Picture(cells(np.repeat(wave[..., None], 3, 2)), f"channel {k + 1} of the position: {axis}"))
    return Shown(pictures, [Maps(alike.numpy(), [], covered, cells=True)], columns=4)
