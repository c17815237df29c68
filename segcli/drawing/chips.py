"""Label chips: small rounded plates with text, placed where they hide least."""

import dataclasses

import numpy as np
from PIL import Image, ImageDraw

from segcli.drawing.colours import Rgb, ink_on
from segcli.drawing.text import blend, font, plain

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels
_SUPERSAMPLE = 4
CROWD = 25  # objects of a picture beyond which only chips in proportion to theirs are drawn


@dataclasses.dataclass
class Chip:
    """`texts`: what to say, the longest version first; a shorter one is used where the object is too small for it.

    anchor: the object's box; inside: the chip belongs to the middle of it (stuff regions) rather than to its corner.
    room: pixels of a region whose anchor is no more than a point.
    """

    texts: list[str]
    colour: Rgb
    anchor: Box
    inside: bool = False
    room: float = 0.0


def draw_chips(image: np.ndarray, chips: list[Chip], size: int) -> int:
    """Draw what finds a place onto uint8 RGB [H,W,3], in order of importance; -> how many did.

    size: text height in pixels. A chip that would cover another one, or that dwarfs its object where objects are many,
    is left out: outlines stay readable.
    """
    height, width = image.shape[:2]
    taken = np.zeros((len(chips), 4))  # the first `count` rows are chips that are there
    count = 0
    anchors = np.array([c.anchor for c in chips], np.float64).reshape(-1, 4)
    crowded = len(chips) > CROWD
    for number, chip in enumerate(chips):
        for text in map(plain, chip.texts[-1:] if crowded else chip.texts):
            w, h = _patch_size(text, size)
            if w > width or h > height or (crowded and not _in_proportion(w, h, chip)):
                continue
            place = _place(chip, number, (w, h), (height, width), taken[:count], anchors)
            if place is not None:
                blend(image, _patch(text, chip.colour, size), *place)
                taken[count] = place[0], place[1], place[0] + w, place[1] + h
                count += 1
                break
    return count


def _padding(size: int) -> tuple[int, int]:
    """Pixels around the text, left and right, above and below."""
    return max(3, round(0.38 * size)), max(2, round(0.2 * size))


def _patch_size(text: str, size: int) -> tuple[int, int]:
    """(w, h) of the chip: it is drawn only where it has a place."""
    face = font(text, size)
    left, _, right, _ = face.getbbox(text)
    _, cap_top, _, base = face.getbbox("Hg")
    pad_x, pad_y = _padding(size)
    return round(right - left) + 2 * pad_x, round(base - cap_top) + 2 * pad_y


def _patch(text: str, colour: Rgb, size: int) -> np.ndarray:
    """The chip as uint8 RGBA [h,w,4]."""
    face = font(text, size)
    left, _, _, _ = face.getbbox(text)
    _, cap_top, _, _ = face.getbbox("Hg")
    (pad_x, pad_y), (w, h) = _padding(size), _patch_size(text, size)
    big = Image.new("L", (w * _SUPERSAMPLE, h * _SUPERSAMPLE), 0)
    radius = round(0.3 * size * _SUPERSAMPLE)
    ImageDraw.Draw(big).rounded_rectangle((0, 0, big.width - 1, big.height - 1), radius, fill=235)
    plate = Image.new("RGBA", (w, h), (*colour, 255))
    ImageDraw.Draw(plate).text((pad_x - left, pad_y - cap_top), text, font=face, fill=(*ink_on(colour), 255))
    plate.putalpha(big.resize((w, h), Image.Resampling.BOX))
    return np.asarray(plate)


def _in_proportion(w: int, h: int, chip: Chip) -> bool:
    if chip.room:
        return w * h <= 0.35 * chip.room
    x1, y1, x2, y2 = chip.anchor
    return w <= 1.1 * (x2 - x1) and w * h <= 0.35 * (x2 - x1) * (y2 - y1)


def _place(
    chip: Chip, number: int, patch: tuple[int, int], size: tuple[int, int], taken: np.ndarray, anchors: np.ndarray
) -> tuple[int, int] | None:
    """The top left corner, among a few near the object, that covers no chip and least of other objects.

    number: the chip's own row in `anchors` [N,4]; patch: its (w, h); size: the image's (H, W); taken: chips [M,4].
    """
    w, h = patch
    x1, y1, x2, y2 = chip.anchor
    middle = ((x1 + x2 - w) / 2, (y1 + y2 - h) / 2)
    if chip.inside:
        candidates = [middle, *((middle[0], middle[1] + d * 1.15 * h) for d in (-1, 1, -2, 2))]
    else:
        candidates = [(x1, y1 - h), (x1, y1), (x2 - w, y1 - h), (middle[0], y1 - h), (x2 - w, y1)]
        candidates += [(x1, y2), (x1, y2 - h), (x2 - w, y2), (x2, y1), (x1 - w, y1), middle]
    corners = np.clip(np.array(candidates, np.float64), 0, (size[1] - w, size[0] - h))
    boxes = np.concatenate([corners, corners + np.array([w, h])], 1)
    free = ~(_overlaps(boxes, taken) > 0).any(1)
    if not free.any():
        return None
    covered = _overlaps(boxes, anchors)
    covered[:, number] = 0
    gaps = np.stack([x1 - boxes[:, 2], boxes[:, 0] - x2, y1 - boxes[:, 3], boxes[:, 1] - y2])
    cost = 0.06 * np.arange(len(boxes)) + covered.sum(1) / (w * h) + gaps.max(0).clip(0) / h
    x, y = corners[int(np.where(free, cost, np.inf).argmin())]
    return round(float(x)), round(float(y))


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pixels that each of `boxes` [K,4] shares with each of `others` [N,4]: [K,N]."""
    shared = np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - np.maximum(boxes[:, None, :2], others[None, :, :2])
    return np.asarray(shared.clip(0).prod(2))
