"""The one place where an image file is opened: by decoders of image formats alone, and none that claims too much.

Pillow left to itself also opens PostScript (which starts another program) and containers of other sciences, by what a
file holds and not by its name. What stands here is decoded inside this process, from the bytes alone.
"""

import functools
import io
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from segcli.core.files import open_regular

FORMATS: tuple[str, ...] = ("JPEG", "MPO", "PNG", "TIFF", "BMP", "DIB", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF")
FORMATS += ("ICO", "PCX", "PSD", "QOI", "SGI", "TGA")  # TGA last: its files have no mark at their beginning
HEIC = "HEIF"  # photographs of phones: a plugin's, see `reads_heic`
# Scans of 20,000 x 20,000 are ordinary here. OpenCV's own limit, 3 GB of RGB; Pillow's is 179 million
MOST_PIXELS = 2**30
# A picture of more pixels than UNDOUBTED must have a byte for so many of them: a flat JPEG has, a few kilobytes that
# would become gigabytes have not. No PNG can have fewer than one for DEFLATED pixels: its content would be cut off
UNDOUBTED, PER_BYTE, DEFLATED = 2**29, 64, 8 * 1032
FAILURES = (OSError, ValueError, SyntaxError, EOFError, UnidentifiedImageError, Image.DecompressionBombError)

Image.MAX_IMAGE_PIXELS = MOST_PIXELS  # also of a frame inside a file; Pillow refuses above twice as much
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # `open_image` refuses from there on


def open_image(file: Path | bytes) -> Image.Image:
    """An image file, or the content of one, opened by Pillow and not decoded yet: use it in `with`.

    Raises one of FAILURES, with the cause as its text, where no decoder of FORMATS knows it, and for a picture of more
    pixels than can be meant.
    """
    stream = io.BytesIO(file) if isinstance(file, bytes) else open_regular(file)
    try:
        image = Image.open(stream, formats=_decoders())
        size = len(file) if isinstance(file, bytes) else file.stat().st_size
        refuse_bomb(image.width, image.height, size, deflated=image.format == "PNG")
    except BaseException:
        stream.close()
        raise
    image._exclusive_fp = True  # closing the image closes its file
    return image


def refuse_bomb(width: int, height: int, size: int, *, deflated: bool = False) -> None:
    """Raise DecompressionBombError for more pixels than a file of `size` bytes can be meant to hold."""
    pixels = width * height
    reason = None
    if pixels > MOST_PIXELS:
        reason = f"at most {MOST_PIXELS:,} are read"
    elif pixels > UNDOUBTED and pixels > PER_BYTE * size:
        reason = f"a picture of that size has more than {size:,} bytes"
    elif deflated and pixels > DEFLATED * size:
        reason = f"its {size:,} bytes can't hold them: it is cut off"
    if reason is not None:
        raise Image.DecompressionBombError(f"it claims {width} x {height} pixels, and {reason}")


@functools.cache
def _decoders() -> tuple[str, ...]:
    """The formats that this Pillow has a decoder for: asking it for another is an error."""
    Image.init()
    reads_heic()
    return tuple(name for name in (*FORMATS, HEIC) if name in Image.OPEN)


@functools.cache
def reads_heic() -> bool:
    """Whether .heic files can be read: with the plugin that `pip install segcli[heic]` brings."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True
