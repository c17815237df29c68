"""Maps of three strides for set prediction, without custom operators: RT-DETR's hybrid encoder (Zhao et al., 2024).

Self-attention costs the square of the tokens, so only the coarsest map has it; a top-down pyramid of convolutions
carries its output to the finer maps. B images, D width; maps run from fine to coarse.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from segcli.models.layers.position import SinePosition
from segcli.models.layers.pyramid import conv_norm
from segcli.models.layers.transformer import Encoder, Record, TransformerSettings, attention_mask


class HybridEncoder(nn.Module):
    """channels: of the maps that it reads, fine to coarse. Self-attention on the coarsest has `encoder_layers`, or
    none."""

    def __init__(self, channels: list[int], settings: TransformerSettings):
        super().__init__()
        dim = settings.dim
        self.lateral = nn.ModuleList(conv_norm(c, dim, 1, act=False) for c in channels)
        self.encoder = Encoder(settings)
        self.smooth = nn.ModuleList(conv_norm(dim, dim) for _ in channels[1:])
        self.position = SinePosition(dim)

    def forward(self, features: list[Tensor], padding_BHW: Tensor | None, record: Record | None = None) -> list[Tensor]:
        """[B,D,h,w] each. padding (True = padded) of the canvas; None: nothing is padded. record receives the layers'
        attention."""
        maps = [lateral(f) for lateral, f in zip(self.lateral, features, strict=True)]
        size = (maps[-1].shape[2], maps[-1].shape[3])
        padding = shrink_padding(padding_BHW, size)
        position = self.position(size, padding, maps[-1].device).flatten(1, 2)
        tokens = self.encoder(to_tokens(maps[-1]), position, attention_mask(padding), record)
        maps[-1] = to_map(tokens, size)
        for i in range(len(maps) - 2, -1, -1):
            above = F.interpolate(maps[i + 1], size=maps[i].shape[-2:])
            maps[i] = self.smooth[i](maps[i] + above)
        return maps


def shrink_padding(padding_BHW: Tensor | None, size: tuple[int, int]) -> Tensor | None:
    """The canvas's padding for a map of `size`."""
    if padding_BHW is None:
        return None
    return F.interpolate(padding_BHW[:, None].float(), size=size)[:, 0].bool()


def to_tokens(map_BDhw: Tensor) -> Tensor:
    """[B,D,h,w] -> [B,h·w,D]; no copy where channels are the innermost axis already."""
    return map_BDhw.flatten(2).transpose(1, 2)


def to_map(tokens_BTD: Tensor, size: tuple[int, int]) -> Tensor:
    """[B,h·w,D] -> [B,D,h,w]."""
    return tokens_BTD.transpose(1, 2).unflatten(2, size)
