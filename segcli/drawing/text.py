"""Text on pictures: what is drawn of any text, in which typeface, and how wide it is.

Names come out of other people's files. This is the one place where they are drawn, and so where they are made fit for
it: control characters would stop the layout, and those that turn the direction of writing would disguise a name.
"""

import functools
import re
from io import BytesIO

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segcli.core.control import CONTROL, written_out
from segcli.drawing.colours import Rgb

LONGEST = 300  # letters that are drawn of one text
BREAKS = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")
HIDDEN = re.compile("[\ufffe\uffff]")  # what is no character
ASCII = frozenset(map(chr, range(32, 127)))
_WIDE_FONTS = re.compile(r"cjk|nanum|malgun|gothic|unicode|unifont|fallback|wqy|pingfang|hiragino|yahei|noto", re.I)


def plain(text: str) -> str:
    """Text as one line that can be laid out: breaks and tabs are blanks, what is hidden is written out (\\x1b), and of
    more than LONGEST letters the middle is left out."""
    if len(text) > LONGEST:
        text = text[: LONGEST // 2] + "…" + text[len(text) - LONGEST // 2 + 1 :]
    text = BREAKS.sub(" ", text)
    return HIDDEN.sub(written_out, CONTROL.sub(written_out, text))


def text_size(image_size: tuple[int, int]) -> int:
    """Text height in pixels that reads well when an image (H, W) is looked at as a whole."""
    return int(np.clip(round(0.025 * np.sqrt(image_size[0] * image_size[1])), 12, 160))


def draw_text(image: np.ndarray, text: str, x: int, y: int, size: int, colour: Rgb) -> None:
    """Text with its top left corner at (x, y), onto uint8 RGB [H,W,3], as `plain`; what reaches beyond is cut off."""
    text = plain(text)
    face = font(text, size)
    _, _, right, bottom = (round(v) for v in face.getbbox(text))
    layer = Image.new("RGBA", (max(1, right + 2), max(1, bottom + 2)), (*colour, 0))
    ImageDraw.Draw(layer).text((0, 0), text, font=face, fill=(*colour, 255))
    blend(image, np.asarray(layer), x, y)


def text_width(text: str, size: int) -> int:
    """Pixels that `draw_text` needs from left to right."""
    text = plain(text)
    return round(font(text, size).getlength(text))


def shorten(text: str, size: int, width: int) -> str:
    """`text` as `plain`, or its beginning and end with … between, no wider than `width` pixels."""
    text = plain(text)
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
    strange = frozenset(letter for letter in text if not " " <= letter <= "~")
    return _face(_source(strange), size)


@functools.lru_cache(maxsize=256)
def _source(strange: frozenset[str]) -> str | None:
    """The file of a face by the letters that are not of ASCII: names with other numbers behind them share one."""
    if not strange:
        return None  # Pillow's embedded face has ASCII only
    from matplotlib import get_data_path

    own = f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf"
    letters = strange | ASCII
    if letters <= _letters(own):
        return own
    # where no face has all letters, the one with most of them
    return max([own, *_others()], key=lambda path: len(letters & _letters(path)))


@functools.cache
def _others() -> list[str]:
    """The system's faces of many letters; its folders are searched once."""
    from matplotlib import font_manager

    return sorted(p for p in font_manager.findSystemFonts() if _WIDE_FONTS.search(p))


@functools.cache
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


def blend(image: np.ndarray, patch: np.ndarray, x: int, y: int) -> None:
    """Lay an RGBA patch onto the image, cut at its borders."""
    x1, y1 = max(0, x), max(0, y)
    x2, y2 = min(image.shape[1], x + patch.shape[1]), min(image.shape[0], y + patch.shape[0])
    if x2 <= x1 or y2 <= y1:
        return
    patch = patch[y1 - y : y2 - y, x1 - x : x2 - x].astype(np.float32)
    below = image[y1:y2, x1:x2].astype(np.float32)
    alpha = patch[:, :, 3:] / 255
    image[y1:y2, x1:x2] = cv2.convertScaleAbs(below * (1 - alpha) + patch[:, :, :3] * alpha)
