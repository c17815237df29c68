"""Masks of box queries: MaskFormer's product of a query's embedding with every pixel's, and a small map over its box.

Pixel embeddings alone can't tell two objects of one class apart, and learning positions from them takes long. So each
query adds a map of MAP×MAP logits, stretched over its own box and interpolated bilinearly: the object's coarse shape,
in coordinates relative to the object (Tian et al., "CondInst", 2020, give such coordinates to the mask head; Dong et
al., "SOLQ", 2021, predict the whole mask as coefficients of the query). It is initialised as an ellipse. Training
computes logits at sampled points only (Cheng et al., "Mask2Former", 2022, section 3.3).

Legend: B images, M rows: any queries of any images, P points, E width of the embeddings, D of the queries, G = MAP.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.models.layers.mlp import MLP
from segcli.models.layers.pyramid import conv_norm
from segcli.models.maskformer.point_loss import logits_at

MAP = 8  # side of a query's own map, in cells
EXTENT = 1.25  # distance of its outermost cells from the box's centre, in half sides of the box
OUTSIDE = -8.0  # the logit of pixels that are not the object's
MARGIN = 1.05  # a mask may extend beyond its box, which is not exact, by this factor
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
        self.coarse = nn.Linear(dim, MAP * MAP)
        self.bias = nn.Parameter(torch.zeros(()))
        nn.init.zeros_(self.coarse.weight)
        along = torch.linspace(-EXTENT, EXTENT, MAP)
        lost = 2 / 3 * (2 * EXTENT / (MAP - 1)) ** 2  # mean interpolation error of the parabola
        ellipse = 2 + lost - 2 * (along[:, None] ** 2 + along**2)  # the one that touches the box's sides
        self.coarse.bias = nn.Parameter(ellipse.flatten())
        with torch.no_grad():  # start as the ellipse
            self.embed.last.weight.mul_(0.2)
            self.embed.last.bias.zero_()

    def pixels(self, finest_BDhw: Tensor, fine_BCHW: Tensor) -> Tensor:
        """Pixel embeddings [B,E,H,W] at stride 4."""
        top = F.interpolate(self.top(finest_BDhw), size=fine_BCHW.shape[2:], mode="bilinear")
        return self.features(self.smooth(top + self.side(fine_BCHW)))

    def code(self, hidden_MD: Tensor) -> tuple[Tensor, Tensor]:
        """A query's mask embedding [M,E] and its map [M,G,G], rows from the top."""
        hidden = self.norm(hidden_MD)
        return self.embed(hidden), self.coarse(hidden).unflatten(-1, (MAP, MAP))

    def at_points(
        self, pixels_BEHW: Tensor, hidden_MD: Tensor, boxes_M4: Tensor, image_M: Tensor, points_MP2: Tensor
    ) -> Tensor:
        """Logits [M,P]. boxes cxcywh and points (x, y): shares of the canvas; image: which image a row belongs to."""
        embedding_ME, map_MGG = self.code(hidden_MD)
        across_MPG, down_MPG = _weights(points_MP2[..., 0], points_MP2[..., 1], boxes_M4)
        logits_MP = (down_MPG @ map_MGG * across_MPG).sum(-1) + self.bias
        for i, pixels in enumerate(pixels_BEHW):
            rows = (image_M == i).nonzero()[:, 0]
            read = logits_at(embedding_ME[rows], pixels, points_MP2[rows])
            logits_MP = logits_MP.index_add(0, rows, read.to(logits_MP.dtype))
        return logits_MP

    def whole(self, pixels_EHW: Tensor, hidden_MD: Tensor, boxes_M4: Tensor) -> Tensor:
        """Logits [M,H,W] of one image's queries."""
        embedding_ME, map_MGG = self.code(hidden_MD)
        across_MWG, down_MHG = _weights(*_centres(pixels_EHW), boxes_M4)
        placed = down_MHG @ map_MGG @ across_MWG.mT
        return (embedding_ME @ pixels_EHW.flatten(1)).view(placed.shape) + placed + self.bias

    def inside(self, pixels_EHW: Tensor, hidden_MD: Tensor, boxes_M4: Tensor) -> Tensor:
        """As `whole`, with the logit OUTSIDE for cells beyond the query's box and MARGIN: few training samples lie
        there, and the logits of an undertrained mask are noise there."""
        logits = self.whole(pixels_EHW, hidden_MD, boxes_M4)
        height, width = logits.shape[1:]
        cx, cy, w, h = (v[:, None] for v in boxes_M4.unbind(-1))
        x, y = _centres(logits)
        beyond_MW = (x - cx).abs() > MARGIN * w / 2 + 0.5 / width  # half a cell: the border lies between two of them
        beyond_MH = (y - cy).abs() > MARGIN * h / 2 + 0.5 / height
        beyond = beyond_MW[:, None] | beyond_MH[:, :, None]
        return torch.where(beyond, logits.clamp(max=OUTSIDE), logits)


def sample_points(boxes_M4: Tensor, points: int, generator: torch.Generator) -> Tensor:
    """[M,points,2] (x, y) as shares of the canvas: three quarters inside each box, enlarged to its map's EXTENT, the
    rest anywhere. boxes: cxcywh, shares of the canvas. The generator lives on the CPU."""
    near = points * 3 // 4
    draw = torch.rand(len(boxes_M4), points, 2, generator=generator).to(boxes_M4.device)
    half = boxes_M4[:, None, 2:] / 2 * EXTENT + 0.005
    inside = boxes_M4[:, None, :2] + (2 * draw[:, :near] - 1) * half
    return torch.cat([inside, draw[:, near:]], 1).clamp(0, 1 - 1e-4)


def _centres(maps: Tensor) -> tuple[Tensor, Tensor]:
    """x [W] and y [H] of the cells' centres, as shares of the canvas."""
    height, width = maps.shape[-2:]
    x, y = (torch.arange(n, device=maps.device) for n in (width, height))
    return (x + 0.5) / width, (y + 0.5) / height


def _weights(x: Tensor, y: Tensor, boxes_M4: Tensor) -> tuple[Tensor, Tensor]:
    """Bilinear weights [M,P,G] of a map's G columns at x [P] or [M,P], and of its rows at y. Points beyond the map take
    the values of its border."""
    cx, cy, w, h = (v[:, None] for v in boxes_M4.unbind(-1))
    number = torch.arange(MAP, device=boxes_M4.device)
    out = []
    for place, centre, side in ((x, cx, w), (y, cy, h)):
        within = ((place - centre) / side.clamp(min=SMALLEST) * 2).clamp(-EXTENT, EXTENT)  # -1..1: the box
        at = (within / EXTENT + 1) / 2 * (MAP - 1)
        out.append((1 - (at[..., None] - number).abs()).clamp(min=0))
    return out[0], out[1]
