"""What a TIFF holds by its directory: pages, bands, bits; and its stored values, of which Pillow reads a part only.

Read are 1 to 4 bands of 8 to 64 bits, whole numbers or floats, stored together, one after the other (planar), or as a
page each where the file says that its pages are channels (two bands of more than 8 bits only where they are stored
apart). Further pages that are smaller copies or masks of the first
count as none.
"""

import contextlib
import mmap
import re
import struct
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from cv2.utils import logging
from PIL import UnidentifiedImageError

from segcli.data.decoders import open_image, refuse_bomb

MAGIC = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
MOST_PAGES, MOST_ENTRIES = 10_000, 4096
CODES = {1: "B", 2: "s", 3: "H", 4: "I", 13: "I", 16: "Q"}  # type -> struct code, of those that are needed here
WIDTH, HEIGHT, BITS, PHOTOMETRIC, DESCRIPTION, ORIENTATION, SAMPLES, PLANAR, EXTRA, FORMAT, KIND = (
    *(256, 257, 258, 262, 270, 274, 277, 284, 338, 339, 254),
)
WHERE = (273, 279, 324, 325)  # offsets and lengths of strips, and of tiles
COPY, MASK = 1, 4  # bits of KIND
GREY, RGB = (0, 1), 2  # photometric
LIMIT = 4  # bands that are read
NUMBERS = {1: "u", 2: "i", 3: "f"}  # FORMAT -> numpy's kind
BY_PILLOW = {("u", 1), ("u", 2), ("u", 4), ("u", 8), ("u", 12), ("u", 16), ("f", 32)}  # it knows more compressions
T = TypeVar("T")
Bytes = bytes | mmap.mmap
_LEVEL = threading.Lock()


class Page(NamedTuple):
    """One picture of the file. extra: what the bands beyond the colours are: 1, 2 alpha, 0 unknown. entries: its
    directory as it stands, tag -> (type, count, bytes of the value or of its place)."""

    width: int
    height: int
    bands: int
    bits: int
    number: str
    photometric: int
    extra: tuple[int, ...]
    kind: int
    orientation: int
    apart: bool
    entries: dict[int, tuple[int, int, bytes]]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) once turned as the file says."""
        return (self.width, self.height) if self.orientation in (5, 6, 7, 8) else (self.height, self.width)


class Tiff(NamedTuple):
    """A file's pages that are pictures of their own, and what it says of itself."""

    pages: list[Page]
    description: str
    form: "_Form"

    @property
    def channels(self) -> int:
        """How many pages are the channels of one picture; 0 where the file does not say so."""
        count = len(self.pages)
        first = self.pages[0]
        if not 2 < count <= LIMIT or any(p[:5] != first[:5] or p.bands != 1 for p in self.pages):
            return 0
        shape = re.search(r'"shape":\s*\[\s*(?:1\s*,\s*)*(\d+)\s*,\s*\d+\s*,\s*\d+\s*\]', self.description)
        declared = re.search(r"^channels=(\d+)", self.description, re.MULTILINE)  # ImageJ
        declared = declared or re.search(r'\bSizeC="(\d+)"', self.description) or shape  # OME; tifffile
        return count if declared and int(declared[1]) == count else 0

    @property
    def bands(self) -> int:
        """Of the picture that the file stands for."""
        return self.channels or self.pages[0].bands

    @property
    def unusual(self) -> bool:
        """Whether `stored` reads it: more than 8 bits, or several bands that are not called colours."""
        page = self.pages[0]
        many = page.bands > 2 and page.photometric in GREY
        return bool(self.channels) or many or (page.bits > 8 and page.photometric in (*GREY, RGB))


def is_tiff(data: Bytes) -> bool:
    """Whether bytes (or their first four) are those of a TIFF."""
    return bytes(data[:4]) in MAGIC


def directory(data: Bytes) -> Tiff:
    """Pages of a TIFF (bytes or a mapped file), without decoding. Raises ValueError where it is damaged."""
    form = _Form(MAGIC[bytes(data[:4])], data[2 if data[:1] == b"I" else 3] == 43)
    try:
        at = form.read("P", data, 8 if form.big else 4)[0]
        read: set[int] = set()  # places of directories: a file may link them in a circle
        pages: list[Page] = []
        description = ""
        while at and at not in read:
            read.add(at)
            if len(read) > MOST_PAGES:
                raise ValueError(f"more than {MOST_PAGES:,} pages")
            entries, at = form.entries(data, at)
            page = _page(data, form, entries)
            if not pages:
                text = form.values(data, entries.get(DESCRIPTION))
                description = text[0].decode("utf-8", "replace") if text and isinstance(text[0], bytes) else ""
            if not pages or not _lesser(page, pages[0]):
                pages.append(page)
    except (struct.error, OverflowError):
        raise ValueError("its directory is cut off") from None
    if not pages:
        raise ValueError("it has no page")
    return Tiff(pages, description, form)


class Unclear(ValueError):
    """A file that is no single picture of up to four bands."""

    def __init__(self, why: str, hint: str):
        super().__init__(why)
        self.hint = hint


def refuse_unclear(layout: Tiff) -> None:
    """Raise Unclear for a file of which nothing says what its picture is."""
    page, pages = layout.pages[0], len(layout.pages)
    if pages > 1 and not layout.channels:
        raise Unclear(
            f"the file holds {pages} pages of images, and nothing says which is meant",
            "save each page as a file (stacks are read as masks alone: one object a page)",
        )
    if layout.bands > LIMIT:
        raise Unclear(
            f"the file has {layout.bands} bands, and nothing says which are red, green and blue",
            "save three of them as an RGB file, such as gdal_translate -b 4 -b 3 -b 2",
        )
    if page.bands == 2 and not (page.extra and page.extra[0]):
        raise Unclear("the file has 2 bands, and nothing says which is meant", "save one of them, or three as RGB")
    if page.bands == 2 and page.bits > 8 and not page.apart:
        raise Unclear("grey with alpha of more than 8 bits is not read", "save the grey band alone")
    if page.number == "c":
        raise Unclear("its pixels are complex numbers", "save their magnitude")


def stored(data: bytes, layout: Tiff) -> np.ndarray:
    """The stored values, [H,W] or [H,W,bands] of 1 to 4 bands, of any number type, turned as the file says.

    Raises one of decoders.FAILURES. Palettes, CMYK and the like are not for this function.
    """
    page = layout.pages[0]
    refuse_bomb(page.width, page.height * layout.bands, len(data))
    if layout.channels:
        return np.stack([_one(data, layout.form, one) for one in layout.pages], axis=2)
    if page.bands > 1 and page.apart:
        return np.stack([_one(data, layout.form, page, band) for band in range(page.bands)], axis=2)
    if page.bands == 1:
        return _one(data, layout.form, page)
    if page.photometric in GREY:  # OpenCV reads several bands as colours alone
        extra = [(EXTRA, [0])] if page.bands > 3 else []
        data = layout.form.view(data, page, dict([(PHOTOMETRIC, [RGB]), (EXTRA, None), *extra]))
    values = _by_opencv(data, page)
    if values.ndim == 2:
        raise ValueError(_unread(page))
    return np.ascontiguousarray(values[:, :, [2, 1, 0, 3][: values.shape[2]]])


def stack(data: bytes, layout: Tiff) -> list[np.ndarray]:
    """The stored values [H,W] of every page. Raises one of decoders.FAILURES, and ValueError for pages of colours."""
    if any(page.bands != 1 for page in layout.pages):
        raise ValueError(f"it has {len(layout.pages)} pages of {layout.pages[0].bands} bands")
    for page in layout.pages:
        refuse_bomb(page.width, page.height, len(data))
    return [_one(data, layout.form, page) for page in layout.pages]


def _one(data: bytes, form: "_Form", page: Page, band: int | None = None) -> np.ndarray:
    """The values [H,W] of a page of one band, or of one of its bands that are stored apart."""
    if band is None:
        alone = form.view(data, page, {})
    else:
        changes: dict[int, list[int] | None] = {
            **{SAMPLES: [1], PLANAR: [1], BITS: [page.bits], PHOTOMETRIC: [1], EXTRA: None},
            **({FORMAT: [form.values(data, page.entries[FORMAT])[0]]} if FORMAT in page.entries else {}),
        }
        for tag in WHERE:
            if tag in page.entries:
                places = form.values(data, page.entries[tag], len(data))
                each = len(places) // page.bands
                changes[tag] = [*places[band * each : (band + 1) * each]]
        alone = form.view(data, page, changes)
    if not form.big and (page.number, page.bits) in BY_PILLOW:
        with contextlib.suppress(UnidentifiedImageError), open_image(alone) as image:
            return np.array(image)
    return _by_opencv(alone, page)


def _by_opencv(data: bytes, page: Page) -> np.ndarray:
    values = _quietly(lambda: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
    if values is None or values.shape[:2] != page.size:
        raise ValueError(_unread(page))
    return np.asarray(values)


def _unread(page: Page) -> str:
    numbers = {"u": "whole numbers", "i": "signed numbers", "f": "floats"}.get(page.number, "numbers")
    bands = "one band" if page.bands == 1 else f"{page.bands} bands"
    return f"{bands} of {page.bits}-bit {numbers}: not decoded in this compression or size"


def _quietly(decode: Callable[[], T]) -> T:
    """What OpenCV makes of it; it would print what it can't read. One thread at a time: its level is the process's."""
    with _LEVEL:
        level = logging.getLogLevel()
        logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        try:
            return decode()
        except cv2.error as error:
            raise ValueError(f"OpenCV: {error.err}") from error
        finally:
            logging.setLogLevel(level)


def _lesser(page: Page, first: Page) -> bool:
    """Whether a page is a smaller copy of the first one (pyramids, previews), or its mask of transparency."""
    if page.kind & (COPY | MASK):
        return True
    smaller = page.width < first.width and page.height < first.height
    return smaller and abs(page.width * first.height / (page.height * first.width) - 1) < 0.03


def _page(data: Bytes, form: "_Form", entries: dict[int, tuple[int, int, bytes]]) -> Page:
    def one(tag: int, default: int) -> int:
        values = form.values(data, entries.get(tag))
        return values[0] if values and isinstance(values[0], int) else default

    if not one(WIDTH, 0) or not one(HEIGHT, 0):
        raise ValueError("a page without width or height")
    number = NUMBERS.get(one(FORMAT, 1), "c" if one(FORMAT, 1) in (5, 6) else "u")
    extra = tuple(v for v in form.values(data, entries.get(EXTRA)) if isinstance(v, int))
    return Page(
        *(one(WIDTH, 0), one(HEIGHT, 0), one(SAMPLES, 1), one(BITS, 1), number, one(PHOTOMETRIC, 1), extra),
        *(one(KIND, 0), one(ORIENTATION, 1), one(PLANAR, 1) == 2, entries),
    )


class _Form(NamedTuple):
    """How numbers stand in a file: byte order, and whether places have 8 bytes (BigTIFF) or 4."""

    order: str
    big: bool

    def read(self, code: str, data: Bytes, at: int) -> tuple[Any, ...]:
        """Numbers by struct's codes, P for a place, N for the count of entries."""
        code = code.replace("P", "Q" if self.big else "I").replace("N", "Q" if self.big else "H")
        return struct.unpack_from(self.order + code, data, at)

    def entries(self, data: Bytes, at: int) -> tuple[dict[int, tuple[int, int, bytes]], int]:
        """(tag -> (type, count, bytes of value or place), where the next directory stands)."""
        count = self.read("N", data, at)[0]
        if count > MOST_ENTRIES:
            raise ValueError(f"a directory of {count:,} entries")
        at += 8 if self.big else 2
        out = {}
        for _ in range(count):
            tag, kind, number, value = self.read("HHP8s" if self.big else "HHP4s", data, at)
            out[tag] = kind, number, value
            at += 20 if self.big else 12
        return out, self.read("P", data, at)[0]

    def values(self, data: Bytes, entry: tuple[int, int, bytes] | None, most: int = 1 << 16) -> tuple[Any, ...]:
        """The first `most` values of an entry, text as one; none for types that are not needed here."""
        if entry is None or entry[0] not in CODES:
            return ()
        kind, number, value = entry
        code, number = CODES[kind], min(number, most)
        if number * struct.calcsize(f"{self.order}{code}") <= len(value):
            return self.read(f"{number}{code}", value, 0)
        return self.read(f"{number}{code}", data, self.read("P", value, 0)[0])

    def view(self, data: bytes, page: Page, changes: dict[int, list[int] | None]) -> bytes:
        """The file with one directory alone: that of `page`, with other values (None: without the tag)."""
        room = 8 if self.big else 4
        entries = {tag: entry for tag, entry in page.entries.items() if changes.get(tag, []) is not None}
        tail = bytearray(len(data) % 2)  # directories begin at even places
        for tag, values in changes.items():
            if values is None:
                continue
            kind = 16 if self.big and tag in WHERE else 4 if tag in WHERE else 3
            raw = struct.pack(f"{self.order}{len(values)}{CODES[kind]}", *values)
            if len(raw) > room:
                place = len(data) + len(tail)
                tail += raw + bytes(len(raw) % 2)
                raw = struct.pack(f"{self.order}{'Q' if self.big else 'I'}", place)
            entries[tag] = kind, len(values), raw.ljust(room, b"\0")
        start = len(data) + len(tail)
        tail += struct.pack(f"{self.order}{'Q' if self.big else 'H'}", len(entries))
        for tag, (kind, number, raw) in sorted(entries.items()):
            tail += struct.pack(f"{self.order}HH{'Q' if self.big else 'I'}", tag, kind, number) + raw
        tail += bytes(room)
        first = 8 if self.big else 4
        head = struct.pack(f"{self.order}{'Q' if self.big else 'I'}", start)
        return data[:first] + head + data[first + room :] + bytes(tail)
