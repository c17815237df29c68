"""The maps that everything else is computed from: an R-CNN's pyramid, the backbone's maps of the other families."""

import torch

from segcli.explain.pictures import cells, feature_colours, heat_over
from segcli.explain.scene import Scene
from segcli.explain.view import Picture, Shown, View
from segcli.models.layers.pyramid import FPN


def build() -> View:
    return View(
        "Feature maps, fine to coarse",
        "Above: each map's three main directions as red, green and blue, so that cells of one colour are alike to the "
        "model; below: how long the feature vectors are. Coarser maps have fewer, larger cells (channels × rows × "
        "columns).",
        ("Feature Pyramid Networks, section 3", "https://arxiv.org/abs/1612.03144"),
        FPN.forward,
        ("features",),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    colours, strength = [], []
    for features in scene.tensors("features"):
        inside = scene.content(features)
        stride = round(scene.step(features.shape[-1], scene.batch.images.shape[3]))
        size = f"{inside.shape[0]} × {inside.shape[1]} × {inside.shape[2]}"
        colours.append(Picture(cells(feature_colours(inside)[0]), f"stride {stride}: {size}"))
        norm = torch.linalg.vector_norm(inside, dim=0)
        picture = heat_over(scene.canvas, norm, scene.covered(features))
        strength.append(Picture(picture, f"stride {stride}: length, up to {norm.max():.1f}"))
    return Shown(colours + strength, columns=len(colours))
