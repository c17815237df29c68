"""Where the first stage of an R-CNN sees objects, before and after non-maximum suppression."""

import torch
from torch import Tensor

from segcli.core.formatting import count
from segcli.drawing.colours import oklch
from segcli.explain.pictures import boxes_over
from segcli.explain.scene import Scene
from segcli.explain.view import Boxes, Picture, Shown, View
from segcli.models.interface import Detections
from segcli.models.rcnn.rcnn import RCNN
from segcli.models.rcnn.rpn import RPN

DRAWN = 60  # boxes of a picture
KEPT = 300  # boxes of the page


def build() -> View:
    return View(
        "Proposals before and after suppression",
        "Left: the best-scored boxes of the proposal network, heaps of them on each object; middle: what non-maximum "
        "suppression leaves for the heads; right: what they make of it. Yellow is a high score, blue a low one.",
        ("Faster R-CNN, section 3.1", "https://arxiv.org/abs/1506.01497"),
        RPN.propose,
        ("proposals", "proposal_scores", "proposal_outputs"),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    raw, model = scene.inside["proposal_outputs"], scene.model
    assert isinstance(raw, dict)
    assert isinstance(model, RCNN)
    boxes, scores = (v.cpu() for v in model.rpn.candidates(raw)[0])
    kept, kept_scores = scene.of_image("proposals"), scene.of_image("proposal_scores")
    if kept_scores.ndim == 2:
        kept_scores = kept_scores.amax(1)
    every, chosen = scene.detections(), scene.shown()
    found = Detections(every.boxes[chosen], every.labels[chosen], every.scores[chosen])
    texts = [scene.name(int(label), float(s)) for label, s in zip(found.labels, found.scores, strict=True)]
    least = f"a score of {scene.score:g} or more" if (found.scores >= scene.score).all() else "the best score"
    sets: dict[str, tuple[Tensor, Tensor, list[str] | None]] = {
        f"{len(boxes):,} boxes of the proposal network": (boxes, scores, None),
        f"{len(kept):,} after suppression": (kept, kept_scores, None),
        f"{count(len(found.boxes), 'detection')} with {least}": (found.boxes.cpu(), found.scores.cpu(), texts),
    }
    pictures, shown = [], Boxes({}, DRAWN)
    for name, (box, score, named) in sets.items():
        best = score.argsort(descending=True, stable=True)[:KEPT]  # of detections: their own order
        percent = [f"{100 * s:.0f} %" for s in score[best].tolist()]
        shown.sets[name] = box[best].numpy(), named or percent, score[best].numpy()
        pictures.append(_picture(scene, name, box[best[:DRAWN]], score[best[:DRAWN]], named))
    return Shown(pictures, [shown], columns=3)


def _picture(scene: Scene, name: str, boxes: Tensor, scores: Tensor, texts: list[str] | None) -> Picture:
    """The worst first, so that the best lie on top."""
    back = torch.arange(len(boxes)).flip(0)
    top = max(float(scores.max()), 1e-6) if len(scores) else 1.0
    colours = [oklch(0.45 + 0.42 * s, 0.16, 265 - 170 * s) for s in (scores[back] / top).tolist()]
    own = None if texts is None else [texts[i] for i in back.tolist()]
    more = f", the best {len(boxes)}" if len(boxes) == DRAWN else ""
    return Picture(boxes_over(scene.canvas, boxes[back], colours, own), name + more)
