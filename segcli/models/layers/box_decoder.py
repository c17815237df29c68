"""A decoder whose queries are boxes (Liu et al., "DAB-DETR", 2022), refined layer by layer (Deformable DETR, 2021).

A learned vector has to find its object anew in every image; a box says where to look, how far, and what to correct.
Legend: B images, Q queries, L decoder layers, D width, C classes, T tokens of all maps.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.models.layers.deformable import DeformableAttention
from segcli.models.layers.mlp import MLP
from segcli.models.layers.transformer import Attention, Record, TransformerSettings

RARE = -4.0  # a class's first logit: objects are rare, so begin at 2 %


@dataclasses.dataclass
class Memory:
    """The encoder's output: maps [B,D,h,w] of each level; tokens and keys [B,T,D] of all levels (keys with positions)
    and the mask that is added to their attention logits, for global attention alone."""

    maps: list[Tensor]
    tokens: Tensor | None = None
    keys: Tensor | None = None
    mask: Tensor | None = None


class BoxDecoderLayer(nn.Module):
    """Self-attention among the queries, attention to the image, a perceptron; post-norm, as DETR's layer."""

    def __init__(self, dim: int, heads: int, ffn: int, dropout: float, levels: int | None):
        """levels: of the maps that deformable attention reads; None: attention to all tokens."""
        super().__init__()
        self.self_attn = Attention(dim, heads, dropout)
        self.cross_attn = Attention(dim, heads, dropout) if levels is None else DeformableAttention(dim, heads, levels)
        self.linear1, self.linear2 = nn.Linear(dim, ffn), nn.Linear(ffn, dim)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x_BQD: Tensor,
        position: Tensor,
        boxes_BQ4: Tensor,
        memory: Memory,
        mask: Tensor | None,
        record: Record | None,
    ) -> Tensor:
        at = x_BQD + position
        x = self.norm1(x_BQD + self.dropout(self.self_attn(at, at, x_BQD, mask)))
        at = x + position
        if isinstance(self.cross_attn, DeformableAttention):
            attended = self.cross_attn(at, boxes_BQ4, memory.maps, record)
        else:
            assert memory.keys is not None
            assert memory.tokens is not None
            attended = self.cross_attn(at, memory.keys, memory.tokens, memory.mask, record)
        x = self.norm2(x + self.dropout(attended))
        inner = self.linear2(self.dropout(F.relu(self.linear1(x))))
        return self.norm3(x + self.dropout(inner))


class BoxDecoder(nn.Module):
    """Each layer has a class head and a box head of its own; gradients of a box stop at the layer before."""

    def __init__(self, classes: int, settings: TransformerSettings, levels: int | None):
        """levels: see BoxDecoderLayer."""
        super().__init__()
        dim, layers = settings.dim, settings.decoder_layers
        self.layers = nn.ModuleList(
            BoxDecoderLayer(dim, settings.heads, settings.ffn, settings.dropout, levels) for _ in range(layers)
        )
        self.position = MLP(4, 2 * dim, dim, 2)
        classes_of_layers = [nn.Linear(dim, classes) for _ in range(layers)]
        boxes_of_layers = [MLP(dim, dim, 4, 3) for _ in range(layers)]
        self.classes, self.boxes = nn.ModuleList(classes_of_layers), nn.ModuleList(boxes_of_layers)
        for classify, refine in zip(classes_of_layers, boxes_of_layers, strict=True):
            nn.init.constant_(classify.bias, RARE)
            nn.init.zeros_(refine.last.weight)  # begin with the box that came in
            nn.init.zeros_(refine.last.bias)

    def forward(
        self,
        content_BQD: Tensor,
        boxes_BQ4: Tensor,
        memory: Memory,
        mask: Tensor | None = None,
        record: Record | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(hidden [L,B,Q,D], class logits [L,B,Q,C], boxes [L,B,Q,4] cxcywh as shares of the canvas).

        mask: added to the logits of the queries' self-attention, broadcastable to [B,heads,Q,Q]. record receives each
        layer's attention to the image, [B,heads,Q,T], or what deformable attention records.
        """
        x, hidden, logits, refined = content_BQD, [], [], []
        for layer, classify, refine in zip(self.layers, self.classes, self.boxes, strict=True):
            x = layer(x, self.position(boxes_BQ4), boxes_BQ4, memory, mask, record)
            box = (refine(x) + inverse_sigmoid(boxes_BQ4)).sigmoid()
            boxes_BQ4 = box.detach()
            hidden.append(x)
            logits.append(classify(x))
            refined.append(box)
        return torch.stack(hidden), torch.stack(logits), torch.stack(refined)


def inverse_sigmoid(x: Tensor, margin: float = 1e-3) -> Tensor:
    """log(x / (1 - x)) with x kept `margin` away from 0 and 1."""
    x = x.clamp(margin, 1 - margin)
    return (x / (1 - x)).log()
