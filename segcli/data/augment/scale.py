"""Resize an image relative to fitting the canvas; it is then cropped, or placed on it, at random. With [0.1, 2.0] this
is large-scale jitter (Ghiasi et al. 2021, arXiv:2012.07177)."""

from typing import Annotated

import numpy as np
import pydantic

from segcli.data.augment.stages import Plan, Resize

Factor = Annotated[float, pydantic.Field(strict=True, ge=0.05, le=20)]


def _pair(value: object) -> object:
    """One factor stands for a range of itself."""
    return value if isinstance(value, (list, tuple)) else (value, value)


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("[lo, hi] needs lo <= hi")
    return pair


Range = Annotated[tuple[Factor, Factor], pydantic.BeforeValidator(_pair), pydantic.AfterValidator(_ascending)]


class Scale(Resize):
    def __init__(self, factors: tuple[float, float] | None):
        super().__init__(active=factors is not None)
        self.factors = factors or (1.0, 1.0)

    def resize(self, plan: Plan, rng: np.random.Generator) -> None:
        plan.scale *= rng.uniform(*self.factors)


def build(*, scale: Range | None = None) -> Scale:
    """scale: [lo, hi], or one factor."""
    return Scale(scale)
