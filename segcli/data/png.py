"""The one PNG encoder. Of equal pixels it writes equal bytes, which the fingerprint of a dataset counts on."""

import io

import cv2
import numpy as np
from PIL import Image


def encode_png(pixels: np.ndarray, *, level: int | None = None) -> bytes:
    """uint8 or uint16 [H,W], uint8 RGB [H,W,3] or RGBA [H,W,4]. level: of compression, 0 to 9; None: OpenCV's own."""
    ordered = np.ascontiguousarray(pixels[:, :, ::-1] if pixels.ndim == 3 else pixels)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        ordered = cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA)
    done, data = cv2.imencode(".png", ordered, [] if level is None else [cv2.IMWRITE_PNG_COMPRESSION, level])
    assert done, "every array of these types is a PNG"
    return data.tobytes()


def encode_map(labels: np.ndarray) -> bytes:
    """A dataset's label map, uint8 or uint16 [H,W] or RGB [H,W,3], as Pillow compresses it: maps of earlier versions
    have the same bytes."""
    stream = io.BytesIO()
    Image.fromarray(labels).save(stream, "PNG")
    return stream.getvalue()
