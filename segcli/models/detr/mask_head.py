"""DETR's mask head (Carion et al. 2020, section 4.4): where a query looks, refined into its mask.

An attention map of each query over the encoder's output joins the image's features; a small pyramid of convolutions
takes both up to stride 4. Official parameter names.

Legend: B images, Q queries, M query rows (any queries of any images), D width, N attention heads, h w the coarse map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8
ROWS = 2**24  # values of the widest map that are worked on at once, 64 MB


class AttentionMap(nn.Module):
    """How much each query attends to each token: one softmax over all heads and tokens together."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_linear, self.k_linear = nn.Linear(dim, dim), nn.Linear(dim, dim)
        for layer in (self.q_linear, self.k_linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, queries_BQD: Tensor, memory_BTD: Tensor, size: tuple[int, int], mask: Tensor | None) -> Tensor:
        """[B,Q,N,h,w], each query's values summing to 1. mask: of `transformer.attention_mask`."""
        q = self.q_linear(queries_BQD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k = self.k_linear(memory_BTD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        logits_BNQT = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if mask is not None:
            logits_BNQT = logits_BNQT + mask
        weights_BQNT = logits_BNQT.transpose(1, 2).flatten(2).softmax(-1)
        return weights_BQNT.unflatten(-1, (self.heads, *size))


class MaskHead(nn.Module):
    """Five convolutions with group norm and ReLU, three side inputs, one logit a pixel.

    channels: of the backbone's maps at strides 16, 8 and 4, in this order.
    """

    lay1: nn.Conv2d
    gn1: nn.GroupNorm

    def __init__(self, dim: int, heads: int, channels: list[int]):
        super().__init__()
        self.dim = dim
        widths = [dim + heads, dim + heads, dim // 2, dim // 4, dim // 8, dim // 16]
        for i in range(5):
            self.add_module(f"lay{i + 1}", nn.Conv2d(widths[i], widths[i + 1], 3, padding=1))
            self.add_module(f"gn{i + 1}", nn.GroupNorm(GROUPS, widths[i + 1]))
        for i, inputs in enumerate(channels):
            self.add_module(f"adapter{i + 1}", nn.Conv2d(inputs, widths[i + 2], 1))
        self.out_lay = nn.Conv2d(widths[-1], 1, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def sides(self, projected_BDhw: Tensor, features: list[Tensor]) -> list[Tensor]:
        """What all queries of an image share: the first layer's share of the features, and the adapted finer maps.

        The first layer is a convolution of features and attention side by side; being linear, it is the sum of the two
        halves, and the half of the features (97 % of the work) is the same for every query.
        features: the backbone's maps at strides 16, 8, 4.
        """
        shared = F.conv2d(projected_BDhw, self.lay1.weight[:, : self.dim], self.lay1.bias, padding=1)
        return [shared, *self._adapted(features)]

    def forward(self, sides: list[Tensor], attention_MNhw: Tensor, image_M: Tensor) -> Tensor:
        """Mask logits [M,H,W] at stride 4. sides: of `sides`; image_M: which image each row belongs to."""
        shared, *finer = sides
        of_rows = lambda x: x if len(x) == 1 else x[image_M]
        x = of_rows(shared) + F.conv2d(attention_MNhw, self.lay1.weight[:, self.dim :], padding=1)
        x = self._block(2, F.relu(self.gn1(x)))
        for i, side in enumerate(finer):
            x = of_rows(side) + F.interpolate(x, size=side.shape[-2:], mode="nearest")
            x = self._block(i + 3, x)
        return self.out_lay(x)[:, 0]

    def plain(self, projected_BDhw: Tensor, attention_BQNhw: Tensor, features: list[Tensor]) -> Tensor:
        """The same logits, [B·Q,H,W], by the official order of work: for counting what the paper counted."""
        queries = attention_BQNhw.shape[1]
        x = torch.cat([projected_BDhw.repeat_interleave(queries, 0), attention_BQNhw.flatten(0, 1)], 1)
        x = self._block(2, self._block(1, x))
        for i, side in enumerate(self._adapted(features)):
            side = side.repeat_interleave(queries, 0)
            x = self._block(i + 3, side + F.interpolate(x, size=side.shape[-2:], mode="nearest"))
        return self.out_lay(x)[:, 0]

    def chunks(self, rows: int, sides: list[Tensor]) -> list[slice]:
        """Slices of `rows` query rows, small enough to be worked on at once; one empty slice where there are none."""
        widest = max(side[0].numel() for side in sides)
        step = max(1, ROWS // widest)
        return [slice(i, i + step) for i in range(0, max(rows, 1), step)]

    def _adapted(self, features: list[Tensor]) -> list[Tensor]:
        return [self.get_submodule(f"adapter{i + 1}")(f) for i, f in enumerate(features)]

    def _block(self, i: int, x: Tensor) -> Tensor:
        return F.relu(self.get_submodule(f"gn{i}")(self.get_submodule(f"lay{i}")(x)))
