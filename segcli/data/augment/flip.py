"""Mirror an image left to right."""

from typing import Annotated

import numpy as np

from segcli.data.augment.stages import Plan, Share, Turn, Usual


class Flip(Turn):
    def turn(self, plan: Plan, rng: np.random.Generator) -> None:
        plan.flip = True


def build(*, flip: Annotated[Share, Usual(0.5)] = 0.0) -> Flip:
    """flip: the probability."""
    return Flip(flip)
