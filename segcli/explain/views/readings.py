"""The same queries read as a semantic map, as instances and as a panoptic map."""

from segcli.drawing.overlays import draw as overlay
from segcli.explain.pictures import SIDE
from segcli.explain.scene import Scene
from segcli.explain.view import Picture, Shown, View
from segcli.models.layers.set_model import SetModel
from segcli.ops.mask_inference import semantic_of
from segcli.types import Prediction


def build() -> View:
    return View(
        "The same outputs, read three ways",
        "Nothing is computed anew: a semantic map sums every query's mask times its class probabilities, instances "
        "rank queries of things, and a panoptic map gives each pixel to the query that wants it most.",
        ("MaskFormer, section 3.4", "https://arxiv.org/abs/2107.06278"),
        semantic_of,
        ("readings",),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    readings = scene.inside["readings"]
    assert isinstance(readings, list)
    one: Prediction = readings[0]
    shown = Shown(columns=3)
    ways = {
        "semantic: a class for every pixel": Prediction(0, one.size, semantic=one.semantic),
        f"instance: things with a score of {scene.score:g} or more": Prediction(0, one.size, instances=one.instances),
        "panoptic: every pixel belongs to one segment": Prediction(0, one.size, panoptic=one.panoptic),
    }
    for name, way in ways.items():
        if way.semantic is not None or way.instances is not None or way.panoptic is not None:
            width = round(SIDE * min(1.0, one.size[1] / one.size[0]))
            shown.pictures.append(Picture(overlay(scene.image, way, scene.info, score=scene.score, width=width), name))
    if isinstance(scene.model, SetModel):
        shown.facts = [
            f"The model learned task {scene.model.task}: the other readings show what that teaches of theirs."
        ]
    if len(shown.pictures) == 1:
        shown.facts = ["The dataset has no things, so that there is nothing to be told apart."]
    return shown
