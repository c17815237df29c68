"""The DensePose head of the paper (Güler et al., 2018) and of detectron2's legacy models: 14×14, from the pyramid
itself.

Its coarse parts are the 14 that annotators drew, and the maps have 56×56 cells.
"""

from segcli.fields.densepose import surface
from segcli.models.interface import Declared, RoIHead
from segcli.models.rcnn.heads.densepose import ChartPredictor, DensePoseHead, plain_layers
from segcli.models.rcnn.pooler import Pooler


def build(
    *,
    declared: Declared,
    channels: int,
    strides: list[int],
    pooler: str = "roi_align",
    width: int = 512,
    convolutions: int = 8,
) -> RoIHead:
    """width, convolutions: the 3×3 layers at 14×14 before the transposed ones."""
    charts = surface(declared.get("densepose", {}))
    predictor = ChartPredictor(width, charts.coarse + 1, charts.charts)
    pool = Pooler(14, strides[:4], method=pooler)
    return LegacyDensePoseHead(plain_layers(channels, width, convolutions), predictor, pool, charts)


class LegacyDensePoseHead(DensePoseHead):
    slot = "densepose"
    weights = (2.0, 0.3, 0.2)
