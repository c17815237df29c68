"""Read an image file: the only rule by which a file becomes pixels, in training, evaluation and prediction alike.

The result is uint8 RGB, turned the way the EXIF orientation says. 16-bit channels keep their high byte (value // 256),
grey is repeated, CMYK and palettes are converted, alpha is dropped (the colours under it are kept as stored), and an
animation gives its first frame. Ordinary JPEG and PNG are decoded by OpenCV, all else by Pillow.
"""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from segcli.core.files import open_regular
from segcli.errors import DataError

# Pillow refuses images above 179 million pixels as possible "bombs"; scans of 20,000 x 20,000 are ordinary here. This
# is OpenCV's own limit (3 GB of RGB); Pillow warns above it and refuses above twice as much.
Image.MAX_IMAGE_PIXELS = 2**30

# files in a folder that are taken for images
SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif"}
SUFFIXES |= {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".tga"}
ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
T = TypeVar("T")


def read_image(path: str | Path) -> np.ndarray:
    """uint8 RGB [H,W,3]. Raises DataError naming the file and the cause."""
    return _explained(path, _decode)


def image_size(path: str | Path, data: bytes | None = None) -> tuple[int, int]:
    """(H, W) as `read_image` would return it, from the header alone. Raises DataError naming file and cause.

    data: the content of the image, where it stands inside `path`.
    """
    return _explained(path, _header_size, data)


def exif_turn(path: Path) -> int:
    """The EXIF orientation 1..8 that `read_image` undoes, from the header alone; 1 where the file can't be read."""
    try:
        with open_regular(path) as file, Image.open(file) as image:
            return _orientation(image)
    except (OSError, ValueError, SyntaxError):
        return 1


def _explained(path: str | Path, read: Callable[[bytes], T], data: bytes | None = None) -> T:
    path = Path(path)
    try:
        if data is None:
            with open_regular(path) as file:
                data = file.read()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such image file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder, not an image file") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from error
    except ValueError as error:  # NUL
        raise DataError(f"{str(path)!r:.200}: can't be a file: {error}") from error
    if not data:
        raise DataError(f"{path}: the image file is empty (0 bytes)")
    try:
        return read(data)
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image, or of a format that can't be read here") from None
    except MemoryError as error:
        raise DataError(f"{path}: the decoded image does not fit into memory") from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: the image can't be decoded: {error}") from error


def _decode(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        # OpenCV fills what is missing of a cut-off file, or says so on stderr only; Pillow then names the cause
        whole = {"JPEG": data[-2:] == b"\xff\xd9", "PNG": data[-8:-4] == b"IEND"}.get(image.format or "", False)
        if whole and image.mode in ("RGB", "RGBA", "L", "P") and not getattr(image, "is_animated", False):
            flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
            try:
                pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
            except cv2.error:  # above OpenCV's limits of size: Pillow decodes it, or names the cause
                pixels = None
            if pixels is not None:
                return upright(pixels, _orientation(image))
        return upright(_to_rgb(image), _orientation(image))


def _header_size(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        return (width, height) if _orientation(image) in SIDEWAYS else (height, width)


def _to_rgb(image: Image.Image) -> np.ndarray:
    """The current frame of an open Pillow image as uint8 RGB [H,W,3], before EXIF."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        grey = (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError("its 32-bit pixels have no fixed brightness range; save it with 8 or 16 bits")
    if image.mode in ("RGBa", "La"):  # colours multiplied by alpha
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8. Pillow itself turns TIFF (and swaps its size), and then reports none here."""
    raw = image.info.get("exif")
    if not raw or image.format == "TIFF":
        return 1
    exif = Image.Exif()
    try:
        exif.load(raw)
    except (SyntaxError, struct.error, ValueError, OSError):
        return 1  # a damaged EXIF block does not make the pixels unreadable, and viewers ignore it as well
    return int(exif.get(ORIENTATION, 1) or 1)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the camera's rotation: [H,W,...] stored -> as seen."""
    turned = {
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: p[::-1].swapaxes(0, 1),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: p[:, ::-1].swapaxes(0, 1),
    }.get(orientation)
    return pixels if turned is None else np.ascontiguousarray(turned(pixels))
