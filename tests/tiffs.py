"""TIFFs as instruments write them: any number type, bands together or apart, pages; without compression."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

KINDS = {"u": 1, "i": 2, "f": 3}
TYPES = {"H": 3, "I": 4, "s": 2}


def write_tiff(
    path: Path,
    pages: Sequence[np.ndarray],
    *,
    photometric: int = 1,
    apart: bool = False,
    extra: Sequence[int] = (),
    orientation: int = 1,
    description: str = "",
    kinds: Sequence[int] = (),
) -> Path:
    """Write pages of [H,W], [H,W,bands], or with `apart` [bands,H,W]. kinds: NewSubfileType of each page."""
    data = bytearray(b"II*\0" + bytes(4))
    link = 4
    for number, page in enumerate(pages):
        values = page.astype(page.dtype.newbyteorder("<"))
        bands = 1 if page.ndim == 2 else page.shape[0] if apart else page.shape[2]
        height, width = (page.shape[1:] if apart else page.shape[:2])[:2]
        begins = len(data)
        data += values.tobytes()
        size = values.nbytes // bands if apart else values.nbytes
        count = bands if apart else 1
        tags = {
            254: ("I", [kinds[number] if kinds else 0]),
            256: ("I", [width]),
            257: ("I", [height]),
            258: ("H", [page.dtype.itemsize * 8] * bands),
            259: ("H", [1]),
            262: ("H", [photometric]),
            273: ("I", [begins + i * size for i in range(count)]),
            274: ("H", [orientation]),
            277: ("H", [bands]),
            278: ("I", [height]),
            279: ("I", [size] * count),
            284: ("H", [2 if apart else 1]),
            339: ("H", [KINDS[page.dtype.kind]] * bands),
        }
        if extra:
            tags[338] = ("H", list(extra))
        if description and not number:
            tags[270] = ("s", [description.encode() + b"\0"])
        data += bytes(len(data) % 2)
        entries = b""
        for tag, (code, given) in sorted(tags.items()):
            raw = given[0] if code == "s" else struct.pack(f"<{len(given)}{code}", *given)
            length = len(raw) if code == "s" else len(given)
            if len(raw) > 4:
                place = len(data)
                data += raw + bytes(len(raw) % 2)
                raw = struct.pack("<I", place)
            entries += struct.pack("<HHI", tag, TYPES[code], length) + raw.ljust(4, b"\0")
        struct.pack_into("<I", data, link, len(data))
        data += struct.pack("<H", len(tags)) + entries
        link = len(data)
        data += bytes(4)
    path.write_bytes(bytes(data))
    return path
