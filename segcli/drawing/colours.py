"""Colours that can be told apart: one hue a class, shades of it for the objects of that class."""

import functools

import numpy as np

from segcli.core.dataset_info import DatasetInfo

Rgb = tuple[int, int, int]
_GOLDEN = 0.618034  # steps of the golden ratio never come back near to where they were
_TO_LMS = np.array([[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
                    [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
_TO_LAB = np.array([[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
                    [0.0259040371, 0.7827717662, -0.8086757660]])  # fmt: skip


def class_colours(info: DatasetInfo) -> list[Rgb]:
    """One RGB colour (0..255) a label, the dataset's own with a floor under the lightness: dark blues and browns would
    vanish in shadows."""
    return [_lifted(colour) for colour in info.colours()]


@functools.lru_cache(maxsize=2**15)  # some thousand classes take seconds, and every picture asks
def _lifted(colour: Rgb) -> Rgb:
    light, chroma, hue = to_oklch(colour)
    return colour if light >= 0.58 else oklch(0.58, chroma, hue)


def object_colours(labels: list[int], info: DatasetInfo) -> list[Rgb]:
    """One RGB colour (0..255) for each object.

    With a single thing class every object gets a hue of its own; with several, objects keep near their class's colour
    and differ in lightness and a little in hue.
    """
    base = class_colours(info)
    last: dict[int, int] = {}
    out = []
    for label in labels:
        nth = last[label] = last.get(label, -1) + 1
        if info.num_things == 1 and label < info.num_things:
            step = 0.11 + nth * _GOLDEN
            out.append(oklch(0.74 - 0.06 * (nth % 2), 0.17, 360 * step))
        else:
            light, chroma, hue = to_oklch(base[label])
            sway = (nth * _GOLDEN + 0.5) % 1 - 0.5
            light = float(np.clip(light + 0.26 * sway, 0.54, 0.9))
            out.append(oklch(light, chroma, hue + 24 * sway) if nth else base[label])
    return out


def oklch(lightness: float, chroma: float, hue: float) -> Rgb:
    """A colour of even perceived lightness (0..1) and hue (degrees); chroma is reduced until sRGB has the colour."""
    angle = np.deg2rad(hue)
    for factor in np.linspace(1, 0, 21):
        lab = np.array([lightness, chroma * factor * np.cos(angle), chroma * factor * np.sin(angle)])
        linear = np.linalg.solve(_TO_LMS, np.linalg.solve(_TO_LAB, lab) ** 3)
        if linear.min() >= -1e-4 and linear.max() <= 1 + 1e-4:
            break
    linear = np.clip(linear, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    r, g, b = np.rint(255 * srgb).astype(int).tolist()
    return r, g, b


def to_oklch(colour: Rgb) -> tuple[float, float, float]:
    """RGB 0..255 -> lightness 0..1, chroma, hue in degrees."""
    srgb = np.asarray(colour) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    lightness, a, b = _TO_LAB @ np.cbrt(_TO_LMS @ linear)
    return float(lightness), float(np.hypot(a, b)), float(np.rad2deg(np.arctan2(b, a)))


def ink_on(colour: Rgb) -> Rgb:
    """Black or white, whichever reads better on `colour`."""
    return (16, 16, 16) if to_oklch(colour)[0] > 0.63 else (255, 255, 255)
