"""Drop objects of which too little is left: less than a share, or fewer than LEAST_PIXELS of one that was cut. Crowd
regions stay while a pixel is left; an object that nothing was cut off is never too small."""

import dataclasses

import numpy as np

from segcli.data.augment.stages import Keep, Share
from segcli.data.geometry import Scene

LEAST_PIXELS = 60


@dataclasses.dataclass
class MinVisible(Keep):
    share: float

    def kept(self, scene: Scene) -> np.ndarray:
        visible = scene.visible()
        enough = (visible >= self.share * scene.area) & (~scene.truncated | (visible >= LEAST_PIXELS))
        return (visible > 0) & (enough | scene.crowd)


def build(*, min_visible: Share = 0.2) -> MinVisible:
    """min_visible: the share of an object's area that must be left."""
    return MinVisible(min_visible)
