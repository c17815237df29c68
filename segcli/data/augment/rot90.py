"""Turn an image by a random number of quarter turns, none among them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

import numpy as np

from segcli.data.augment.stages import Plan, Share, Turn, Usual, refuse_turned
from segcli.types import Field


class QuarterTurns(Turn):
    def turn(self, plan: Plan, rng: np.random.Generator) -> None:
        plan.turns = int(rng.integers(4))


def build(
    *, rot90: Annotated[Share, Usual(1.0)] = 0.0, fields: Mapping[str, type[Field]] = MappingProxyType({})
) -> QuarterTurns:
    """rot90: the probability. Raises UsageError for fields that can't follow."""
    if rot90:
        refuse_turned("rot90", fields)
    return QuarterTurns(rot90)
