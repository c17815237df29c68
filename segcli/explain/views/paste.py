"""From the small map of a mask to the pixels of the image."""

import cv2
import numpy as np
import torch

from segcli.explain.pictures import cells, crop_around, fitted, heat, rectangle
from segcli.explain.scene import FEW, Scene
from segcli.explain.view import Picture, Shown, View


def build() -> View:
    return View(
        "From the mask head's map to pixels",
        "Left: the chosen channel as the head gives it; middle: its cells laid over the box, where each covers many "
        "pixels; right: the mask that becomes of it, read between the cells and cut at one half.",
        ("Mask R-CNN, section 3.1, inference", "https://arxiv.org/abs/1703.06870"),
        "ops/paste.py",
        ("detections", "masks", "mask_channels"),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    found, instances = scene.detections(), scene.prediction.instances
    assert instances is not None
    if not len(found.boxes) or not len(instances):
        return Shown(facts=["The model found nothing: there is no mask."])
    shown = Shown(columns=3)
    height, width = scene.image.shape[:2]
    scale = torch.tensor([width / scene.size[1], height / scene.size[0]] * 2)
    for number, box in enumerate(found.boxes[:FEW].cpu() * scale):
        small = found.extra["masks"][number].float().cpu().numpy()
        # heads may change scores, and with them the order: the prediction of this detection is the one with its box
        own = int((instances.boxes - box).abs().sum(1).argmin())
        group = f"{number + 1}: {scene.name(int(found.labels[number]), float(found.scores[number]))}"
        part, (left, top) = crop_around(scene.image, box)
        picture, factor = fitted(part)
        x1, y1, x2, y2 = np.rint((box.numpy() - [left, top, left, top]) * factor).astype(int).tolist()
        laid = picture.copy()
        large = cv2.resize(small, (max(1, x2 - x1), max(1, y2 - y1)), interpolation=cv2.INTER_NEAREST)
        inside = laid[max(0, y1) : y2, max(0, x1) : x2]
        colour = heat(large, 1.0)[max(0, -y1) :, max(0, -x1) :][: inside.shape[0], : inside.shape[1]]
        inside[:] = cv2.addWeighted(inside, 0.35, colour, 0.65, 0)
        rectangle(laid, np.array([x1, y1, x2, y2], float), (255, 255, 255), 1)
        mask = instances.mask(own)[top : top + part.shape[0], left : left + part.shape[1]]
        final = cv2.resize(mask.astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        picture[final == 0] //= 3
        pixels = int(mask.sum())
        shown.pictures += [
            Picture(cells(heat(small, 1.0)), f"{small.shape[1]} × {small.shape[0]} probabilities", group),
            Picture(
                laid, f"over a box of {x2 / factor - x1 / factor:.0f} × {y2 / factor - y1 / factor:.0f} pixels", group
            ),
            Picture(picture, f"a mask of {pixels:,} pixels", group),
        ]
    return shown
