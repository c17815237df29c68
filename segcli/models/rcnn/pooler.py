"""Pool each region of interest from the pyramid level that fits its size, by RoIAlign or RoIPool."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align, roi_pool

from segcli.core.errors import UsageError
from segcli.ops.cpu.roi_align import roi_align_rows

METHODS = ("roi_align", "roi_pool")


class Pooler(nn.Module):
    """Boxes on a pyramid -> [K, C, size, size].

    method: `roi_align` (He et al., 2017: samples at exact positions, averages) or `roi_pool` (Girshick, 2015: borders
    rounded to whole cells, maximum). Level of a box: ⌊4 + log2(√area / canonical)⌋ counted from stride 4
    (Lin et al., 2017, equation 1), clamped to the levels there are. aligned=False and sampling=2 are torchvision's.
    """

    def __init__(
        self,
        size: int,
        strides: list[int],
        *,
        method: str = "roi_align",
        sampling: int = 2,
        aligned: bool = False,
        canonical: float = 224.0,
    ):
        super().__init__()
        if method not in METHODS:
            raise UsageError(f"pooler must be one of {', '.join(METHODS)}, not {method!r}")
        self.size, self.strides, self.method = size, strides, method
        self.sampling, self.aligned, self.canonical = sampling, aligned, canonical
        self.lowest, self.highest = strides[0].bit_length() - 1, strides[-1].bit_length() - 1  # log2 of the strides

    def levels(self, boxes_K4: Tensor) -> Tensor:
        """The index into `strides` for each box [K]."""
        side = ((boxes_K4[:, 2] - boxes_K4[:, 0]) * (boxes_K4[:, 3] - boxes_K4[:, 1])).clamp(min=0).sqrt()
        level = torch.floor(4 + torch.log2(side / self.canonical) + 1e-6)
        return level.clamp(self.lowest, self.highest).long() - self.lowest

    def forward(self, features: list[Tensor], boxes: list[Tensor]) -> Tensor:
        """features: one [B,C,H,W] a stride; boxes: B tensors [n,4] xyxy on the canvas. -> [Σn, C, size, size]"""
        if len(self.strides) == 1:
            return self._pool(features[0], boxes, self.strides[0])
        level = self.levels(torch.cat(boxes))
        levels = by_image(level, boxes)
        pooled = []
        for i, stride in enumerate(self.strides):
            chosen = [b[at == i] for b, at in zip(boxes, levels, strict=True)]
            pooled.append(self._pool(features[i], chosen, stride))
        order = torch.arange(level.shape[0], device=level.device)
        place = (level * level.shape[0] + order).argsort().argsort()  # of each box among those sorted by level
        return torch.cat(pooled).index_select(0, place)

    def fixed(self, features: list[Tensor], regions: int) -> Tensor:
        """[regions, C, size, size]: the same work whatever an image shows, for counting and timing. Every level has its
        share of boxes, each a quarter as high and as wide as the canvas."""
        pooled = []
        for i, stride in enumerate(self.strides):
            height, width = features[i].shape[2:]
            box = features[i].new_tensor([0, 0, width * stride / 4, height * stride / 4])
            share = (regions + i) // len(self.strides)
            pooled.append(self._pool(features[i], [box.expand(share, 4)], stride))
        return torch.cat(pooled)

    def _pool(self, feature: Tensor, boxes: list[Tensor], stride: int) -> Tensor:
        size, scale = (self.size, self.size), 1 / stride
        if self.method == "roi_pool":
            return roi_pool(feature, boxes, size, scale)
        if feature.device.type == "cpu" and not torch.compiler.is_exporting():
            return roi_align_rows(feature, boxes, self.size, scale, self.sampling, self.aligned)
        return roi_align(feature, boxes, size, scale, self.sampling, self.aligned)


@runtime_checkable
class Pooling(Protocol):
    """A head that pools regions."""

    pooler: Pooler


def by_image(rows: Tensor, images: Sequence[Tensor]) -> list[Tensor]:
    """Split the rows of all images into each one's own, as many as its tensor has. One image's need no splitting, and
    an exporter doesn't know how many they are."""
    return [rows] if len(images) == 1 else list(rows.split([len(own) for own in images]))
