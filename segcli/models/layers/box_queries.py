"""Queries that are boxes, from a backbone's maps: encoder, query selection, denoising, decoder, and their losses.

What DETR and MaskFormer share where plain learned queries would need hundreds of epochs; each part is an option.
Legend: B images, Q queries, N noisy copies, L decoder layers, C classes, D width, T tokens of all maps.
"""

import dataclasses

import torch
from torch import Tensor, nn
from torchvision.ops import nms

from segcli.core import distributed
from segcli.core.errors import UsageError
from segcli.models.interface import Backbone
from segcli.models.layers import box_query_loss
from segcli.models.layers.box_decoder import BoxDecoder, Memory
from segcli.models.layers.box_query_loss import BoxLoss
from segcli.models.layers.denoising import Noise, make_noise
from segcli.models.layers.dense_head import DenseProposals
from segcli.models.layers.hybrid_encoder import HybridEncoder, shrink_padding, to_tokens
from segcli.models.layers.position import SinePosition
from segcli.models.layers.sampler import keyed_generator
from segcli.models.layers.targets import BoxTargets
from segcli.models.layers.transformer import Record, TransformerSettings, attention_mask
from segcli.ops import boxes
from segcli.ops.matcher import Matching
from segcli.types import Batch, Target

POOL = 10  # distinct queries are chosen among so many times as many cells


@dataclasses.dataclass
class BoxOutputs:
    """Of real queries: hidden [L,B,Q,D], logits [L,B,Q,C], boxes [L,B,Q,4] (cxcywh, shares of the canvas; with G groups
    in training L·G rows for L). maps [B,D,h,w] of each level. In training also the noise, its (logits, boxes) and last
    hidden states [B,N,D]; with selection the dense head's raw outputs."""

    hidden: Tensor
    logits: Tensor
    boxes: Tensor
    maps: list[Tensor]
    noise: Noise | None = None
    noisy: tuple[Tensor, Tensor] | None = None
    noisy_hidden: Tensor | None = None
    dense: dict[str, Tensor] | None = None


@dataclasses.dataclass(frozen=True)
class BoxOptions:
    """Section `model.boxes`: how box queries begin, look and train.

    deformable: cross-attention to a few points around the box, not to all tokens. selection (DINO, RT-DETR): queries
    begin at the best cells of a dense head, trained one-to-many (TOOD); otherwise at learned boxes. distinct (DDQ): see
    `best_cells`; 0.8 there. denoising (DN-DETR, DINO): about so many noisy copies of labelled boxes join in training.
    groups (Group DETR, Chen et al., 2023): so many sets of learned queries in training, which do not see one another,
    each matched on its own; without selection.
    """

    deformable: bool = False
    selection: bool = False
    distinct: float | None = None
    denoising: int = 0
    groups: int = 1

    def check(self) -> None:
        """Raises UsageError for options that exclude each other."""
        if self.selection and self.groups > 1:
            raise UsageError("model.boxes.groups is for learned queries, and selection chooses them from the image")
        if self.distinct is not None and not self.selection:
            raise UsageError("model.boxes.distinct chooses among the cells of model.boxes.selection: true")
        if self.distinct is not None and not 0 < self.distinct < 1:
            raise UsageError(f"model.boxes.distinct is an IoU between 0 and 1, not {self.distinct}")


class BoxQueries(nn.Module):
    """The `levels` coarsest maps of the backbone are read. Raises UsageError where it has not so many, or for options
    that exclude each other."""

    def __init__(
        self,
        backbone: Backbone,
        levels: int,
        classes: int,
        *,
        queries: int,
        transformer: TransformerSettings,
        options: BoxOptions,
        loss: BoxLoss,
    ):
        super().__init__()
        most = len(backbone.channels)
        if not 1 <= levels <= most:
            raise UsageError(f"model.levels must be from 1 to {most} with this backbone, not {levels}")
        options.check()
        channels, strides, dim = backbone.channels[-levels:], backbone.strides[-levels:], transformer.dim
        self.queries, self.options, self.loss, self.num_classes = queries, options, loss, classes
        self.encoder = HybridEncoder(channels, transformer)
        self.decoder = BoxDecoder(classes, transformer, levels if options.deformable else None)
        self.sine = SinePosition(dim)
        self.dense = DenseProposals(classes, dim, strides) if options.selection else None
        if self.dense is not None:
            self.content = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim))
        else:
            self.learned = nn.Embedding(options.groups * queries, dim)
            self.anchors = nn.Embedding(options.groups * queries, 4)
            with torch.no_grad():  # everywhere, a quarter of the image wide
                self.anchors.weight[:, :2].uniform_(-2, 2)
                self.anchors.weight[:, 2:].fill_(-1.2)
        self.label_embed = nn.Embedding(classes + 1, dim) if options.denoising else None

    @property
    def class_layers(self) -> tuple[str, ...]:
        return ("decoder.classes.", "dense.classes.", "label_embed.")

    def forward(
        self,
        features: list[Tensor],
        batch: Batch,
        targets: BoxTargets | None = None,
        record: Record | None = None,
        encoder_record: Record | None = None,
    ) -> BoxOutputs:
        """targets: the labelled objects, with which denoising trains; None leaves it out. record: see `BoxDecoder`;
        encoder_record: receives the self-attention of the encoder's layers."""
        canvas = (batch.images.shape[2], batch.images.shape[3])
        padding = batch.padding if any(size != canvas for size in batch.sizes) else None
        return self.run(features, batch, padding, targets, record, encoder_record)

    def run(
        self,
        features: list[Tensor],
        batch: Batch,
        padding: Tensor | None,
        targets: BoxTargets | None = None,
        record: Record | None = None,
        encoder_record: Record | None = None,
    ) -> BoxOutputs:
        """`forward` with the padding [B,H,W] of the batch; None: nothing is padded."""
        maps = self.encoder(features, padding, encoder_record)
        raw, content, anchors, group_mask = self._start(maps, batch.padding)
        noise = None
        if self.label_embed is not None and targets is not None:
            seeds = batch.seeds or list(range(len(batch.images)))
            generators = [keyed_generator(seed, 31) for seed in seeds]
            noise = make_noise(
                targets.labels, targets.boxes, targets.counts, self.num_classes, self.options.denoising, generators
            )
        count = 0
        mask = group_mask
        if noise is not None:
            assert self.label_embed is not None
            content = torch.cat([self.label_embed(noise.labels), content], 1)
            anchors = torch.cat([noise.boxes, anchors], 1)
            count = noise.boxes.shape[1]
            mask = noise.attention_mask(content.shape[1] - count)
            if group_mask is not None:
                mask[:, :, count:, count:] = group_mask
        memory = Memory(maps) if self.options.deformable else self._all_tokens(maps, padding)
        hidden, logits, refined = self.decoder(content, anchors, memory, mask, record)
        own = slice(count, None)
        out = BoxOutputs(
            self._fold(hidden[:, :, own]), self._fold(logits[:, :, own]), self._fold(refined[:, :, own]), maps
        )
        if noise is not None:
            out.noise, out.noisy = noise, (logits[:, :, :count], refined[:, :, :count])
            out.noisy_hidden = hidden[-1, :, :count]
        out.dense = raw
        return out

    def _start(
        self, maps: list[Tensor], padding_BHW: Tensor
    ) -> tuple[dict[str, Tensor] | None, Tensor, Tensor, Tensor | None]:
        """(the dense head's raw outputs, content [B,Q,D], boxes [B,Q,4], self-attention mask [Q,Q] between groups)."""
        if self.dense is None:
            groups = self.options.groups if self.training else 1
            count = groups * self.queries
            content = self.learned.weight[:count].expand(len(padding_BHW), -1, -1)
            anchors = self.anchors.weight[:count].sigmoid().expand(len(padding_BHW), -1, -1)
            if groups == 1:
                return None, content, anchors, None
            group = torch.arange(count, device=content.device) // self.queries
            apart = group[:, None] != group
            return None, content, anchors, torch.zeros_like(apart, dtype=torch.float32).masked_fill(apart, -torch.inf)
        raw, towers_BTD = self.dense.outputs(maps)
        score_BT = raw["logits"].detach().amax(-1)
        score_BT = score_BT.masked_fill(_outside(raw["points"], padding_BHW), -torch.inf)
        boxes_BT4 = raw["boxes"].detach()
        best = best_cells(score_BT, boxes_BT4, self.queries, self.options.distinct)[..., None]
        height, width = padding_BHW.shape[1:]
        corners = boxes_BT4.gather(1, best.expand(-1, -1, 4))
        shares = corners / corners.new_tensor([width, height, width, height])
        anchors = boxes.to_cxcywh(shares.clamp(0, 1)).clamp(1e-3, 1 - 1e-3)
        content = self.content(towers_BTD.gather(1, best.expand(-1, -1, towers_BTD.shape[-1])))
        return raw, content, anchors, None

    def _all_tokens(self, maps: list[Tensor], padding_BHW: Tensor | None) -> Memory:
        tokens, keys, masks = [], [], []
        for level in maps:
            size = (level.shape[2], level.shape[3])
            padding = shrink_padding(padding_BHW, size)
            tokens.append(to_tokens(level))
            keys.append(tokens[-1] + self.sine(size, padding, level.device).flatten(1, 2))
            mask = attention_mask(padding)
            if mask is not None:
                masks.append(mask)
        return Memory(maps, torch.cat(tokens, 1), torch.cat(keys, 1), torch.cat(masks, -1) if masks else None)

    def _fold(self, rows_LBQx: Tensor) -> Tensor:
        """Groups become rows beside the layers: each is matched and scored as a layer of its own."""
        if self.dense is not None or not self.training or self.options.groups == 1:
            return rows_LBQx
        split = rows_LBQx.unflatten(2, (self.options.groups, self.queries))
        return split.transpose(1, 2).flatten(0, 1)

    def match(self, out: BoxOutputs, targets: BoxTargets, image_ids: list[int]) -> Matching:
        return box_query_loss.match_boxes(out.logits, out.boxes, targets, self.loss, image_ids)

    def losses(
        self,
        out: BoxOutputs,
        targets: BoxTargets,
        matching: Matching,
        dense_targets: list[Target],
        seeds: list[int],
        count: float,
    ) -> dict[str, Tensor]:
        """Weighted losses of every layer, summed; of the noisy copies ("…_dn") and of the dense head ("dense_…").

        dense_targets: the objects again, on canvas pixels. count: objects of the batch, averaged over
        ranks and accumulation steps. Every parameter takes part, if by zero.
        """
        count = max(count, 1 / distributed.parts())
        groups = len(out.logits) / len(self.decoder.layers)
        losses = box_query_loss.class_and_box_losses(
            out.logits, out.boxes, targets, matching, self.loss, count * groups
        )
        if out.noise is not None and out.noisy is not None:
            losses.update(box_query_loss.denoising_losses(*out.noisy, targets, out.noise, self.loss, count))
        elif self.label_embed is not None:
            losses.update(dict.fromkeys(("class_dn", "l1_dn", "giou_dn"), self.label_embed.weight.sum() * 0))
        if self.dense is not None:
            assert out.dense is not None
            dense = self.dense.loss(out.dense, dense_targets, seeds)
            losses.update({f"dense_{name.rsplit('_', 1)[1]}": value for name, value in dense.items()})
        return losses


def _outside(points_T2: Tensor, padding_BHW: Tensor) -> Tensor:
    """[B,T]: which points (x, y), in pixels, lie in the padding or beyond the canvas."""
    height, width = padding_BHW.shape[1:]
    x, y = points_T2.unbind(-1)
    padded_BT = padding_BHW[:, y.long().clamp(max=height - 1), x.long().clamp(max=width - 1)]
    return padded_BT | (x >= width) | (y >= height)


def best_cells(score_BT: Tensor, boxes_BT4: Tensor, count: int, distinct: float | None) -> Tensor:
    """The cells [B,n] with the highest scores, n = count or all T. boxes: xyxy; score -inf: not in the image.

    distinct: first come those that no better one overlaps by a higher IoU (Zhang et al., "Dense Distinct Query", 2023).
    A head that learns from several cells an object scores all of them high, and one-to-one matching is slow to tell
    queries apart that begin alike.
    """
    if distinct is None or score_BT.is_meta:  # where costs are counted there are no values to compare
        return score_BT.topk(min(count, score_BT.shape[1]), 1).indices
    score_BP, cell_BP = score_BT.topk(min(POOL * count, score_BT.shape[1]), 1)
    rows = []
    for score_P, cell_P, box_T4 in zip(score_BP, cell_BP, boxes_BT4, strict=True):
        first = nms(box_T4[cell_P], score_P, distinct)
        distinct_P = torch.zeros_like(cell_P).index_fill(0, first, 1) * score_P.isfinite()
        place_P = torch.arange(len(cell_P), device=cell_P.device) - distinct_P * len(cell_P)
        rows.append(cell_P[place_P.argsort()[:count]])
    return torch.stack(rows)
