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
LEAST = 0.5  # percent of the object below which a chart has none
SIDE = 380  # pixels of a picture
SIDES = ("right", "left")
PLACES = (  # DensePose-COCO's charts, 1 to 24
    *("torso, back", "torso, front", "right hand", "left hand", "left foot", "right foot"),
    *(f"{side} {limb}, {face}" for limb in ("thigh", "calf") for face in ("back", "front") for side in SIDES),
    *(
        f"{side} {limb}, {face}"
        for limb in ("upper arm", "forearm")
        for face in ("front", "back")
        for side in SIDES[::-1]
    ),
    *("head, right", "head, left"),
)


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
        covered = 100 * np.bincount(chart[on], minlength=head.surface.charts + 1)[1:] / max(1, on.sum())
        for c in np.argsort(-covered, kind="stable")[:PARTS].tolist():
            if covered[c] >= LEAST:
                place = PLACES[c] if (head.surface.charts, head.surface.coarse) == (24, 14) else f"chart {c + 1}"
                caption = f"{place}: {covered[c]:.0f} % of it"
                shown.pictures.append(Picture(_over(picture, corners, charts[c + 1]), caption, group))
    return shown


def _over(picture: np.ndarray, corners: np.ndarray, values: np.ndarray) -> np.ndarray:
    out = picture.copy()
    values = values.astype(np.float32)
    lay(out, corners, heat(values, 1.0), 0.4 + 0.5 * values)  # where there is nothing, the photograph is to be seen
    return out
