"""What the images of a source are, before any is read: how their values become brightness, which bands count.

The first and the last bytes of every image are read; of those with more than 8 bits, a sample spread over all is
decoded. What is decided goes into info.json (see value_range.py), what is done into the notes, and what can't be read
is an error.
"""

import contextlib
import dataclasses
import mmap
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from segcli.core.errors import DataError
from segcli.core.files import open_regular
from segcli.core.formatting import count
from segcli.data import tiff
from segcli.data.image import ends, read_values
from segcli.data.value_range import Range, choose
from segcli.sources.files import some

BEGIN = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff"}  # of their files
SAMPLE = 32  # images that are decoded
VALUES = 200_000  # of each of them, at most
DARK = 16  # an image whose brightest value is below this part of the range comes out almost black
DEEP_FORMATS = (b"P5", b"P6", b"Pf", b"PF", b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")  # that may have more than 8 bits


@dataclasses.dataclass
class Survey:
    """value_range: to record; notes: what was decided; refused: file -> why it can't be read, as far as was seen; cut:
    what is said of images whose end is missing, or empty."""

    value_range: Range | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    refused: dict[Path, DataError] = dataclasses.field(default_factory=dict)
    cut: str = ""


def survey(files: Iterable[Path]) -> Survey:
    """Look at image files; those that are not there are for others to name."""
    out = Survey()
    deep: list[Path] = []
    bands: dict[str, list[Path]] = {}
    endless: list[Path] = []
    for file in files:
        try:
            kind, more, whole = _look(file)
        except DataError as error:
            out.refused[file] = error
            continue
        if kind is not None:
            bands.setdefault(kind, []).append(file)
        if more:
            deep.append(file)
        if not whole:
            endless.append(file)
    if cut := [file for file in endless[:SAMPLE] if not _decodes(file)]:
        of = f" of the {SAMPLE} looked at" if len(endless) > SAMPLE else ""
        out.cut = f"{count(len(cut), 'image')}{of} can't be decoded to the end ({_names(cut)}): --fix leaves such out"
    for kind, found in bands.items():
        out.notes.append(f"{count(len(found), 'image')} {kind} ({_names(found)})")
    if deep:
        _decide(deep, out)
    return out


def _look(file: Path) -> tuple[str | None, bool, bool]:
    """(the note on its bands, whether it may have more than 8 bits, whether its end is there). Raises DataError for no
    single picture."""
    try:
        with open_regular(file) as stream:
            head = stream.read(32)
            if not tiff.is_tiff(head):
                deep = head.startswith(BEGIN["PNG"]) and head[24:25] == b"\x10"
                return None, deep or head.startswith(DEEP_FORMATS), _ends(head, stream)
            with contextlib.closing(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)) as data:
                found = tiff.directory(data)
    except (OSError, ValueError):
        return None, False, True  # missing and damaged files are named where they are read
    try:
        tiff.refuse_unclear(found)
    except tiff.Unclear as error:
        raise DataError(f"{file}: {error}", hint=error.hint) from None
    return _bands(found), found.unusual and found.pages[0].bits > 8, True


def _ends(head: bytes, stream: BinaryIO) -> bool:
    """Whether a PNG or JPEG has its last bytes; many cameras write more behind them."""
    format = next((name for name, begin in BEGIN.items() if head.startswith(begin)), None)
    if format is None:
        return True
    stream.seek(-8, os.SEEK_END)
    return ends(format, stream.read())


def _decodes(file: Path) -> bool:
    try:
        read_values(file)
    except DataError:
        return False
    return True


def _bands(found: tiff.Tiff) -> str | None:
    """The note on a TIFF whose bands are not simply grey or RGB."""
    page = found.pages[0]
    if found.channels:
        how = "hold a page each for their channels"
    elif page.bands > 2 and page.photometric in tiff.GREY:
        how = f"have {page.bands} bands without names"
    elif page.bands == 4 and page.photometric == tiff.RGB:
        how = "have four bands"
    else:
        return None
    alpha = bool(page.extra) and page.extra[-1] in (1, 2)
    fourth = "the fourth is alpha" if alpha else "the fourth (near infrared?) is not used"
    named = "" if how == "have four bands" else ": the first three are taken for red, green and blue"
    return how + named + (f"; {fourth}" if found.bands == 4 else "")


def _decide(deep: Sequence[Path], out: Survey) -> None:
    """Choose the range by a sample of the files that have more than 8 bits."""
    sample = [deep[i] for i in np.unique(np.linspace(0, len(deep) - 1, SAMPLE).astype(int))]
    values: dict[Path, np.ndarray] = {}
    for file in sample:
        try:
            found = read_values(file)
        except DataError as error:
            out.refused[file] = error
            continue
        if found.dtype == np.uint8:
            continue  # a format that may have more bits has 8
        colours = found[:, :, :3] if found.ndim == 3 else found
        step = max(1, int(np.sqrt(colours.size / VALUES)))
        values[file] = colours[::step, ::step]
    if not values:
        return
    floats = [file for file, found in values.items() if found.dtype.kind == "f"]
    if floats and len(floats) < len(values):
        whole = [file for file in values if file not in floats]
        message = f"images of floats ({_names(floats)}) and of whole numbers ({_names(whole)}) have no range in common"
        out.refused[floats[0]] = DataError(f"{floats[0].parent}: {message}", hint="prepare them apart")
        return
    try:
        choice = choose([*values.values()])
    except ValueError as error:
        out.refused[next(iter(values))] = DataError(f"{next(iter(values))}: its values have no range: {error}")
        return
    wide = {found.dtype.itemsize * 8 for found in values.values()}
    if choice.range is None and max(wide) > 16:
        choice = choice._replace(range=(0.0, 65536.0))
    out.value_range = choice.range
    if choice.range is not None:
        low, high = choice.range
        kind = "floats" if floats else f"{max(wide)}-bit values"
        out.notes.append(
            f"{count(len(deep), 'image')} of {kind}: {choice.said}. Black is {low:g}, white {high:g}, in prediction, "
            f"too (value_range in info.json; by {len(values)} of them)"
        )
    low, high = choice.range or (0.0, 65536.0)
    dark = [file for file, found in values.items() if _brightest(found) < low + (high - low) / DARK]
    if dark:
        out.notes.append(
            f"{len(dark)} of the {len(values)} looked at come out almost black, their values being far below the "
            f"others' ({_names(dark)})"
        )


def _brightest(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else 0.0


def _names(files: Sequence[Path]) -> str:
    return some([file.name for file in files], 3)
