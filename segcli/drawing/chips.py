"""Label chips: small rounded plates with text, placed where they hide least."""

import dataclasses
import functools
import re
from io import BytesIO

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segcli.drawing.colours import Rgb, ink_on

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels
_WIDE_FONTS = re.compile(r"cjk|nanum|malgun|gothic|unicode|unifont|fallback|wqy|pingfang|hiragino|yahei|noto", re.I)
_SUPERSAMPLE = 4


@dataclasses.dataclass
class Chip:
    """`texts`: what to say, the longest version first; a shorter one is used where the object is too small for it.

    anchor: the object's box; inside: the chip belongs to the middle of it (stuff regions) rather than to its corner.
    """

    texts: list[str]
    colour: Rgb
    anchor: Box
    inside: bool = False


def draw_chips(image: np.ndarray, chips: list[Chip], size: int) -> int:
    """Draw what finds a place onto uint8 RGB [H,W,3], in order of importance; -> how many did.

    size: text height in pixels. A chip that would cover another one, or that dwarfs its object where objects are many,
    is left out: outlines stay readable.
    """
    height, width = image.shape[:2]
    taken: list[Box] = []
    anchors = np.array([c.anchor for c in chips], np.float64).reshape(-1, 4)
    crowded = len(chips) > 25
    for number, chip in enumerate(chips):
        for text in chip.texts[-1:] if crowded else chip.texts:
            patch = _patch(text, chip.colour, size)
            h, w = patch.shape[:2]
            if w > width or h > height or (crowded and not _in_proportion(w, h, chip.anchor)):
                continue
            place = _place(chip, w, h, (height, width), taken, np.delete(anchors, number, 0))
            if place is not None:
                _blend(image, patch, *place)
                taken.append((place[0], place[1], place[0] + w, place[1] + h))
                break
    return len(taken)


def text_size(image_size: tuple[int, int]) -> int:
    """Text height in pixels that reads well when an image (H, W) is looked at as a whole."""
    return int(np.clip(round(0.025 * np.sqrt(image_size[0] * image_size[1])), 12, 160))


def draw_text(image: np.ndarray, text: str, x: int, y: int, size: int, colour: Rgb) -> None:
    """Plain text with its top left corner at (x, y), onto uint8 RGB [H,W,3]; what reaches beyond is cut off."""
    face = font(text, size)
    _, _, right, bottom = (round(v) for v in face.getbbox(text))
    layer = Image.new("RGBA", (max(1, right + 2), max(1, bottom + 2)), (*colour, 0))
    ImageDraw.Draw(layer).text((0, 0), text, font=face, fill=(*colour, 255))
    _blend(image, np.asarray(layer), x, y)


def text_width(text: str, size: int) -> int:
    return round(font(text, size).getlength(text))


def shorten(text: str, size: int, width: int) -> str:
    """`text`, or its beginning and end with … between, no wider than `width` pixels."""
    if text_width(text, size) <= width:
        return text
    for keep in range(len(text) - 1, 1, -1):
        short = text[: (keep + 1) // 2] + "…" + text[len(text) - keep // 2 :]
        if text_width(short, size) <= width:
            return short
    return "…"


@functools.lru_cache(maxsize=256)
def font(text: str, size: int) -> ImageFont.FreeTypeFont:
    """A typeface that has the text's letters: Pillow's own, DejaVu, or one of the system's for other scripts."""
    return _face(_source(frozenset(text)), size)


@functools.lru_cache(maxsize=256)
def _source(letters: frozenset[str]) -> str | None:
    if all(" " <= c <= "~" for c in letters):
        return None  # Pillow's embedded face has ASCII only
    from matplotlib import font_manager, get_data_path

    own = f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf"
    others = sorted(p for p in font_manager.findSystemFonts() if _WIDE_FONTS.search(p))
    # where no face has all letters, the one with most of them
    return max([own, *others], key=lambda path: len(letters & _letters(path)))


@functools.lru_cache(maxsize=64)
def _letters(path: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (RuntimeError, OSError):
        return frozenset()


@functools.lru_cache(maxsize=64)
def _face(source: str | None, size: int) -> ImageFont.FreeTypeFont:
    if source is None:
        face = ImageFont.load_default(size)
        assert isinstance(face, ImageFont.FreeTypeFont)
        return face
    with open(source, "rb") as file:  # Pillow can't open paths with every letter on every system
        return ImageFont.truetype(BytesIO(file.read()), round(0.92 * size))


def _patch(text: str, colour: Rgb, size: int) -> np.ndarray:
    """The chip as uint8 RGBA [h,w,4]."""
    face = font(text, size)
    left, _, right, _ = face.getbbox(text)
    _, cap_top, _, base = face.getbbox("Hg")
    pad_x, pad_y = max(3, round(0.38 * size)), max(2, round(0.2 * size))
    w, h = round(right - left) + 2 * pad_x, round(base - cap_top) + 2 * pad_y
    big = Image.new("L", (w * _SUPERSAMPLE, h * _SUPERSAMPLE), 0)
    radius = round(0.3 * size * _SUPERSAMPLE)
    ImageDraw.Draw(big).rounded_rectangle((0, 0, big.width - 1, big.height - 1), radius, fill=235)
    plate = Image.new("RGBA", (w, h), (*colour, 255))
    ImageDraw.Draw(plate).text((pad_x - left, pad_y - cap_top), text, font=face, fill=(*ink_on(colour), 255))
    plate.putalpha(big.resize((w, h), Image.Resampling.BOX))
    return np.asarray(plate)


def _in_proportion(w: int, h: int, anchor: Box) -> bool:
    x1, y1, x2, y2 = anchor
    return w <= 1.1 * (x2 - x1) and w * h <= 0.35 * (x2 - x1) * (y2 - y1)


def _place(
    chip: Chip, w: int, h: int, size: tuple[int, int], taken: list[Box], others: np.ndarray
) -> tuple[int, int] | None:
    """The top left corner, among a few near the object, that covers no chip and least of other objects."""
    x1, y1, x2, y2 = chip.anchor
    middle = ((x1 + x2 - w) / 2, (y1 + y2 - h) / 2)
    if chip.inside:
        candidates = [middle, *((middle[0], middle[1] + d * 1.15 * h) for d in (-1, 1, -2, 2))]
    else:
        candidates = [(x1, y1 - h), (x1, y1), (x2 - w, y1 - h), (middle[0], y1 - h), (x2 - w, y1)]
        candidates += [(x1, y2), (x1, y2 - h), (x2 - w, y2), (x2, y1), (x1 - w, y1), middle]
    best, best_cost = None, float("inf")
    for rank, (x, y) in enumerate(candidates):
        x = float(np.clip(x, 0, size[1] - w))
        y = float(np.clip(y, 0, size[0] - h))
        box = (x, y, x + w, y + h)
        if any(_overlap(box, t) > 0 for t in taken):
            continue
        hidden = float(_overlaps(box, others).sum()) / (w * h)
        away = max(x1 - box[2], box[0] - x2, y1 - box[3], box[1] - y2, 0) / h
        cost = 0.06 * rank + hidden + away
        if cost < best_cost:
            best, best_cost = (round(x), round(y)), cost
    return best


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _overlaps(box: Box, others: np.ndarray) -> np.ndarray:
    """Pixels that `box` shares with each of `others` [N,4]."""
    w = np.minimum(others[:, 2], box[2]) - np.maximum(others[:, 0], box[0])
    h = np.minimum(others[:, 3], box[3]) - np.maximum(others[:, 1], box[1])
    return w.clip(0) * h.clip(0)


def _blend(image: np.ndarray, patch: np.ndarray, x: int, y: int) -> None:
    """Lay an RGBA patch onto the image, cut at its borders."""
    x1, y1 = max(0, x), max(0, y)
    x2, y2 = min(image.shape[1], x + patch.shape[1]), min(image.shape[0], y + patch.shape[0])
    if x2 <= x1 or y2 <= y1:
        return
    patch = patch[y1 - y : y2 - y, x1 - x : x2 - x].astype(np.float32)
    below = image[y1:y2, x1:x2].astype(np.float32)
    alpha = patch[:, :, 3:] / 255
    image[y1:y2, x1:x2] = cv2.convertScaleAbs(below * (1 - alpha) + patch[:, :, :3] * alpha)
