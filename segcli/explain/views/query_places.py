"""Where the boxes of each query lie, over all images of a split."""

import numpy as np

from segcli.core.formatting import count
from segcli.drawing.colours import Rgb
from segcli.explain.pictures import dot, fitted
from segcli.explain.scene import Scene
from segcli.explain.view import Maps, Picture, Shown, View
from segcli.models.detr.detector import DETR

PICTURES, LISTED = 20, 60  # queries of the PNG and of the page, those that find most
SMALL, WIDE, TALL = np.array([90, 205, 90]), np.array([240, 70, 60]), np.array([80, 140, 255])
FAINT: Rgb = (95, 95, 95)


def build() -> View:
    return View(
        "Where each query looks over a dataset",
        "A dot is the middle of the box that a query gives for one image, each image as one square: green for small "
        "boxes, red for large wide ones, blue for large tall ones, grey where it finds nothing. Learned queries divide "
        "places and sizes among themselves.",
        ("DETR, section 4.3 and figure 7", "https://arxiv.org/abs/2005.12872"),
        DETR.run,
        ("split_boxes", "split_scores"),
        _draw,
        split=True,
    )


def _draw(scene: Scene) -> Shown:
    boxes, scores = scene.tensor("split_boxes").numpy(), scene.tensor("split_scores").numpy()
    sure = scores >= scene.score  # [N,Q]
    order = np.lexsort((-scores.mean(0), -sure.sum(0))).tolist()
    middles, sides = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    size = np.sqrt(np.clip(sides[..., 0] * sides[..., 1], 0, 1))
    size = np.clip(size / max(float((size[sure] if sure.any() else size).max()), 1e-9), 0, 1)  # 1: the largest found
    names = [f"query {q + 1}: found {count(int(sure[:, q].sum()), 'time')}" for q in order]
    (height, width), pictures = scene.size, []
    for q, name in zip(order[:PICTURES], names, strict=False):
        picture, factor = fitted(scene.canvas, 320)
        places = middles[:, q] * [width, height] * factor
        for i in np.argsort(sure[:, q], kind="stable").tolist():  # those that found something on top
            large = WIDE if sides[i, q, 0] > sides[i, q, 1] else TALL
            red, green, blue = (SMALL + (large - SMALL) * size[i, q]).round().astype(int).tolist()
            found = bool(sure[i, q])
            dot(picture, places[i, 0], places[i, 1], (red, green, blue) if found else FAINT, 3.5 if found else 2)
        pictures.append(Picture(picture, name))
    points = []
    for q in order[:LISTED]:
        kept = sure[:, q] if sure[:, q].any() else np.ones(len(sure), bool)
        points.append(np.column_stack([middles[kept, q] * [width, height], size[kept, q]]))
    empty = np.zeros((len(points), 1, 1), np.float32)
    listed = Maps(empty, names[:LISTED], (height, width), points=points)
    never = int((~sure.any(0)).sum())
    facts = [f"{count(len(boxes), 'image')}; {never} of {len(order)} queries never find anything at {scene.score:g}."]
    if scene.inside["selected"]:
        facts.append("This model chooses its queries in each image, best first: their numbers are ranks, not places.")
    return Shown(pictures, [listed], facts, columns=5)
