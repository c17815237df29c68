"""Mirror an image top to bottom."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

import numpy as np

from segcli.data.augment.stages import Plan, Share, Turn, Usual, refuse_turned
from segcli.types import Field


class FlipVertical(Turn):
    def turn(self, plan: Plan, rng: np.random.Generator) -> None:
        plan.flip_vertical = True


def build(
    *, flip_vertical: Annotated[Share, Usual(0.5)] = 0.0, fields: Mapping[str, type[Field]] = MappingProxyType({})
) -> FlipVertical:
    """flip_vertical: the probability. Raises UsageError for fields that can't follow."""
    if flip_vertical:
        refuse_turned("flip_vertical", fields)
    return FlipVertical(flip_vertical)
