"""Masks of box queries: MaskFormer's product of a query's embedding with every pixel's, and its place in the box.

Pixel embeddings alone can't tell two objects of one class apart, and learning to say "the left one" takes long. So each
query adds six numbers, the coefficients of 1, u, v, u², v², uv at a pixel's place (u, v) in the query's own box (-1..1
along its sides; Tian et al., "CondInst", 2020, feed such relative coordinates to their masks). At first: an ellipse.
Training reads logits at sampled points alone (Cheng et al., "Mask2Former", 2022, section 3.3).

Legend: B images, M rows: any queries of any images, P points, E width of the embeddings, D of the queries.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.models.layers.mlp import MLP
from segcli.models.layers.point_loss import logits_at
from segcli.models.layers.pyramid import conv_norm

ELLIPSE = (2.0, 0.0, 0.0, -2.0, -2.0, 0.0)  # the one that touches the box's sides
OUTSIDE = -8.0  # the logit of what is surely not the object's
MARGIN = 1.05  # a mask may reach so far beyond its box, which is not exact
SMALLEST = 0.01  # share of the canvas: a box may not become too thin to divide by


class BoxMasks(nn.Module):
    """fine: channels of the backbone's stride-4 map, which joins the finest of the encoder's `dim` wide maps."""

    def __init__(self, fine: int, dim: int, width: int):
        super().__init__()
        self.top, self.side = nn.Conv2d(dim, width, 1), nn.Conv2d(fine, width, 1)
        self.smooth = nn.Sequential(conv_norm(width, width), conv_norm(width, width))
        self.features = nn.Conv2d(width, width, 1)
        self.norm = nn.LayerNorm(dim)
        self.embed = MLP(dim, dim, width, 3)
        self.place = nn.Linear(dim, 6)
        self.bias = nn.Parameter(torch.zeros(()))
        nn.init.zeros_(self.place.weight)
        self.place.bias = nn.Parameter(torch.tensor(ELLIPSE))
        last: Any = self.embed.layers[-1]
        with torch.no_grad():  # the ellipse is what is seen first
            last.weight.mul_(0.2)
            last.bias.zero_()

    def pixels(self, finest_BDhw: Tensor, fine_BCHW: Tensor) -> Tensor:
        """Pixel embeddings [B,E,H,W] at stride 4."""
        top = F.interpolate(self.top(finest_BDhw), size=fine_BCHW.shape[2:], mode="bilinear")
        return self.features(self.smooth(top + self.side(fine_BCHW)))

    def code(self, hidden_MD: Tensor) -> tuple[Tensor, Tensor]:
        """What a query says of its mask: its embedding [M,E] and its six coefficients [M,6]."""
        hidden = self.norm(hidden_MD)
        return self.embed(hidden), self.place(hidden)

    def at_points(
        self, pixels_BEHW: Tensor, hidden_MD: Tensor, boxes_M4: Tensor, image_M: Tensor, points_MP2: Tensor
    ) -> Tensor:
        """Logits [M,P]. boxes cxcywh and points (x, y): shares of the canvas; image: which image a row belongs to."""
        embedding_ME, place_M6 = self.code(hidden_MD)
        x, y = points_MP2.unbind(-1)
        logits_MP = (_terms(*_within(x, y, boxes_M4[:, None])) * place_M6[:, None]).sum(-1) + self.bias
        for i, pixels in enumerate(pixels_BEHW):
            rows = (image_M == i).nonzero()[:, 0]
            read = logits_at(embedding_ME[rows], pixels, points_MP2[rows])
            logits_MP = logits_MP.index_add(0, rows, read.to(logits_MP.dtype))
        return logits_MP

    def whole(self, pixels_EHW: Tensor, hidden_MD: Tensor, boxes_M4: Tensor) -> Tensor:
        """Logits [M,H,W] of one image's queries."""
        embedding_ME, place_M6 = self.code(hidden_MD)
        height, width = pixels_EHW.shape[1:]
        x, y = _centres(pixels_EHW)
        u_MW, v_MH = _within(x, y, boxes_M4[:, None])
        a, b, c, d, e, f = place_M6[:, :, None, None].unbind(1)
        u, v = u_MW[:, None], v_MH[:, :, None]
        placed = a + b * u + c * v + d * u * u + e * v * v + f * u * v
        return (embedding_ME @ pixels_EHW.flatten(1)).view(-1, height, width) + placed + self.bias

    def inside(self, pixels_EHW: Tensor, hidden_MD: Tensor, boxes_M4: Tensor) -> Tensor:
        """`whole`, and OUTSIDE where a cell lies beyond the query's box and MARGIN: few samples in training lie there,
        and what an undertrained mask says of it is noise."""
        logits = self.whole(pixels_EHW, hidden_MD, boxes_M4)
        height, width = logits.shape[1:]
        cx, cy, w, h = (v[:, None] for v in boxes_M4.unbind(-1))
        x, y = _centres(logits)
        beyond_MW = (x - cx).abs() > MARGIN * w / 2 + 0.5 / width  # half a cell: the border lies between two of them
        beyond_MH = (y - cy).abs() > MARGIN * h / 2 + 0.5 / height
        beyond = beyond_MW[:, None] | beyond_MH[:, :, None]
        return torch.where(beyond, logits.clamp(max=OUTSIDE), logits)


def sample_points(boxes_M4: Tensor, points: int, generator: torch.Generator) -> Tensor:
    """[M,points,2] (x, y) as shares of the canvas: three quarters inside each box, enlarged by a quarter, the rest
    anywhere. boxes: cxcywh, shares of the canvas. The generator lives on the CPU."""
    near = points * 3 // 4
    draw = torch.rand(len(boxes_M4), points, 2, generator=generator).to(boxes_M4.device)
    half = boxes_M4[:, None, 2:] / 2 * 1.25 + 0.005
    inside = boxes_M4[:, None, :2] + (2 * draw[:, :near] - 1) * half
    return torch.cat([inside, draw[:, near:]], 1).clamp(0, 1 - 1e-4)


def read_labels(masks_NHW: Tensor, object_M: Tensor, points_MP2: Tensor) -> Tensor:
    """What bool masks say at each point, float [M,P]."""
    height, width = masks_NHW.shape[1:]
    x, y = (points_MP2 * points_MP2.new_tensor([width, height])).long().unbind(-1)
    return masks_NHW[object_M[:, None], y, x].float()


def _centres(maps: Tensor) -> tuple[Tensor, Tensor]:
    """x [W] and y [H] of the cells' centres, as shares of the canvas."""
    height, width = maps.shape[-2:]
    x, y = (torch.arange(n, device=maps.device) for n in (width, height))
    return (x + 0.5) / width, (y + 0.5) / height


def _within(x: Tensor, y: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
    """A pixel's place in a box, -1..1 along its sides; bounded to -2..2, so that no far pixel has a huge logit."""
    cx, cy, w, h = box.unbind(-1)
    u = ((x - cx) / w.clamp(min=SMALLEST) * 2).clamp(-2, 2)
    v = ((y - cy) / h.clamp(min=SMALLEST) * 2).clamp(-2, 2)
    return u, v


def _terms(u: Tensor, v: Tensor) -> Tensor:
    return torch.stack([torch.ones_like(u), u, v, u * u, v * v, u * v], -1)
