"""The mask of each query, and the class that it gives it."""

from segcli.explain.pictures import heat_over, shrunk
from segcli.explain.scene import Scene
from segcli.explain.view import Maps, Picture, Shown, View
from segcli.models.maskformer.maskformer import MaskFormer

PICTURES, LISTED = 12, 40  # queries of the PNG and of the page, best first


def build() -> View:
    return View(
        "Each query's class and mask",
        "A query answers with one class and one mask over the whole image, a thing or a stuff region alike; those "
        'that are sure of "no object" come last, and their masks do not count.',
        ("MaskFormer, section 3.2, mask classification", "https://arxiv.org/abs/2107.06278"),
        MaskFormer.decode,
        ("mask_logits", "class_probabilities"),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    logits = scene.tensor("mask_logits")[0]
    covered, masks = scene.covered(logits), scene.content(logits).sigmoid()
    order, scores, labels = scene.queries()
    names = scene.query_names(order, scores, labels)[:LISTED]
    pictures = [
        Picture(heat_over(scene.canvas, masks[query], covered), name)
        for query, name in zip(order[:PICTURES].tolist(), names, strict=False)
    ]
    listed = masks[order[:LISTED]]
    boxes = None if "boxes" not in scene.inside else scene.tensor("boxes")[0][order[:LISTED]].numpy()
    spread = int((listed > 0.5).flatten(1).any(1).sum())
    fact = f"{spread} of the {min(LISTED, len(order))} best queries have a mask at all."
    return Shown(pictures, [Maps(shrunk(listed), names, covered, boxes)], [fact], columns=4)
