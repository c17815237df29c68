"""Mask2Former's decoder (Cheng et al., 2022, sections 3.2.1 and 3.2.2): a query attends only to its own mask so far.

Plain cross-attention has to learn from scratch which tokens belong together; a mask says so from the second layer on.
The layers read the pixel decoder's maps in turn, from coarse to fine. No parameter is added to MaskFormer's decoder but
the queries' first content and an embedding for each map.

Legend: B images, Q queries, L decoder layers, C width, E width of the pixel embeddings, T tokens of one map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.models.layers.hybrid_encoder import to_tokens
from segcli.models.layers.mlp import MLP
from segcli.models.layers.position import SinePosition
from segcli.models.layers.transformer import Attention, Record, TransformerSettings, initialise

SPREAD = 0.4  # standard deviation of kernels at first, as a per-pixel classifier's weights have it


class MaskedLayer(nn.Module):
    """Cross-attention first, then self-attention and the perceptron; post-norm."""

    def __init__(self, dim: int, heads: int, ffn: int, dropout: float):
        super().__init__()
        self.multihead_attn = Attention(dim, heads, dropout)
        self.self_attn = Attention(dim, heads, dropout)
        self.linear1, self.linear2 = nn.Linear(dim, ffn), nn.Linear(ffn, dim)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(
        self,
        x_BQC: Tensor,
        position: Tensor,
        tokens_BTC: Tensor,
        keys_BTC: Tensor,
        mask: Tensor,
        record: Record | None,
    ) -> Tensor:
        x = self.norm1(x_BQC + self.multihead_attn(x_BQC + position, keys_BTC, tokens_BTC, mask, record))
        at = x + position
        x = self.norm2(x + self.self_attn(at, at, x))
        return self.norm3(x + self.linear2(F.relu(self.linear1(x))))


class MaskedPredictor(nn.Module):
    """From the pixel decoder's maps to a class and a mask embedding per query, before the layers and after each."""

    def __init__(
        self,
        queries: int,
        settings: TransformerSettings,
        *,
        classes: int,
        maps: int,
        mask_dim: int | None,
        kernels: bool = False,
    ):
        """maps: how many of different size the layers take turns on. mask_dim: see MaskPredictor. kernels (Zhang et
        al., "K-Net", 2021): every query has a learned mask embedding of its own, to which the decoder's is added, at
        first 0. What a network computes from the queries lies close together at first, and pixels learn slowly to tell
        such classes apart."""
        super().__init__()
        dim, layers, mask_dim = settings.dim, settings.decoder_layers, mask_dim or settings.dim
        self.num_queries, self.num_layers, self.dim = queries, layers + 1, mask_dim
        self.layers = nn.ModuleList(
            MaskedLayer(dim, settings.heads, settings.ffn, settings.dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)
        initialise(self)
        self.position = SinePosition(dim)
        self.level_embed = nn.Embedding(maps, dim)
        self.query_feat, self.query_embed = nn.Embedding(queries, dim), nn.Embedding(queries, dim)
        self.class_embed = nn.Linear(dim, classes + 1)
        self.mask_embed = MLP(dim, dim, mask_dim, 3)
        self.kernels = None
        if kernels:
            self.kernels = nn.Parameter(SPREAD * torch.randn(queries, mask_dim))
            nn.init.zeros_(self.mask_embed.last.weight)
            nn.init.zeros_(self.mask_embed.last.bias)

    def forward(self, maps: list[Tensor], pixels_BEhw: Tensor, record: Record | None = None) -> tuple[Tensor, Tensor]:
        """class logits [L+1,B,Q,classes+1], mask embeddings [L+1,B,Q,E]. maps [B,C,h,w], coarse to fine."""
        memory = []
        for i, level in enumerate(maps):
            tokens = to_tokens(level) + self.level_embed.weight[i]
            size = (level.shape[2], level.shape[3])
            position = self.position(size, None, level.device).flatten(1, 2)
            memory.append((tokens, tokens + position, F.adaptive_avg_pool2d(pixels_BEhw, size).flatten(2)))
        x = self.query_feat.weight.expand(len(pixels_BEhw), -1, -1)
        position = self.query_embed.weight.expand_as(x)
        hidden = [self.norm(x)]
        for i, layer in enumerate(self.layers):
            tokens, keys, small_BET = memory[i % len(memory)]
            x = layer(x, position, tokens, keys, self._mask(hidden[-1], small_BET), record)
            hidden.append(self.norm(x))
        stacked = torch.stack(hidden)
        return self.class_embed(stacked), self._embed(stacked)

    def _embed(self, hidden_BQC: Tensor) -> Tensor:
        embeddings = self.mask_embed(hidden_BQC)
        return embeddings if self.kernels is None else embeddings + self.kernels

    @torch.no_grad()
    def _mask(self, hidden_BQC: Tensor, small_BET: Tensor) -> Tensor:
        """What is added to attention logits, [B,1,Q,T]: -inf outside a query's mask; a query without one sees all.

        The mask at a map's own size: its logits are linear in the pixel embeddings, so these are averaged first.
        """
        outside = self._embed(hidden_BQC) @ small_BET < 0
        outside &= ~outside.all(-1, keepdim=True)
        mask = torch.zeros(outside.shape, device=outside.device).masked_fill_(outside, -torch.inf)
        return mask[:, None]
