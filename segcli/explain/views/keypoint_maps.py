"""One map a keypoint: where in its box an object's nose, elbow or corner is."""

from segcli.explain.pictures import crop_around, dot, fitted, heat, lay
from segcli.explain.scene import Scene
from segcli.explain.view import Picture, Shown, View
from segcli.models.rcnn.heads.keypoint import KeypointHead


def build() -> View:
    return View(
        "A heat map for each keypoint",
        "The probabilities of one keypoint over the cells of the box sum to 1; the dot is where it is read. A broad "
        "spot is a keypoint that the model is unsure of.",
        ("Mask R-CNN, section 5", "https://arxiv.org/abs/1703.06870"),
        KeypointHead.read,
        ("detections", "keypoint_maps", "keypoints"),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    boxes, shown = scene.detections().boxes, Shown(columns=6)
    maps, points, sure = (scene.of_image(key) for key in ("keypoint_maps", "keypoints", "keypoint_sure"))
    for number, label, group in scene.objects():
        names = scene.info.categories[label].keypoints or [str(k) for k in range(maps.shape[1])]
        part, corner = crop_around(scene.canvas, boxes[number], 0.1)
        for k, name in enumerate(names[: maps.shape[1]]):
            picture, factor = fitted(part, 240)
            share = maps[number, k].flatten().softmax(0).view_as(maps[number, k]).numpy()
            lay(picture, (boxes[number].numpy() - [*corner, *corner]) * factor, heat(share**0.5), smooth=True)
            x, y = ((points[number, k].numpy() - corner) * factor).tolist()
            dot(picture, x, y, (90, 200, 255), 2)
            shown.pictures.append(Picture(picture, f"{name} {100 * float(sure[number, k]):.0f} %", group))
    return shown
