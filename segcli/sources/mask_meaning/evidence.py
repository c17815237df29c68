"""Measurements of mask files (values, regions, soft edges), from which the meaning of a folder of masks is decided.

`measure_mask` decodes one file whole; `spread` picks a sample of a folder. What the readers decode later is
held against the decision by `soft` and `pieces`, on the pixels that they have anyway.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy import ndimage

from segcli.core.errors import DataError
from segcli.sources.mask_meaning.mask_files import read_pixels
from segcli.sources.shapes import extent

SAMPLE = 48  # files that are looked at, evenly over the folder
PIXELS = 64_000_000  # looking ends after so many, from the sixth file on
MOST = 32  # values of a file whose regions are counted
T = TypeVar("T")
AROUND = np.ones((3, 3), bool)  # corners count as touching


@dataclasses.dataclass(frozen=True)
class MaskStats:
    """One file. counts: value -> pixels, of the one channel that says it; pieces: value but 0 -> its regions (of MOST
    values at most).

    form: "grey" (one channel, or channels that repeat it, and palette indices), "colour" (channels that differ) or
    "fractions". alpha: "none" where there is none or it says nothing, "only" where it alone varies, "same" where it
    covers what the colours cover, "other" where both vary and differ. outlined: the part of the pixels of value 255
    that lies between two other values, as borders do; flat: the part of them that is further than 4 pixels inside.
    rim: the part of the picture's edge that has the value 0.
    frame: the value that nine tenths of the picture's edge and half of the picture have, beside others; else 0.
    """

    path: Path
    form: str
    alpha: str
    counts: dict[int, int]
    pieces: dict[int, int]
    soft: bool
    outlined: float = 0.0
    flat: float = 0.0
    frame: int = 0
    rim: float = 0.0

    @property
    def values(self) -> set[int]:
        """All but 0."""
        return set(self.counts) - {0}


def spread(files: Sequence[T], limit: int = SAMPLE) -> list[T]:
    """At most `limit` of the files, evenly."""
    step = max(1.0, len(files) / limit)
    return [files[int(i * step)] for i in range(min(limit, len(files)))]


def sample_masks(files: Sequence[Path]) -> list[MaskStats]:
    """What a sample of the files shows, as far as they can be read: the reader names those that can't."""
    out, pixels = [], 0
    for file in spread(files):
        try:
            out.append(measure_mask(file))
        except DataError:
            continue
        pixels += sum(out[-1].counts.values())
        if pixels > PIXELS and len(out) > 5:
            break
    return out


def measure_mask(path: Path) -> MaskStats:
    """Decode and measure one mask file. Raises DataError where it can't be read."""
    values, mode = read_pixels(path)
    alpha = "none"
    if values.ndim == 3:
        clear = values[:, :, -1] if mode in ("RGBA", "LA") else None
        values = values[:, :, : -1 if clear is not None else None]
        alpha = "none" if clear is None else _alpha(values, clear)
        if alpha == "only" and clear is not None:
            values = clear[:, :, None]
        if (values != values[:, :, :1]).any():
            packed = values[:, :, :3].astype(np.int32) @ np.array([65536, 256, 1], np.int32)
            return MaskStats(path, "colour", alpha, _counts(packed), {}, False)
        values = np.ascontiguousarray(values[:, :, 0])
    if values.dtype.kind == "f":
        if (values % 1).any():
            return MaskStats(path, "fractions", alpha, {0: values.size}, {}, True)
        values = values.astype(np.int64)
    counts = _counts(values)
    outlined, flat = of_value(values, 255) if 255 in counts else (0.0, 0.0)
    faded = soft(values, counts)
    around, rim = frame(values, counts), float((edge(values) == 0).mean())
    return MaskStats(path, "grey", alpha, counts, pieces(values, list(counts)), faded, outlined, flat, around, rim)


def _alpha(colours: np.ndarray, alpha: np.ndarray) -> str:
    if (alpha == alpha.flat[0]).all():
        return "none"
    if (colours == colours[:1, :1]).all():
        return "only"
    coloured, opaque = colours.any(2), alpha != 0
    return "same" if (coloured == opaque).all() else "other"


def _counts(values: np.ndarray) -> dict[int, int]:
    if values.dtype == bool or values.dtype == np.uint8:
        counts = np.bincount(values.ravel())
        return {int(v): int(counts[v]) for v in np.flatnonzero(counts)}
    present, numbers = np.unique(values, return_counts=True)
    return dict(zip(present.tolist(), numbers.tolist(), strict=True))


def pieces(values: np.ndarray, present: Sequence[int]) -> dict[int, int]:
    """value but 0 -> regions that are not connected, specks of under 5 % of the largest aside; of MOST values spread
    over those that are `present` in the map [H,W]."""
    out = {}
    for value in spread([value for value in present if value != 0], MOST):
        mask = values == value
        sizes = np.bincount(ndimage.label(mask[extent(mask)], AROUND)[0].ravel())[1:]
        out[value] = int((sizes * 20 >= sizes.max()).sum())
    return out


def frame(values: np.ndarray, counts: dict[int, int]) -> int:
    """The value of what lies around everything else, as backgrounds do, in a map [H,W] with `counts`; 0 for none."""
    most = max(counts, key=lambda value: counts[value])
    if len(counts) < 2 or counts[most] * 2 < values.size:
        return 0
    return most if (edge(values) == most).mean() >= 0.9 else 0


def edge(values: np.ndarray) -> np.ndarray:
    """The pixels at the rim of a map [H,W]; corners count twice."""
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def counted(values: Sequence[int]) -> bool:
    """Whether values but 0, sorted, are 1, 2, 3, … without a gap, as numbered objects are."""
    return bool(len(values)) and values[0] == 1 and values[-1] == len(values)


def soft(values: np.ndarray, counts: dict[int, int]) -> bool:
    """Whether values between 0 and the highest are edges that fade, not objects or classes: they have no inside, and
    touch other values. `counts`: the values that are in the map [H,W]."""
    present = sorted(value for value in counts if value > 0)
    if len(present) < 2 or (counted(present) and len(present) < 100):
        return False
    highest = present[-1]
    middle = (values > 0) & (values < highest)
    top = ndimage.maximum_filter(values, 3, mode="nearest")
    inside = top == ndimage.minimum_filter(values, 3, mode="nearest")
    few = len(present) < 4  # then the highest must be more than an edge, too
    if inside[middle].mean() > (0.05 if few else 0.25) or (few and inside[values == highest].mean() < 0.2):
        return False
    low = ndimage.minimum_filter(np.where(values == 0, highest, values), 3, mode="nearest")
    if ((top > values) | (low < values))[middle].mean() < 0.5:
        return False  # dots and lines that touch nothing
    regions = pieces(values, present[:-1])
    return not counted(present) or sum(regions.values()) >= 1.5 * len(regions)


def of_value(values: np.ndarray, value: int) -> tuple[float, float]:
    """(part of a value's pixels whose region touches two other values or more, part further than 4 pixels inside)."""
    regions, number = ndimage.label(values == value, AROUND)
    sizes = np.bincount(regions.ravel(), minlength=number + 1)
    others = np.where(regions == 0, values, -1).astype(np.int64)
    top = ndimage.maximum_filter(others, 3, mode="nearest")
    low = ndimage.minimum_filter(np.where(others < 0, 2**31, others), 3, mode="nearest")
    labels = np.arange(1, number + 1)
    highest = ndimage.maximum(top, regions, labels)
    lowest = ndimage.minimum(low, regions, labels)
    between = sizes[1:][np.asarray(highest) > np.asarray(lowest)].sum()
    inner = ndimage.minimum_filter(values == value, 9, mode="nearest").sum()
    return float(between / sizes[1:].sum()), float(inner / sizes[1:].sum())
