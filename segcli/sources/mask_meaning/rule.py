"""How the pixels of a mask file become values, once it is decided what the folder's masks are (`meaning.py`)."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from segcli.core.errors import DataError
from segcli.sources.class_legend import Legend
from segcli.sources.mask_meaning.evidence import counted, measure_mask, soft
from segcli.sources.mask_meaning.mask_files import as_ids, read_colours, read_ids, read_pixels
from segcli.sources.mask_meaning.object_ids import value_list
from segcli.types import IGNORE, IGNORE_16, ignore_label

CLEAR = ("RGBA", "LA")  # modes with an alpha channel
SEVERAL = 8  # values of a file of ids from which on it could be soft edges


@dataclasses.dataclass(frozen=True)
class Rule:
    """What is done with the pixels of every file of a folder; the plain one leaves stored values as they are.

    alpha: the alpha channel is the mask. threshold: values from it on are 1, all others 0. binary: one value but 0 is
    in a file, and becomes 1. ignore: values that mean nothing, `IGNORE` after a threshold or in binary masks.
    ids: values are numbers of objects, which soft edges are not. one: the only value but 0 of a file is an object.
    """

    alpha: bool = False
    threshold: float | None = None
    binary: bool = False
    ignore: tuple[int, ...] = ()
    ids: bool = False
    one: bool = False

    def values(self, path: Path) -> np.ndarray:
        """The values [H,W] of a mask file. Raises DataError where it can't be read, or contradicts the rule."""
        if self.threshold is None:
            raw = self._clear(path) if self.alpha else _one_colour(path) if self.binary else read_ids(path)
        else:
            raw = self._clear(path) if self.alpha else _grey(path)
        if self.threshold is None and not self.binary:
            return raw
        out = (raw >= self.threshold if self.threshold is not None else raw != 0).astype(np.uint8)
        left = np.isin(raw, self.ignore) if self.ignore else None
        if left is not None:
            out[left] = IGNORE
        if self.threshold is None:
            found = np.unique(raw[out == 1]).tolist()
            if len(found) > 1:
                raise DataError(
                    f"{path}: holds {len(found)} values besides 0 ({value_list(found)}), and two classes have one",
                    hint=f"--threshold {half(found[-1])} makes two classes of values; --ignore leaves one out",
                )
        return out

    def objects(self, path: Path) -> np.ndarray:
        """The same with 0 for what is ignored: every other value is an object, or a class of objects."""
        values = self.values(path)
        left = (IGNORE,) if self.threshold is not None or self.binary else self.ignore
        return np.where(np.isin(values, left), 0, values) if self.ignore else values

    def contradiction(self, path: Path, values: np.ndarray, listed: list[int]) -> str | None:
        """What in a file of ids says that they are none. `listed`: its values but 0, sorted."""
        if not self.ids or len(listed) < SEVERAL or (counted(listed) and len(listed) < 100):
            return None
        present = dict.fromkeys(listed, 1)
        return FADES if soft(values, present) else None

    def _clear(self, path: Path) -> np.ndarray:
        pixels, mode = read_pixels(path)
        if mode not in CLEAR:
            raise DataError(f"{path}: has no alpha channel, which is the mask in the other files")
        colours, alpha = pixels[:, :, :-1], pixels[:, :, -1]
        if (colours != colours[:1, :1]).any() and measure_mask(path).alpha == "other":
            raise DataError(f"{path}: {BOTH}; in the other files the alpha channel alone is the mask")
        return np.ascontiguousarray(alpha)


FADES = "its grey values fade like soft edges: they are no object ids"
BOTH = "its colours and its alpha channel both vary, and say different things"


def reader(rule: Rule, legend: Legend | None) -> Callable[[Path], np.ndarray]:
    """What reads a file's values: colours, where the legend names those."""
    return read_colours if legend is not None and legend.colours else rule.values


def _one_colour(path: Path) -> np.ndarray:
    """The values [H,W] of a mask of two classes; of a colour picture its colours, packed. Raises DataError for more
    than one colour besides black."""
    pixels, mode = read_pixels(path)
    channels = pixels[:, :, : -1 if mode in CLEAR else None] if pixels.ndim == 3 else pixels
    if channels.ndim == 2 or (channels == channels[:, :, :1]).all():
        return as_ids(path, pixels, mode)
    raw = read_colours(path)
    if (count := len(set(np.unique(raw).tolist()) - {0})) > 1:
        raise DataError(
            f"{path}: holds {count} colours besides black, and two classes have one",
            hint="a legend.csv (name,r,g,b,kind) names them, with kind ignore for those that mean nothing",
        )
    return raw


def _grey(path: Path) -> np.ndarray:
    """The one channel [H,W] that all repeat, fractions too."""
    values, mode = read_pixels(path)
    if values.ndim == 3:
        values = values[:, :, : -1 if mode in CLEAR else None]
        if (values != values[:, :, :1]).any():
            raise DataError(f"{path}: the mask is a colour picture, which has no threshold")
        values = values[:, :, 0]
    return values


def blanks(classes: int) -> tuple[int, ...]:
    """Values that mark what is no class where nothing says so: 255, and in masks of 16 bits, which more than 254
    classes need, 65535."""
    return (IGNORE,) if ignore_label(classes) == IGNORE else (IGNORE, IGNORE_16)


def half(highest: int) -> int:
    """The threshold in the middle of values from 0 to `highest`."""
    return max(1, (highest + 1) // 2)
