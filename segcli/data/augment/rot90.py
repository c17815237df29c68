"""Turn an image by a random number of quarter turns, none among them."""

from typing import Annotated

import numpy as np

from segcli.data.augment.stages import Plan, Share, Turn, Usual


class QuarterTurns(Turn):
    def turn(self, plan: Plan, rng: np.random.Generator) -> None:
        plan.turns = int(rng.integers(4))


def build(*, rot90: Annotated[Share, Usual(1.0)] = 0.0) -> QuarterTurns:
    """rot90: the probability."""
    return QuarterTurns(rot90)
