"""Every channel of the mask head for one detection: one map a class, and only the detected class's is read."""

from segcli.explain.pictures import cells, heat
from segcli.explain.scene import Scene
from segcli.explain.view import Picture, Shown, View
from segcli.models.rcnn.heads.mask import MaskHead

CHANNELS = 24  # of an object with more classes: the chosen one, and the others whose maps are strongest
FRAME = (90, 200, 255)


def build() -> View:
    return View(
        "All mask channels of a detection, the chosen one framed",
        "Each class has a foreground/background map of its own. The box head has named the class, so only the framed "
        "map becomes the mask; in training, too, the others learn nothing from this object.",
        ("Mask R-CNN, section 3, mask representation", "https://arxiv.org/abs/1703.06870"),
        MaskHead.predict,
        ("detections", "mask_channels"),
        _draw,
    )


def _draw(scene: Scene) -> Shown:
    channels, shown = scene.of_image("mask_channels"), Shown(columns=6)
    names = scene.info.names[: scene.info.num_things]
    for number, label, group in scene.objects():
        maps = channels[number].sigmoid()
        own = maps[len(maps) - len(names) :]  # the standard head has an unused channel in front
        order = own.flatten(1).mean(1).argsort(descending=True).tolist()
        kept = [label, *[k for k in order if k != label]][:CHANNELS]
        for k in kept:
            pixels = cells(heat(own[k].numpy(), 1.0), 224)
            if k == label:
                for side in (pixels[:6], pixels[-6:], pixels[:, :6], pixels[:, -6:]):
                    side[:] = FRAME
            caption = (
                f"{names[k]}{' (chosen)' if k == label else ''}: {100 * float((own[k] > 0.5).float().mean()):.0f} % on"
            )
            shown.pictures.append(Picture(pixels, caption, group))
        if len(kept) < len(names):
            shown.facts = [f"{len(kept)} of {len(names)} channels: the chosen one and the strongest others."]
    return shown
