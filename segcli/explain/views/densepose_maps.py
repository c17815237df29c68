"""DensePose: which part of the body's surface each pixel of an object shows, and where on it."""

import dataclasses

import numpy as np
import torch

from segcli.explain.pictures import crop_around, fitted, heat, lay
from segcli.explain.scene import Scene
from segcli.explain.view import Picture, Shown, View
from segcli.fields.densepose import DensePose
from segcli.models.rcnn.heads.densepose import DensePoseHead

PARTS = 8  # charts that have pictures of their own, those with most of the object
SIDE = 380  # pixels of a picture


def build() -> View:
    return View(
        "Body charts, and the place on them",
        "The maps say what is the object at all, which chart of the body's surface a pixel shows (I), and where on it "
        "that lies (U and V, dark 0, bright 1). Then: how probable each chart is; the likeliest one is I.",
        ("DensePose, sections 3 and 4", "https://arxiv.org/abs/1802.00434"),
        DensePoseHead.finish,
        ("detections", "densepose", "pooling_heads"),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    maps, shown, heads = scene.of_image("densepose"), Shown(columns=6), scene.inside["pooling_heads"]
    assert isinstance(heads, dict)
    head = next(one for one in heads.values() if isinstance(one, DensePoseHead))
    for number, _, group in scene.objects(len(maps)):
        coarse, charts = (one.softmax(0).numpy() for one in maps[number].split(head.predictor.sizes)[:2])
        instances, own = scene.predicted(number)
        box = instances.boxes[own]
        part, (left, top) = crop_around(scene.image, box, 0.1)
        picture, factor = fitted(part, SIDE)
        move = np.array([left, top, left, top])
        corners = (box.numpy() - move) * factor
        field = DensePose.of(instances)[torch.tensor([own])]
        assert field.maps is not None
        chart, u, v = field.maps[0].numpy()
        on = chart > 0
        coloured = picture.copy()
        nearer = dataclasses.replace(field, boxes=box[None] - torch.from_numpy(move))
        nearer.draw(coloured, instances[torch.tensor([own])], scene.info, factor, [(255, 255, 255)])
        count = len(np.unique(chart[on]))
        shown.pictures.append(Picture(_over(picture, corners, 1 - coarse[0]), "the object, as probability", group))
        shown.pictures.append(Picture(coloured, f"I: {count} of {head.surface.charts} charts", group))
        for name, values in (("U", u), ("V", v)):
            spread = f" {values[on].min() / 255:.2f} to {values[on].max() / 255:.2f}" if on.any() else " nowhere"
            shown.pictures.append(Picture(_over(picture, corners, values / 255 * on), name + spread, group))
        covered = np.bincount(chart[on], minlength=head.surface.charts + 1)[1:]
        order = np.lexsort((-charts[1:].mean((1, 2)), -covered))[:PARTS]
        for c in order.tolist():
            share = 100 * covered[c] / max(1, on.sum())
            shown.pictures.append(
                Picture(_over(picture, corners, charts[c + 1]), f"chart {c + 1}: {share:.0f} % of the object", group)
            )
    return shown


def _over(picture: np.ndarray, corners: np.ndarray, values: np.ndarray) -> np.ndarray:
    out = picture.copy()
    lay(out, corners, heat(values.astype(np.float32), 1.0), 0.75)
    return out
