"""Mirror an image top to bottom."""

from typing import Annotated

import numpy as np

from segcli.data.augment.stages import Plan, Share, Turn, Usual


class FlipVertical(Turn):
    def turn(self, plan: Plan, rng: np.random.Generator) -> None:
        plan.flip_vertical = True


def build(*, flip_vertical: Annotated[Share, Usual(0.5)] = 0.0) -> FlipVertical:
    """flip_vertical: the probability."""
    return FlipVertical(flip_vertical)
