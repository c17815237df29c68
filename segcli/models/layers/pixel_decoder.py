"""MaskFormer's pixel decoders: from a backbone's feature maps to one embedding for every pixel of stride 4.

Parameter names are the official ones. B images, C channels; maps run from fine to coarse.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from segcli.models.layers.position import SinePosition
from segcli.models.layers.transformer import Encoder, TransformerSettings
from segcli.ops.cpu.convolution import Conv2d

GROUPS = 32  # of every group norm


class FpnPixelDecoder(nn.Module):
    """Top-down pyramid: every finer map is added to the upsampled coarser one, then a 3×3 convolution.

    The official `BasePixelDecoder`. channels: of the feature maps, fine to coarse; dim: of every map inside;
    mask_dim: of the pixel embeddings.
    """

    def __init__(self, channels: list[int], dim: int = 256, mask_dim: int = 256):
        super().__init__()
        self.levels = len(channels)
        self.memory_channels = channels[-1]  # of the map that the queries attend to
        for i, channel in enumerate(channels[:-1], 1):
            self.add_module(f"adapter_{i}", ConvNorm(channel, dim, 1))
            self.add_module(f"layer_{i}", ConvNorm(dim, dim, 3, relu=True))
        self.add_module(f"layer_{self.levels}", ConvNorm(channels[-1], dim, 3, relu=True))
        self.mask_features = convolution(dim, mask_dim, 3)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Feature maps -> (pixel embeddings [B,mask_dim,H/4,W/4], the map that the queries attend to, every map
        [B,dim,h,w] of the pyramid from coarse to fine)."""
        coarsest = self.coarsest(features)
        maps = self.pyramid(features, coarsest)
        return self.mask_features(maps[-1]), coarsest, maps

    def coarsest(self, features: list[Tensor]) -> Tensor:
        """The map that the pyramid begins with and the queries attend to."""
        return features[-1]

    def pyramid(self, features: list[Tensor], coarsest: Tensor) -> list[Tensor]:
        """Its maps from coarse to fine, with `coarsest` in place of the last feature map."""
        y = self.get_submodule(f"layer_{self.levels}")(coarsest)
        maps = [y]
        for i in range(self.levels - 1, 0, -1):
            side = self.get_submodule(f"adapter_{i}")(features[i - 1])
            y = side + F.interpolate(y, size=side.shape[-2:], mode="nearest")
            y = self.get_submodule(f"layer_{i}")(y)
            maps.append(y)
        return maps


class TransformerPixelDecoder(FpnPixelDecoder):
    """The same pyramid above a transformer encoder on the coarsest map; the queries attend to the encoder's output.

    The official `TransformerEncoderPixelDecoder`. No padding mask, as there.
    """

    def __init__(self, channels: list[int], mask_dim: int, settings: TransformerSettings):
        dim = settings.dim
        super().__init__(channels, dim, mask_dim)
        self.memory_channels = dim
        self.input_proj = convolution(channels[-1], dim, 1)
        self.transformer = nn.Module()
        self.transformer.encoder = Encoder(settings)
        self.position = SinePosition(dim)
        self.add_module(f"layer_{self.levels}", ConvNorm(dim, dim, 3, relu=True))

    def coarsest(self, features: list[Tensor]) -> Tensor:
        size = (features[-1].shape[2], features[-1].shape[3])
        tokens_BTC = self.input_proj(features[-1]).flatten(2).transpose(1, 2)
        position_1TC = self.position(size, None, tokens_BTC.device).flatten(1, 2)
        encoder: nn.Module = self.transformer.encoder  # type: ignore[assignment]
        return encoder(tokens_BTC, position_1TC).transpose(1, 2).unflatten(2, size)


class SegmentationHead(nn.Module):
    """A pixel decoder and a predictor, as the official layout names them."""

    def __init__(self, pixel_decoder: FpnPixelDecoder, predictor: nn.Module):
        super().__init__()
        self.pixel_decoder, self.predictor = pixel_decoder, predictor


class ConvNorm(Conv2d):
    """A convolution without bias whose group norm is its child `norm`, as detectron2 names them; ReLU on demand."""

    def __init__(self, inputs: int, outputs: int, kernel: int, relu: bool = False):
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(GROUPS, outputs)
        self.relu = relu
        nn.init.kaiming_uniform_(self.weight, a=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(super().forward(x))
        return F.relu(x) if self.relu else x


def convolution(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """A convolution with bias, initialised as the official code does (uniform by fan-in, bias 0)."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv
