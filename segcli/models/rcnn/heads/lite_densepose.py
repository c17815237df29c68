"""The lite DensePose head: narrower, with group norm, on the fine stride-4 map, for objects of few pixels."""

import itertools

from torch import Tensor, nn

from segcli.fields.densepose import surface
from segcli.models.interface import Declared, RoIHead
from segcli.models.layers.pyramid import conv_norm
from segcli.models.rcnn.heads.densepose import ChartPredictor, DensePoseHead
from segcli.models.rcnn.pooler import Pooler


def build(
    *,
    declared: Declared,
    fine: int,
    pooler: str = "roi_align",
    width: int = 128,
    convolutions: int = 4,
) -> RoIHead:
    """width, convolutions: the 3×3 layers at 14×14 before the transposed ones."""
    charts = surface(declared.get("densepose", {}))
    sizes = [fine] + [width] * convolutions
    layers = nn.Sequential(*(conv_norm(a, b) for a, b in itertools.pairwise(sizes)))
    predictor = ChartPredictor(width, 2, charts.charts)
    return LiteDensePoseHead(layers, predictor, Pooler(14, [4], method=pooler, aligned=True), charts)


class LiteDensePoseHead(DensePoseHead):
    """A few samples an image, since its time is proportional to them; u and v weigh as much as the parts do, and are
    learned by their absolute difference, in the middle of each cell."""

    slot = "densepose"
    samples = 10
    overlap = 0.5
    weights = (1.0, 1.0, 4.0)
    beta = 0.1
    shift = 0.5

    def _mean(self, off: Tensor, share: Tensor | float, images: int, share_images: Tensor | float) -> Tensor:
        return off.mean() * share
