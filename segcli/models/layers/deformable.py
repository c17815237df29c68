"""Deformable cross-attention in plain PyTorch (Zhu et al., "Deformable DETR", 2021, equation 3).

A query reads a few points around its box instead of all tokens: where to look need not be learned from scratch, most
of what plain DETR's long training is for. Each point is one bilinear reading (`grid_sample`), so no operator has
to be compiled. In a decoder of a hundred queries it costs next to nothing.

Legend: B images, Q queries, D width, N heads, S levels, P points of each head on each level.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.models.layers.hybrid_encoder import to_tokens
from segcli.models.layers.transformer import Record


class DeformableAttention(nn.Module):
    """Every head reads `points` places on each of `levels` maps, at offsets in units of the query's box."""

    def __init__(self, dim: int, heads: int, levels: int, points: int = 4):
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {heads}")
        self.heads, self.levels, self.points = heads, levels, points
        self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.offsets = nn.Linear(dim, heads * levels * points * 2)
        self.weights = nn.Linear(dim, heads * levels * points)
        # at first each head looks in a direction of its own, point by point farther out, with equal weights
        angle = torch.arange(heads) * (2 * math.pi / heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        far = torch.arange(1, points + 1)[:, None] * direction[:, None, None]
        nn.init.zeros_(self.offsets.weight)
        self.offsets.bias = nn.Parameter(far.expand(heads, levels, points, 2).flatten().clone())
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)

    def forward(self, query_BQD: Tensor, boxes_BQ4: Tensor, maps: list[Tensor], record: Record | None = None) -> Tensor:
        """[B,Q,D]. boxes: cxcywh, shares of the canvas, around which to look; maps: [B,D,h,w] each.

        record receives where it reads and with what weight, [B,Q,N,S,P,3]: x, y as shares of the canvas, weight."""
        batch, queries, dim = query_BQD.shape
        shape = (batch, queries, self.heads, self.levels, self.points)
        offsets = self.offsets(query_BQD).view(*shape, 2)
        weights = self.weights(query_BQD).view(batch, queries, self.heads, -1).softmax(-1)
        box = boxes_BQ4[:, :, None, None, None]
        places = box[..., :2] + offsets * (box[..., 2:] * (0.5 / self.points))
        if record is not None:
            record.append(torch.cat([places, weights.view(shape)[..., None]], -1))
        grid = (2 * places - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # [S,B·N,Q,P,2]
        read = []
        for level, at in zip(maps, grid, strict=True):
            value = self.value(to_tokens(level)).transpose(1, 2)
            value = value.reshape(batch * self.heads, dim // self.heads, *level.shape[2:])
            read.append(F.grid_sample(value, at, align_corners=False))
        by_head = weights.transpose(1, 2).reshape(batch * self.heads, 1, queries, -1)
        out = (torch.cat(read, -1) * by_head).sum(-1)
        return self.out(out.view(batch, dim, queries).transpose(1, 2))
