"""Deformable attention: the few points that each query reads in place of the whole image."""

import numpy as np

from segcli.drawing.colours import oklch
from segcli.explain.pictures import dot, fitted, rectangle
from segcli.explain.scene import FEW, Scene
from segcli.explain.view import Maps, Picture, Shown, View
from segcli.models.layers.deformable import DeformableAttention

LISTED = 40  # queries of the page, best first


def build() -> View:
    return View(
        "Which points each query reads",
        "Every head of a query reads a few points around its box on each map; bigger and yellower points weigh more. "
        "Where to look begins with the box and is learned as an offset from it.",
        ("Deformable DETR, section 4.1", "https://arxiv.org/abs/2010.04159"),
        DeformableAttention.forward,
        ("decoder_points", "boxes"),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    read = scene.tensors("decoder_points")[-1]  # [Q,heads,levels,points,3]
    points = read.flatten(1, 3).numpy()
    points[..., 2] /= max(float(points[..., 2].max()), 1e-9)
    order, scores, labels = scene.queries()
    names = scene.query_names(order, scores, labels)[:LISTED]
    boxes = scene.tensor("boxes")[0]
    pictures = []
    for k, query in enumerate(scene.sure(FEW)[0].tolist()):
        picture, factor = fitted(scene.canvas)
        picture = picture // 2
        rectangle(picture, boxes[query].numpy() * factor, (90, 200, 255), 2)
        for x, y, weight in sorted(points[query].tolist(), key=lambda point: point[2]):
            dot(picture, x * factor, y * factor, oklch(0.5 + 0.4 * weight, 0.16, 30 + 70 * weight), 2 + 5 * weight**0.5)
        pictures.append(Picture(picture, names[k]))
    listed = order[:LISTED].tolist()
    empty = np.zeros((len(listed), 1, 1), np.float32)
    height, width = scene.size
    shown = Maps(empty, names, (height, width), boxes[listed].numpy(), points=[points[q] for q in listed])
    _, heads, levels, each, _ = read.shape
    fact = f"{heads} heads × {levels * each} points on the maps = {heads * levels * each} readings a query."
    return Shown(pictures, [shown], [fact], columns=4)
