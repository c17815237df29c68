"""The decoder's cross-attention: where in the image each query looks."""

from segcli.explain.pictures import heat_over, rectangle
from segcli.explain.scene import FEW, Scene
from segcli.explain.view import Maps, Picture, Shown, View
from segcli.models.layers.transformer import DecoderLayer

LISTED = 40  # queries of the page, best first


def build() -> View:
    return View(
        "Where each query looks",
        "Attention of a query to the image in the last decoder layer, mean over the heads: a trained query reads its "
        "object's ends, which decide where a box or a mask stops.",
        ("DETR, figure 6", "https://arxiv.org/abs/2005.12872"),
        DecoderLayer.forward,
        ("query_attention", "class_probabilities"),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    attention = scene.tensor("query_attention")[0]
    covered, inside = scene.covered(attention), scene.content(attention)
    order, scores, labels = scene.queries()
    names = scene.query_names(order, scores, labels)[:LISTED]
    boxes = scene.tensor("boxes")[0] if "boxes" in scene.inside else None
    pictures = []
    for k, query in enumerate(scene.sure(FEW)[0].tolist()):
        picture = heat_over(scene.canvas, inside[query], covered)
        if boxes is not None:
            rectangle(picture, boxes[query].numpy() * picture.shape[1] / scene.size[1], (90, 200, 255), 2)
        pictures.append(Picture(picture, names[k]))
    listed = order[:LISTED]
    shown = Maps(inside[listed].numpy(), names, covered, None if boxes is None else boxes[listed].numpy())
    without = float((scores < scene.score).float().mean())
    return Shown(pictures, [shown], [f"{100 * without:.0f} % of {len(scores)} queries find nothing here."], columns=4)
