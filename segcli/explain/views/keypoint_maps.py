"""One map a keypoint: where in its box an object's nose, elbow or corner is."""

import cv2
import numpy as np

from segcli.explain.pictures import crop_around, dot, fitted, heat
from segcli.explain.scene import FEW, Scene
from segcli.explain.view import Picture, Shown, View


def build() -> View:
    return View(
        "A heat map for each keypoint",
        "The probabilities of one keypoint over the cells of the box sum to 1; the dot is where it is read. A broad "
        "spot is a keypoint that the model is unsure of.",
        ("Mask R-CNN, section 5", "https://arxiv.org/abs/1703.06870"),
        "models/rcnn/heads/keypoint.py",
        ("detections", "keypoint_maps", "keypoints"),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    found = scene.detections()
    if not len(found.boxes):
        return Shown(facts=["The model found nothing: there is no keypoint."])
    shown = Shown(columns=6)
    for number, label in enumerate(found.labels[:FEW].tolist()):
        box, maps = found.boxes[number].cpu(), found.extra["keypoint_maps"][number].float().cpu()
        names = scene.info.categories[label].keypoints or [str(k) for k in range(len(maps))]
        group = f"{number + 1}: {scene.name(label, float(found.scores[number]))}"
        part, corner = crop_around(scene.canvas, box, 0.1)
        for k, name in enumerate(names[: len(maps)]):
            picture, factor = fitted(part, 240)
            move = np.array([*corner, *corner])
            x1, y1, x2, y2 = np.rint((box.numpy() - move) * factor).astype(int).tolist()
            share = maps[k].flatten().softmax(0).view_as(maps[k]).numpy()
            large = cv2.resize(share, (max(1, x2 - x1), max(1, y2 - y1)), interpolation=cv2.INTER_LINEAR)
            inside = picture[max(0, y1) : y2, max(0, x1) : x2]
            colour = heat(large)[max(0, -y1) :, max(0, -x1) :][: inside.shape[0], : inside.shape[1]]
            inside[:] = cv2.addWeighted(inside, 0.45, colour, 0.75, 0)
            x, y = ((found.extra["keypoints"][number, k].cpu().numpy() - move[:2]) * factor).tolist()
            dot(picture, x, y, (90, 200, 255), 4)
            sure = float(found.extra["keypoint_sure"][number, k])
            shown.pictures.append(Picture(picture, f"{name} {100 * sure:.0f} %", group))
    return shown
