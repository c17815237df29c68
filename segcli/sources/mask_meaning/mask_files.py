"""Read PNGs whose pixels are object ids, class values or colours."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import UnidentifiedImageError
from scipy import ndimage

from segcli.core.coco_json import Annotation
from segcli.core.errors import DataError
from segcli.core.files import open_regular
from segcli.data import tiff
from segcli.data.decoders import FAILURES, open_image
from segcli.ops.map_values import ranked
from segcli.sources.shapes import annotate


def read_pixels(path: Path, *, colours: bool = False) -> tuple[np.ndarray, str]:
    """Stored values [H,W] or [H,W,C] and Pillow's mode: palettes as indices, or with `colours` everything as RGB.

    Raises DataError where it can't be read, or was stored with loss: values beside the true ones would be objects.
    """
    try:
        with open_regular(path) as file:
            data = file.read()
        if not colours and path.suffix.lower() in (".tif", ".tiff") and (found := _of_tiff(path, data)) is not None:
            return found, "TIFF"
        with open_image(data) as image:
            kind, mode = image.format, image.mode
            if kind == "PNG" and mode in ("RGB", "RGBA", "LA") and not colours and data[24] == 16:  # bits of its header
                return _deep(data)  # of several channels Pillow keeps the high byte
            values = np.asarray(image.convert("RGB") if colours else image)
    except UnidentifiedImageError:  # whose text names no file
        raise DataError(f"{path}: the mask is no image, or of a format that can't be read here") from None
    except FAILURES as error:
        raise DataError(f"{path}: the mask can't be decoded: {error}") from error
    if kind in ("JPEG", "MPO") or (kind == "WEBP" and b"VP8 " in data[:64]):
        raise DataError(
            f"{path}: the mask is a {kind} with loss, which changes its values",
            hint="save masks as PNG, from where they were drawn: a JPEG that is made a PNG keeps the damage",
        )
    return values, mode


def read_ids(path: Path) -> np.ndarray:
    """Stored values [H,W], 0 = no object: palette indices, 8 or 16 bits; of a colour file, the one channel that all
    three repeat. Raises DataError where it can't be read, or the channels differ."""
    return as_ids(path, *read_pixels(path))


def as_ids(path: Path, values: np.ndarray, mode: str) -> np.ndarray:
    """The same of pixels that `read_pixels` has read from `path`."""
    if values.ndim == 3:
        channels = values[:, :, : -1 if mode in ("RGBA", "LA") else None]  # alpha says nothing about objects
        if (channels != channels[:, :, :1]).any():
            raise DataError(
                f"{path}: the mask is a colour picture",
                hint="add a legend.csv (name,r,g,b), or save ids 0, 1, 2, … in one channel, or one object a file; "
                "--masks binary reads one colour on black as two classes",
            )
        values = channels[:, :, 0]
    if values.dtype.kind == "f":
        if not (values == np.floor(values)).all() or np.abs(values).max() > 2**30:
            raise DataError(f"{path}: the mask holds fractions, not object ids")
        values = values.astype(np.int32)
    if values.dtype.kind == "i" and values.min() < 0:
        raise DataError(f"{path}: the mask holds negative ids")
    return values.astype(np.int32) if values.dtype != np.uint8 else values


def _deep(png: bytes) -> tuple[np.ndarray, str]:
    """uint16 [H,W,C] of a PNG of 16 bits and several channels, and Pillow's mode of the like with 8 bits."""
    values = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        raise ValueError("its 16 bits a channel can't be read")
    return (values[:, :, ::-1], "RGB") if values.shape[2] == 3 else (values[:, :, [2, 1, 0, 3]], "RGBA")


def _of_tiff(path: Path, data: bytes) -> np.ndarray | None:
    """The values of a TIFF that has floats, more bits, or pages of one object each (then their numbers, from 1); None
    for an ordinary one. Raises DataError where pages overlap or hold several objects."""
    if not tiff.is_tiff(data):
        return None
    found = tiff.directory(data)
    if len(found.pages) == 1:
        return tiff.stored(data, found) if found.unusual and found.pages[0].bits > 16 else None
    numbers = np.zeros(found.pages[0].size, np.uint16)
    for number, page in enumerate(tiff.stack(data, found), 1):
        if page.shape != numbers.shape or len(np.unique(page[page != 0])) > 1:
            what = "is of another size" if page.shape != numbers.shape else "holds several values"
            raise DataError(
                f"{path}: page {number} of {len(found.pages)} {what}", hint="a page of a mask is one object"
            )
        if (numbers[page != 0] != 0).any():
            raise DataError(
                f"{path}: page {number} of {len(found.pages)} overlaps another one",
                hint="save each object as a file, ID/masks/*.png beside ID/images/ID.png: there they may overlap",
            )
        numbers[page != 0] = number
    return numbers


def read_colours(path: Path) -> np.ndarray:
    """int32 [H,W] of 65536 R + 256 G + B. Raises DataError where it can't be read."""
    rgb = read_pixels(path, colours=True)[0].astype(np.int32)
    return rgb[:, :, 0] << 16 | rgb[:, :, 1] << 8 | rgb[:, :, 2]


def palette_colours(path: Path, indices: Iterable[int]) -> set[int] | None:
    """The colours (65536 R + 256 G + B) of palette indices of a file; None where it has no palette."""
    with open_image(path) as image:
        flat = image.getpalette("RGB") if image.mode == "P" else None
    if flat is None:
        return None
    return {flat[3 * i] << 16 | flat[3 * i + 1] << 8 | flat[3 * i + 2] for i in indices if 3 * i + 2 < len(flat)}


def check_size(path: Path, values: np.ndarray, image: Path, size: tuple[int, int]) -> None:
    """Raise DataError where a mask file is not of its image's size (H, W)."""
    if values.shape[:2] != size:
        raise DataError(
            f"{path}: the mask is {values.shape[1]} x {values.shape[0]}, its image {image} {size[1]} x {size[0]} pixels"
        )


def objects(values: np.ndarray) -> Iterator[tuple[int, Annotation]]:
    """(id, COCO annotation) of every object in a map of ids [H,W], by id; ids may be large."""
    ids, _, dense = ranked(values)
    if ids[0] != 0:
        dense += 1  # 0 is no object
    ids = ids[ids != 0]
    for number, (value, where) in enumerate(zip(ids.tolist(), ndimage.find_objects(dense), strict=True), 1):
        yield value, annotate(values.shape, dense[where] == number, where[0].start, where[1].start)


def regions(mask: np.ndarray) -> Iterator[Annotation]:
    """The COCO annotation of every connected region (corners count) of a bool mask [H,W]."""
    numbered, _ = ndimage.label(mask, np.ones((3, 3)))
    yield from (annotation for _, annotation in objects(numbered))
