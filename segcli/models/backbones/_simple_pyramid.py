"""The simple feature pyramid (Li et al., 2022, Exploring Plain Vision Transformer Backbones for Object Detection)."""

from timm.layers import LayerNorm2d
from torch import Tensor, nn


class SimplePyramid(nn.Module):
    """Maps of several strides, all of them from the one last map of a plain vision transformer.

    dim: channels of that map, [B,dim,H,W]; stride: its stride; width: channels of every map that comes out; strides:
    theirs, fine to coarse; all strides are powers of 2. Finer maps by transposed convolutions, each of which halves the
    channels, coarser ones by max-pooling (sides rounded up); then a 1×1 and a 3×3 convolution, each with a layer norm
    over channels.
    """

    def __init__(self, dim: int, stride: int, width: int, strides: list[int]):
        super().__init__()
        self.maps = nn.ModuleList(_path(dim, stride, width, to) for to in strides)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        return [layers(x_BCHW) for layers in self.maps]

    def keep_coarsest(self, count: int) -> None:
        """Leave out all maps but the last `count`, with their layers."""
        self.maps = self.maps[-count:]


def _path(dim: int, stride: int, width: int, to: int) -> nn.Sequential:
    """The layers from the transformer's map to the one of stride `to`; norm and GELU between two doublings."""
    layers: list[nn.Module] = []
    while stride > to:
        if layers:
            layers += [LayerNorm2d(dim), nn.GELU()]
        layers.append(nn.ConvTranspose2d(dim, dim // 2, 2, 2))
        dim, stride = dim // 2, stride // 2
    while stride < to:
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
        stride *= 2
    layers += [nn.Conv2d(dim, width, 1, bias=False), LayerNorm2d(width)]
    layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), LayerNorm2d(width)]
    return nn.Sequential(*layers)
