"""Values of more than 8 bits as brightness: one rule for a dataset, decided by a sample of its values.

A value range [low, high) says what becomes black and what white: floor((value - low) * 256 / (high - low)), cut to
0..255. It stands in info.json, and in a run's environment.json, so that training, evaluation and prediction read
alike. None, as for datasets of 8 bits, is the range of 16-bit numbers: value // 256.

- Whole numbers that fill 8, 10, 12 or 14 bits get the range of those bits; those that fill 16, None.
- Floats that fill 0..1 get that range.
- All others, such as reflectances and Hounsfield units, get that of their own TAILS percentiles.

They fill it where all values lie in it, the upper percentile of REACH comes up to SHARE of it (of 16 bits the brightest
thousandth, which may be few bright cells, to a quarter), and the percentiles are an eighth of it apart. Pixels of 65535
far above all others are no data.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Range = tuple[float, float]
BITS = (8, 10, 12, 14, 16)
REACH = (1, 99)  # percentiles by which values fill a range
SHARE = 3 / 8
TAILS = (0.5, 99.5)  # percentiles that become black and white
NO_DATA = 65535


class Choice(NamedTuple):
    """range: what to record; bits: that the values fill, 0 where something else decided; said: why, for people."""

    range: Range | None
    bits: int
    said: str


def as_rgb(values: np.ndarray, value_range: Range | None) -> np.ndarray:
    """Stored values [H,W] or [H,W,bands] -> uint8 RGB [H,W,3]; uint8 RGB comes back as it is.

    Raises ValueError for numbers other than 8 or 16 bits without a range.
    """
    if values.ndim == 3 and values.shape[2] != 3:
        values = values[:, :, :3] if values.shape[2] > 3 else values[:, :, 0]
    grey = scaled(values, value_range)
    return np.repeat(grey[:, :, None], 3, axis=2) if grey.ndim == 2 else np.ascontiguousarray(grey)


def scaled(values: np.ndarray, value_range: Range | None) -> np.ndarray:
    """Values of any number type as uint8, by the rule above. Raises ValueError where there is none."""
    if values.dtype == np.uint8:
        return values
    if value_range is not None and values.dtype.kind in "iu" and value_range[1] <= 1:
        value_range = None  # of floats from 0 to 1: whole numbers are of another kind
    if value_range is None:
        if values.dtype == np.uint16:
            return (values >> 8).astype(np.uint8)
        raise ValueError(
            f"its {values.dtype.itemsize * 8}-bit {'floats' if values.dtype.kind == 'f' else 'numbers'} have no fixed "
            "brightness range; save it with 8 or 16 bits, or train on a dataset of such images"
        )
    if values.dtype == np.uint16:
        return _stretched(np.arange(2**16), value_range)[values]
    return np.stack([_stretched(row, value_range) for row in values])  # row by row: float64 takes eight times as much


def _stretched(values: np.ndarray, value_range: Range) -> np.ndarray:
    low, high = value_range
    with np.errstate(invalid="ignore", over="ignore"):
        out = np.floor((values.astype(np.float64) - low) * (256 / (high - low)))
    return np.clip(np.nan_to_num(out, nan=0.0, posinf=255, neginf=0), 0, 255).astype(np.uint8)


def choose(samples: Sequence[np.ndarray]) -> Choice:
    """The range of a dataset by the values of some of its images, any shape, whole numbers or floats.

    Raises ValueError where there is none: no finite value, or one alone.
    """
    pooled = np.concatenate([np.asarray(values, np.float64).ravel() for values in samples])
    pooled = pooled[np.isfinite(pooled)]
    whole = bool((pooled == np.floor(pooled)).all()) and pooled.size > 0
    if whole and not ((pooled < NO_DATA) & (pooled > 0.9 * NO_DATA)).any() and (pooled != NO_DATA).any():
        pooled = pooled[pooled != NO_DATA]
    if not pooled.size:
        raise ValueError("none of their values is a number")
    least, most = float(pooled.min()), float(pooled.max())
    low, high, brightest = (float(v) for v in np.percentile(pooled, (*REACH, 99.9)))
    fills = lambda end, share=SHARE, high=high: least >= 0 and high >= end * share and high - low >= end / 8
    if all(np.asarray(values).dtype.kind != "f" for values in samples) and least >= 0 and most <= 1:
        return Choice(None, 0, "they are 0 and 1")
    if whole and most > 1:
        bits = next((n for n in BITS if most < 2**n), None)
        alike = least == most >= 0  # nothing can be said of pictures of one value
        if bits is not None and (alike or fills(2.0**bits) or (bits == 16 and fills(2.0**16, 1 / 4, brightest))):
            return Choice((0.0, 2.0**bits) if bits < 16 else None, bits, f"they use {bits} bits, 0 to {2**bits - 1}")
    elif most <= 1 and (whole or fills(1.0, 1 / 4)):
        return Choice((0.0, 1.0), 0, "they lie between 0 and 1")
    shown = pooled[pooled != 0] if (pooled != 0).any() else pooled  # 0 is often "nothing here"
    low, high = (float(v) for v in np.percentile(shown, TAILS))
    if whole:
        high = high + 1
    if not high > low:
        raise ValueError(f"their values are all the same ({low:g})")
    digits = max(0, 3 - int(np.floor(np.log10(high - low))))
    low, high = round(low, digits), round(high, digits)
    return Choice((low, high), 0, f"they use a range of their own: of {least:g} to {most:g}, 99 % lie there")
