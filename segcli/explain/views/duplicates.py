"""What non-maximum suppression would have merged, in models that have none."""

import torch

from segcli.explain.pictures import boxes_over, hues
from segcli.explain.scene import Scene
from segcli.explain.view import Picture, Shown, View
from segcli.ops.boxes import iou
from segcli.ops.detr_inference import detections

OVERLAP = 0.5  # IoU from which R-CNNs suppress
LEAST = 0.3  # score of a prediction that would be seen


def build() -> View:
    return View(
        "Duplicates that suppression would have merged",
        "Left: the sure predictions that no better one of their class overlaps by half; right: those that one does. A "
        "trained set predictor hardly has any, because only one query was ever matched with an object.",
        ("DETR, section 4.2 and figure 4", "https://arxiv.org/abs/2005.12872"),
        detections,
        ("boxes", "class_probabilities"),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    order, scores, labels = scene.queries()
    seen = scores >= LEAST
    order, scores, labels = order[seen], scores[seen], labels[seen]
    boxes = scene.tensor("boxes")[0][order]
    overlap = iou(boxes[:, None], boxes[None]) if len(boxes) else boxes.new_zeros(0, 0)
    alike = (overlap > OVERLAP) & (labels[:, None] == labels)
    twice = torch.tril(alike, -1).any(1)
    texts = scene.query_names(order, scores, labels)
    pictures = []
    for chosen, what in ((~twice, "kept"), (twice, "merged by suppression")):
        at = chosen.nonzero()[:, 0]
        own = [texts[k] for k in at.tolist()]
        pictures.append(Picture(boxes_over(scene.canvas, boxes[at], hues(len(at)), own), f"{len(at)} {what}"))
    fact = (
        f"Of {len(order)} predictions with a score of {LEAST:g} or more, {int(twice.sum())} overlap a better one by "
        f"more than {OVERLAP:g} (IoU)."
    )
    return Shown(pictures, [], [fact], columns=2)
