"""From the small map of a mask to the pixels of the image."""

import cv2
import numpy as np

from segcli.explain.pictures import cells, crop_around, fitted, heat, lay, rectangle
from segcli.explain.scene import Scene
from segcli.explain.view import Picture, Shown, View
from segcli.ops.paste import paste_masks


def build() -> View:
    return View(
        "From the mask head's map to pixels",
        "Left: the chosen channel as the head gives it; middle: its cells laid over the box, where each covers many "
        "pixels; right: the mask that becomes of it, read between the cells and cut at one half.",
        ("Mask R-CNN, section 3.1, inference", "https://arxiv.org/abs/1703.06870"),
        paste_masks,
        ("detections", "masks", "mask_channels"),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    small_maps, shown = scene.of_image("masks"), Shown(columns=3)
    for number, _, group in scene.objects():
        small = small_maps[number].numpy()
        instances, own = scene.predicted(number)
        part, (left, top) = crop_around(scene.image, instances.boxes[own])
        picture, factor = fitted(part)
        corners = (instances.boxes[own].numpy() - [left, top, left, top]) * factor
        laid = picture.copy()
        lay(laid, corners, heat(small, 1.0))
        rectangle(laid, corners, (255, 255, 255), 1)
        mask = instances.mask(own)[top : top + part.shape[0], left : left + part.shape[1]]
        final = cv2.resize(mask.astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        picture[final == 0] //= 3
        width, height = (corners[2:] - corners[:2]) / factor
        shown.pictures += [
            Picture(cells(heat(small, 1.0)), f"{small.shape[1]} × {small.shape[0]} probabilities", group),
            Picture(laid, f"over a box of {width:.0f} × {height:.0f} pixels", group),
            Picture(picture, f"a mask of {int(mask.sum()):,} pixels", group),
        ]
    return shown
