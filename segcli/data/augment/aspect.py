"""Stretch an image: log-uniform jitter of its aspect ratio."""

import numpy as np

from segcli.data.augment.stages import Plan, Resize, Share


class Aspect(Resize):
    def __init__(self, most: float):
        super().__init__(active=most > 0)
        self.most = most

    def resize(self, plan: Plan, rng: np.random.Generator) -> None:
        plan.stretch += rng.uniform(-self.most, self.most)


def build(*, aspect: Share = 0.0) -> Aspect:
    """aspect: the ratio changes by up to e to this power, either way."""
    return Aspect(aspect)
