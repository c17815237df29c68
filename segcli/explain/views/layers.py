"""How the boxes of the queries move from one decoder layer to the next."""

from segcli.explain.pictures import boxes_over, hues
from segcli.explain.scene import FEW, Scene
from segcli.explain.view import Boxes, Picture, Shown, View
from segcli.models.detr.detector import DETR
from segcli.ops.boxes import iou


def build() -> View:
    return View(
        "Boxes layer by layer",
        "The boxes that the sure queries, each in its colour, have after every decoder layer: the first one finds "
        "roughly where, the later ones settle who takes which object and where it ends.",
        ("DETR, figure 4", "https://arxiv.org/abs/2005.12872"),
        DETR.run,
        ("layer_boxes", "class_probabilities"),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    layers = scene.tensor("layer_boxes")[:, 0]
    query, scores, labels = scene.sure(FEW)
    names = scene.query_names(query, scores, labels)
    shown, widget = Shown(columns=min(4, len(layers))), Boxes({}, len(query))
    for number, boxes in enumerate(layers[:, query], start=1):
        overlap = float(iou(boxes, layers[-1][query]).mean())
        texts = [f"{q + 1}" for q in query.tolist()]
        picture = boxes_over(scene.canvas, boxes, hues(len(query)), texts)
        shown.pictures.append(Picture(picture, f"layer {number}: IoU {overlap:.2f} with the last one's"))
        widget.sets[f"layer {number}"] = boxes.numpy(), names, scores.numpy()
    shown.widgets.append(widget)
    return shown
