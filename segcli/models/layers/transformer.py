"""DETR's transformer (Carion et al. 2020, figure 10): post-norm, positions added to queries and keys at every layer.

Parameter names are the official ones. Legend: B images, T tokens of the feature map, Q queries, S keys (T or Q),
D width, N heads, L decoder layers. Everything is batch-first.
"""

import dataclasses
from collections import deque

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# receives each layer's attention weights [B,N,Q,S], where someone wants to see them; a deque keeps the last ones alone
Record = list[Tensor] | deque[Tensor]


@dataclasses.dataclass(frozen=True)
class TransformerSettings:
    """A recipe's section `model.transformer`. dim: width of tokens and queries; heads: of the attention; ffn: width of
    the perceptrons; encoder_layers, decoder_layers; dropout: in training."""

    dim: int = 256
    heads: int = 8
    ffn: int = 2048
    encoder_layers: int = 6
    decoder_layers: int = 6
    dropout: float = 0.1


class Attention(nn.Module):
    """Multi-head attention with the parameters of `nn.MultiheadAttention`, but queries, keys and values projected once.

    Fused attention unless weights are recorded; both give the same result.
    """

    def __init__(self, dim: int, heads: int, dropout: float):
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {heads}")
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query_BQD: Tensor,
        key_BSD: Tensor,
        value_BSD: Tensor,
        mask: Tensor | None = None,
        record: Record | None = None,
    ) -> Tensor:
        """[B,Q,D]. mask: added to the logits, broadcastable to [B,N,Q,S]. One tensor as query and key saves time."""
        dim = query_BQD.shape[-1]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if query_BQD is key_BSD:
            query, key = F.linear(query_BQD, weight[: 2 * dim], bias[: 2 * dim]).chunk(2, -1)
        else:
            query = F.linear(query_BQD, weight[:dim], bias[:dim])
            key = F.linear(key_BSD, weight[dim : 2 * dim], bias[dim : 2 * dim])
        value = F.linear(value_BSD, weight[2 * dim :], bias[2 * dim :])
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))
        dropout = self.dropout if self.training else 0.0
        if mask is not None:
            mask = mask.to(q.dtype)  # on a CPU, torch reads a mask of another dtype as if it were of this one
        if record is None:
            out = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        else:
            logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            weights = (logits if mask is None else logits + mask).softmax(-1)
            record.append(weights.detach())
            out = F.dropout(weights, dropout) @ v
        return self.out_proj(out.transpose(1, 2).flatten(-2))


class EncoderLayer(nn.Module):
    """Self-attention over all tokens, then a two-layer perceptron for each."""

    def __init__(self, dim: int, heads: int, ffn: int, dropout: float):
        super().__init__()
        self.self_attn = Attention(dim, heads, dropout)
        self.linear1, self.linear2 = nn.Linear(dim, ffn), nn.Linear(ffn, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x_BTD: Tensor, position: Tensor, mask: Tensor | None = None, record: Record | None = None
    ) -> Tensor:
        at = x_BTD + position
        x = self.norm1(x_BTD + self.dropout(self.self_attn(at, at, x_BTD, mask, record)))
        inner = self.linear2(self.dropout(F.relu(self.linear1(x))))
        return self.norm2(x + self.dropout(inner))


class DecoderLayer(nn.Module):
    """Self-attention among the queries, attention to the image's tokens, then a perceptron."""

    def __init__(self, dim: int, heads: int, ffn: int, dropout: float):
        super().__init__()
        self.self_attn = Attention(dim, heads, dropout)
        self.multihead_attn = Attention(dim, heads, dropout)
        self.linear1, self.linear2 = nn.Linear(dim, ffn), nn.Linear(ffn, dim)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x_BQD: Tensor,
        query_position: Tensor,
        memory_BTD: Tensor,
        key_BTD: Tensor,
        mask: Tensor | None = None,
        record: Record | None = None,
    ) -> Tensor:
        """key: the memory with its positions added."""
        at = x_BQD + query_position
        x = self.norm1(x_BQD + self.dropout(self.self_attn(at, at, x_BQD)))
        attended = self.multihead_attn(x + query_position, key_BTD, memory_BTD, mask, record)
        x = self.norm2(x + self.dropout(attended))
        inner = self.linear2(self.dropout(F.relu(self.linear1(x))))
        return self.norm3(x + self.dropout(inner))


class Encoder(nn.Module):
    """A stack of encoder layers without a final norm; no layer at all is the identity."""

    def __init__(self, settings: TransformerSettings):
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(settings.dim, settings.heads, settings.ffn, settings.dropout)
            for _ in range(settings.encoder_layers)
        )
        initialise(self)

    def forward(
        self, x_BTD: Tensor, position: Tensor, mask: Tensor | None = None, record: Record | None = None
    ) -> Tensor:
        """[B,T,D]. position [B or 1,T,D]; mask from `attention_mask`."""
        for layer in self.layers:
            x_BTD = layer(x_BTD, position, mask, record)
        return x_BTD


class Decoder(nn.Module):
    """A stack of decoder layers that share the norm of their outputs. All queries are decoded at once."""

    def __init__(self, settings: TransformerSettings):
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(settings.dim, settings.heads, settings.ffn, settings.dropout)
            for _ in range(settings.decoder_layers)
        )
        self.norm = nn.LayerNorm(settings.dim)
        initialise(self)

    def forward(
        self,
        query_QD: Tensor,
        memory_BTD: Tensor,
        position: Tensor,
        mask: Tensor | None = None,
        record: Record | None = None,
    ) -> Tensor:
        """Normed outputs of every layer, [L,B,Q,D]. query: the queries' positions (their content begins at 0)."""
        query = query_QD.expand(len(memory_BTD), -1, -1)
        key = memory_BTD + position
        x, outputs = torch.zeros_like(query), []
        for layer in self.layers:
            x = layer(x, query, memory_BTD, key, mask, record)
            outputs.append(x)
        return self.norm(torch.stack(outputs))


class Transformer(nn.Module):
    """Encoder and decoder under their official names."""

    def __init__(self, settings: TransformerSettings):
        super().__init__()
        self.encoder = Encoder(settings)
        self.decoder = Decoder(settings)

    def forward(
        self,
        tokens_BTD: Tensor,
        position: Tensor,
        query_QD: Tensor,
        mask: Tensor | None = None,
        encoder_record: Record | None = None,
        decoder_record: Record | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(decoder outputs [L,B,Q,D], memory [B,T,D])."""
        memory = self.encoder(tokens_BTD, position, mask, encoder_record)
        return self.decoder(query_QD, memory, position, mask, decoder_record), memory


def attention_mask(padding_BHW: Tensor | None) -> Tensor | None:
    """Padding (True = padded) -> the mask [B,1,1,T] that is added to attention logits: 0, and -inf for padded
    tokens."""
    if padding_BHW is None:
        return None
    padding = padding_BHW.flatten(1)[:, None, None, :]
    return torch.zeros(padding.shape, device=padding.device).masked_fill_(padding, -torch.inf)


def initialise(module: nn.Module) -> None:
    """Xavier-uniform for every matrix, as the official code does it; vectors keep their own start."""
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
