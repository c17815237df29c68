"""Read an image file: the only rule by which a file becomes pixels, in training, evaluation and prediction alike.

The result is uint8 RGB, turned the way the EXIF orientation says. Values of more than 8 bits are scaled by the
dataset's value range (see value_range.py); without one, 16-bit channels keep their high byte (value // 256). Grey is
repeated, CMYK and palettes are converted, alpha and a fourth band are dropped (the colours under alpha are kept as
stored), and an animation gives its first frame. Ordinary JPEG and PNG are decoded by OpenCV, all else by Pillow, and
TIFFs of many bits or bands by whichever knows them (see tiff.py).
"""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from segcli.core.errors import DataError
from segcli.core.files import open_regular
from segcli.data import tiff
from segcli.data.decoders import FAILURES, open_image, reads_heic
from segcli.data.value_range import Range, as_rgb

# files in a folder that are taken for images
SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif"}
SUFFIXES |= {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".tga"}
PHONES = {".heic", ".heif"}  # read with a plugin
SUFFIXES |= PHONES if reads_heic() else set()
ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
T = TypeVar("T")


def read_image(path: str | Path, value_range: Range | None = None, data: bytes | None = None) -> np.ndarray:
    """uint8 RGB [H,W,3]. value_range: of the dataset's info.json. data: the content, where it is no file of its own.

    Raises DataError naming the file and the cause.
    """
    return _explained(path, lambda content: as_rgb(_stored(content), value_range), data)


def read_pillow(image: Image.Image, value_range: Range | None = None) -> np.ndarray:
    """An open Pillow image as `read_image` would give its file. Raises ValueError as `as_rgb` does."""
    pixels = _by_pillow(image)  # this loads it: a TIFF is turned by Pillow then, which forgets how it lay
    return as_rgb(upright(pixels, int(image.getexif().get(ORIENTATION, 1) or 1)), value_range)


def read_values(path: str | Path) -> np.ndarray:
    """The stored values of an image of more than 8 bits, [H,W] or [H,W,bands], turned as the file says; those of
    others as `read_image` gives them. Raises DataError naming the file and the cause."""
    return _explained(path, _stored)


def dark_values(path: str | Path, image: np.ndarray) -> tuple[float, float] | None:
    """The least and the highest stored value of a file of more than 8 bits that `read_image` made dark, for want of a
    value range: less than a thousandth of `image` is as bright as a quarter. None for all others: those are read once.
    """
    if np.count_nonzero(image >= 64) > image.size / 1000:
        return None
    values = read_values(path)
    return None if values.dtype == np.uint8 else (float(values.min()), float(values.max()))


def image_size(path: str | Path, data: bytes | None = None) -> tuple[int, int]:
    """(H, W) as `read_image` would return it, from the header alone. Raises DataError naming file and cause.

    data: the content of the image, where it stands inside `path`.
    """
    return _explained(path, _header_size, data)


def exif_turn(file: Path | bytes) -> int:
    """The EXIF orientation 1..8 that `read_image` undoes, from the header of a file or of its content alone; 1 where
    that can't be read."""
    try:
        with open_image(file) as image:
            return _orientation(image)
    except FAILURES:
        return 1


def read_content(path: Path) -> bytes:
    """The bytes of an image file. Raises DataError naming the file and the cause."""
    try:
        with open_regular(path) as file:
            return file.read()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such image file") from None
    except OSError as error:
        raise DataError(f"{path}: {_reason(path, error)}") from error
    except ValueError as error:  # NUL
        raise DataError(f"{str(path)!r:.200}: can't be a file: {error}") from error


def _explained(path: str | Path, read: Callable[[bytes], T], data: bytes | None = None) -> T:
    path = Path(path)
    data = read_content(path) if data is None else data
    if not data:
        raise DataError(f"{path}: the image file is empty (0 bytes)")
    try:
        return read(data)
    except UnidentifiedImageError:
        phone = data[4:8] == b"ftyp" and data[8:11] in (b"hei", b"mif")
        hint = "pip install 'segcli[heic]' reads it" if phone else None
        raise DataError(f"{path}: not an image, or of a format that can't be read here", hint=hint) from None
    except MemoryError as error:
        raise DataError(f"{path}: the decoded image does not fit into memory") from error
    except tiff.Unclear as error:
        raise DataError(f"{path}: {error}", hint=error.hint) from error
    except (*FAILURES, struct.error) as error:
        raise DataError(f"{path}: the image can't be decoded: {error}") from error


def _reason(path: Path, error: OSError) -> str:
    return "is a folder, not an image file" if os.path.isdir(path) else f"can't be read: {error.strerror}"


def ends(format: str | None, tail: bytes) -> bool:
    """Whether a JPEG or PNG has its end, by its last 8 bytes; False of any other format."""
    return {"JPEG": tail[-2:] == b"\xff\xd9", "PNG": tail[-8:-4] == b"IEND"}.get(format or "", False)


def _chunks_fit(png: bytes) -> bool:
    """Whether the chunks of a PNG end inside it. OpenCV makes room for as many bytes as one claims, up to 4 GB, and
    shows what it could read."""
    at = 8
    while at + 8 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        at += 12 + length
        if kind == b"IEND":
            break
    return at <= len(png)


def _stored(data: bytes) -> np.ndarray:
    """uint8 RGB [H,W,3], or of more than 8 bits the stored values [H,W] or [H,W,bands]; turned as the file says."""
    if tiff.is_tiff(data):
        layout = tiff.directory(data)
        tiff.refuse_unclear(layout)
        if layout.unusual:
            return tiff.stored(data, layout)
    try:
        image = open_image(data)
    except UnidentifiedImageError:
        if not tiff.is_tiff(data):
            raise
        return tiff.stored(data, layout)
    with image:
        # OpenCV fills what is missing of a cut-off file, or says so on stderr only; Pillow then names the cause
        if (
            ends(image.format, data[-8:])
            and (image.format != "PNG" or _chunks_fit(data))
            and image.mode in ("RGB", "RGBA", "L", "LA", "P")
            and not getattr(image, "is_animated", False)
        ):
            deep = image.format == "PNG" and data[24] > 8  # bits of its header
            if image.mode != "LA" or deep:
                flags = cv2.IMREAD_UNCHANGED if deep else cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
                try:
                    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
                except cv2.error:  # above OpenCV's limits of size: Pillow decodes it, or names the cause
                    pixels = None
                if pixels is not None:
                    return upright(pixels[:, :, 2::-1] if deep and pixels.ndim == 3 else pixels, _orientation(image))
        return upright(_by_pillow(image), _orientation(image))


def _header_size(data: bytes) -> tuple[int, int]:
    if tiff.is_tiff(data):
        layout = tiff.directory(data)
        tiff.refuse_unclear(layout)
        if layout.unusual:
            return layout.pages[0].size
    try:
        image = open_image(data)
    except UnidentifiedImageError:
        if not tiff.is_tiff(data):
            raise
        return layout.pages[0].size
    with image:
        width, height = image.size
        return (width, height) if _orientation(image) in SIDEWAYS else (height, width)


def _by_pillow(image: Image.Image) -> np.ndarray:
    """The current frame of an open Pillow image as uint8 RGB [H,W,3], or a deep one's values [H,W]; before EXIF."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return np.asarray(image).astype(np.uint16)  # a PPM's are spread over 16 bits
    if image.mode in ("I", "F"):
        return np.array(image)
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
    """Undo the camera's rotation: [H,W,...] as stored -> as displayed."""
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
