"""Feature pyramids: torchvision's FPN for the full-size models, a narrow one with group norm for the lite models."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from segcli.core.errors import UsageError
from segcli.models.interface import Backbone


class FPN(nn.Module):
    """backbone + FPN (Lin et al., 2017) with torchvision's parameter names: `body.…`, `fpn.inner_blocks.…`.

    Output: `width` channels at strides 4, 8, 16, 32 and, by max-pooling, 64.
    """

    def __init__(self, body: Backbone, width: int = 256, norm: bool = False):
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(body.channels, width, LastLevelMaxPool(), nn.BatchNorm2d if norm else None)
        self.channels = width
        self.strides = [*body.strides, body.strides[-1] * 2]

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        features = self.body(x_BCHW)
        return list(self.fpn(OrderedDict((str(i), f) for i, f in enumerate(features))).values())


class LitePyramid(nn.Module):
    """Strides 8, 16 and 32 at `width` channels for boxes, and one stride-4 map at `fine` channels for masks.

    A full-width stride-4 level costs as much as all others together (RPN, FPN and box head run on it); the masks need
    its resolution, not its width. The fine map comes first in the output.
    """

    def __init__(self, body: Backbone, width: int = 128, fine: int = 64):
        super().__init__()
        if body.strides != [4, 8, 16, 32]:
            raise UsageError(f"the lite pyramid needs features at strides 4, 8, 16, 32, not {body.strides}")
        self.body = body
        self.lateral = nn.ModuleList(conv_norm(c, width, 1, act=False) for c in body.channels[1:])
        self.smooth = nn.ModuleList(conv_norm(width, width) for _ in body.channels[1:])
        self.fine_lateral = nn.Conv2d(body.channels[0], fine, 1)
        self.fine_top = nn.Conv2d(width, fine, 1)
        self.fine_smooth = nn.Sequential(conv_norm(fine, fine), conv_norm(fine, fine))
        self.channels, self.fine = width, fine
        self.strides = [4, 8, 16, 32]

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        c2, *coarse = self.body(x_BCHW)
        maps = [lateral(c) for lateral, c in zip(self.lateral, coarse, strict=True)]
        for i in range(len(maps) - 1, -1, -1):
            if i + 1 < len(maps):
                maps[i] = maps[i] + F.interpolate(maps[i + 1], size=maps[i].shape[-2:])
            maps[i] = self.smooth[i](maps[i])
        fine = self.fine_lateral(c2) + F.interpolate(self.fine_top(maps[0]), size=c2.shape[-2:], mode="bilinear")
        return [self.fine_smooth(fine), *maps]


def conv_norm(inputs: int, outputs: int, size: int = 3, act: bool = True) -> nn.Sequential:
    """Convolution, group norm (8 groups: no statistics that a batch of two would spoil), SiLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False),
        nn.GroupNorm(8, outputs),
    ]
    return nn.Sequential(*layers, nn.SiLU(inplace=True)) if act else nn.Sequential(*layers)
