"""The short side becomes one of several lengths, as DETR trains, in place of the model's own resize rule."""

import dataclasses
from typing import Annotated

import numpy as np
import pydantic

from segcli.data.augment.stages import Share, Side, Size, Sizing, Usual

# DETR's policy for short sides up to 800: the short side becomes 400, 500 or 600, and a crop's sides are 384 to 600
BEFORE_CROP = (0.5, 0.625, 0.75)  # of the longest of `short_side`
CROP = (0.48, 0.75)


@dataclasses.dataclass
class ShortSide(Sizing):
    sides: tuple[int, ...]
    crop: float
    longest: int

    def sizes(self, size: Size, rng: np.random.Generator) -> tuple[Size, Size, Size]:
        (h, w), most = size, max(self.sides)
        side, crop = int(rng.choice(self.sides)), (h, w)
        if self.crop and rng.random() < self.crop:
            first = rng.choice(BEFORE_CROP) * most / min(h, w)
            h, w = round(h * first), round(w * first)
            lo, hi = (round(c * most) for c in CROP)
            tall, wide = (int(rng.integers(min(lo, v), min(hi, v) + 1)) for v in (h, w))
            crop = tall, wide
        scale = min(side / min(crop), self.longest / max(crop))
        full = max(1, round(h * scale)), max(1, round(w * scale))
        canvas = min(full[0], max(1, round(crop[0] * scale))), min(full[1], max(1, round(crop[1] * scale)))
        place = rng.random(2)
        return full, canvas, (round(place[0] * (canvas[0] - full[0])), round(place[1] * (canvas[1] - full[1])))


def _list(value: object) -> object:
    return value if isinstance(value, (list, tuple)) else [value]


Sides = Annotated[tuple[Side, ...], pydantic.Field(min_length=1), pydantic.BeforeValidator(_list)]


def build(*, longest: int, short_side: Sides, scale_crop: Annotated[Share, Usual(0.5)] = 0.0) -> ShortSide:
    """short_side: the lengths in pixels; scale_crop: the probability of a random crop before that; longest: the long
    side at most, after it."""
    return ShortSide(short_side, scale_crop, longest)
