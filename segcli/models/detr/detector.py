"""DETR's detector (Carion et al., 2020).

backbone -> tokens with sine positions -> transformer encoder -> decoder of N learned queries, all at once -> for each
query a class (or "no object") and a box. Training matches queries and objects one to one.

Official parameter names: `backbone.0.body`, `transformer`, `class_embed`, `bbox_embed`, `query_embed`, `input_proj`.
Legend: B images, T = h·w tokens, Q queries, L decoder layers, D width, C classes.
"""

import dataclasses
from collections import deque

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.models.detr import set_loss
from segcli.models.detr.set_loss import DetrLoss
from segcli.models.interface import Backbone
from segcli.models.layers.flop_rule import count
from segcli.models.layers.hybrid_encoder import shrink_padding
from segcli.models.layers.mlp import MLP
from segcli.models.layers.position import SinePosition
from segcli.models.layers.set_model import SetModel, last_and_earlier, last_costs, pairs_by_image
from segcli.models.layers.targets import BoxTargets, Targets, box_targets, normalisers
from segcli.models.layers.transformer import Record, Transformer, attention_mask
from segcli.ops import boxes, dense_masks
from segcli.ops.detr_inference import detections
from segcli.ops.matcher import Matching
from segcli.ops.preprocess import Preprocess
from segcli.ops.preprocess_graph import Framed
from segcli.types import Batch, Prediction

PAPER_SIZE = (800, 1130)  # the mean size of COCO's images behind the paper's tables


@dataclasses.dataclass
class DetrOutputs:
    """logits [L,B,Q,C+1] and boxes [L,B,Q,4] (cxcywh, shares of each image); for the mask head: queries [B,Q,D]
    of the last layer, memory [B,T,D], its size (h, w) and attention mask, projected [B,D,h,w], the backbone's features.
    """

    logits: Tensor
    boxes: Tensor
    queries: Tensor
    memory: Tensor
    size: tuple[int, int]
    mask: Tensor | None
    projected: Tensor
    features: list[Tensor]


class Body(nn.Module):
    """Names the backbone `body`, as the official layout does."""

    def __init__(self, body: Backbone):
        super().__init__()
        self.body = body

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        return self.body(x_BCHW)


class DETR(SetModel):
    """The detector. `forward` gives the losses, `run` the outputs of every decoder layer."""

    class_layers = ("class_embed.",)
    images_needed = 100_000  # by DETR's 150 epochs on COCO (Carion et al., 2020)
    lite = "detr_lite"

    def __init__(
        self,
        backbone: Backbone,
        transformer: Transformer,
        *,
        task: str,
        classes: int,
        num_things: int,
        queries: int,
        loss: DetrLoss,
    ):
        super().__init__(task, num_things, queries)
        dim = transformer.decoder.norm.normalized_shape[0]
        self.transformer = transformer
        self.class_embed = nn.Linear(dim, classes + 1)
        self.bbox_embed = MLP(dim, dim, 4, 3)
        self.query_embed = nn.Embedding(queries, dim)
        self.input_proj = nn.Conv2d(backbone.channels[-1], dim, 1)
        self.backbone = nn.Sequential(Body(backbone))
        self.channels: list[int] = backbone.channels
        self.position = SinePosition(dim)
        self.classes, self.loss = classes, loss
        self.preprocess = Preprocess(800, 1333, "pil", "nearest", divisor=1)

    def run(
        self,
        images_BCHW: Tensor,
        padding_BHW: Tensor | None,
        *,
        every_layer: bool,
        encoder_record: Record | None = None,
        decoder_record: Record | None = None,
    ) -> DetrOutputs:
        """The network; L is 1 without `every_layer`. padding None: nothing is padded. Records: see `transformer`."""
        features = self.backbone(images_BCHW)
        projected = self.input_proj(features[-1])
        size = (projected.shape[2], projected.shape[3])
        padding = None
        if padding_BHW is not None:
            padding = F.interpolate(padding_BHW[:, None].float(), size=size)[:, 0].bool()
        mask = attention_mask(padding)
        position = self.position(size, padding, images_BCHW.device).flatten(1, 2)
        hs_LBQD, memory_BTD = self.transformer(
            projected.flatten(2).transpose(1, 2),
            position,
            self.query_embed.weight,
            mask,
            encoder_record,
            decoder_record,
        )
        read = hs_LBQD if every_layer else hs_LBQD[-1:]
        logits, predicted = self.class_embed(read), self.bbox_embed(read).float().sigmoid()
        return DetrOutputs(logits, predicted, hs_LBQD[-1], memory_BTD, size, mask, projected, features)

    def targets(self, batch: Batch) -> BoxTargets:
        return box_targets(batch, self.task, classes=self.classes, num_things=self.num_things)

    def match(self, out: DetrOutputs, targets: BoxTargets, batch: Batch) -> Matching:
        self.warn_of_many(targets, batch.image_ids)
        return set_loss.match_objects(out.logits, out.boxes, targets, self.loss, batch.image_ids)

    def count(self, targets: Targets) -> dict[str, float]:
        return normalisers(targets.counts, self.queries, self.loss.no_object)

    def losses(
        self, out: DetrOutputs, targets: BoxTargets, matching: Matching, normalisers: dict[str, float]
    ) -> dict[str, Tensor]:
        """{"class", "l1", "giou"} of the last layer and, summed, {"…_aux"} of the earlier ones."""
        by_layer = set_loss.class_and_box_losses(out.logits, out.boxes, targets, matching, self.loss, normalisers)
        return last_and_earlier(by_layer, len(out.logits) > 1)

    def forward(self, batch: Batch, normalisers: dict[str, float] | None = None) -> dict[str, Tensor]:
        """Weighted losses. normalisers: averaged over ranks and accumulation steps; None: this batch's own."""
        out = self.run(batch.images, padding(batch), every_layer=self.loss.auxiliary)
        targets = self.targets(batch)
        return self.losses(out, targets, self.match(out, targets, batch), normalisers or self.count(targets))

    def predict(self, batch: Batch) -> list[Prediction]:
        """Detections on the original images' pixels, best first: each query's best class, and no suppression."""
        return self.read(self.run(batch.images, padding(batch), every_layer=False), batch)

    def read(self, out: DetrOutputs, batch: Batch) -> list[Prediction]:
        """The detections of each image that the last layer's outputs hold."""
        return [
            Prediction(
                image_id, original, detections(out.logits[-1, i], out.boxes[-1, i], original, self.max_detections)[0]
            )
            for i, (image_id, original) in enumerate(zip(batch.image_ids, batch.original_sizes, strict=True))
        ]

    def deploy(self, framed: Framed) -> dict[str, Tensor]:
        return self.deployed(framed)[0]

    def deployed(self, framed: Framed) -> tuple[dict[str, Tensor], DetrOutputs, Tensor]:
        """(detections of one image, the outputs behind them, their queries [n])."""
        out = self.run(framed.image, framed.padding, every_layer=False)
        scores_Q, labels_Q = out.logits[-1, 0].float().softmax(-1)[:, :-1].max(-1)
        query = dense_masks.ranked(scores_Q)[: self.max_detections]
        found = dense_masks.scaled(boxes.to_xyxy(out.boxes[-1, 0, query].float()), framed.original)
        found = boxes.clamp(found, framed.original)
        return {"boxes": found, "labels": labels_Q[query], "scores": scores_Q[query]}, out, query

    def network(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """The last layer's class logits [B,Q,C+1] and boxes [B,Q,4]."""
        out = self.run(images_BCHW, None, every_layer=False)
        return out.logits[-1], out.boxes[-1]

    def inspect(self, batch: Batch) -> dict[str, object]:
        """What explain views draw.

        class_probabilities [B,Q,C+1], the last one's being "no object" (no_object); boxes [B,Q,4] xyxy in pixels of
        each image on the canvas, layer_boxes [L,B,Q,4] those of every decoder layer; features: the backbone's maps;
        projected [B,D,h,w]: what the tokens are made of, position [B,D,h,w]: what is added to them; decoder_attention
        [L,B,heads,Q,h,w]: where each query looks, query_attention [B,Q,h,w]: in the last layer, mean over heads;
        encoder_attention [B,heads,T,h,w] of the last encoder layer: where each token looks. With targets also labels
        [N], target_boxes [N,4] xyxy, matching: for each image (queries, objects), objects counted over the batch, and
        costs: for each image the parts of what it is matched by, [Q,N]. predictions: those of `predict`.
        """
        views, out = self.inspect_with_outputs(batch)
        return views | {"predictions": self.read(out, batch)}

    def inspect_with_outputs(self, batch: Batch) -> tuple[dict[str, object], DetrOutputs]:
        """(the views of `inspect`, the outputs behind them, of every layer)."""
        encoder: Record = deque(maxlen=1)  # every layer's together may be gigabytes
        decoder: list[Tensor] = []
        out = self.run(batch.images, padding(batch), every_layer=True, encoder_record=encoder, decoder_record=decoder)
        scale = out.boxes.new_tensor([[w, h, w, h] for h, w in batch.sizes])
        layer_boxes = boxes.to_xyxy(out.boxes) * scale[:, None]
        padded = None if padding(batch) is None else shrink_padding(batch.padding, out.size)
        views: dict[str, object] = {
            "class_probabilities": out.logits[-1].softmax(-1),
            "no_object": True,
            "boxes": layer_boxes[-1],
            "layer_boxes": layer_boxes,
            "features": out.features,
            "projected": out.projected,
            "position": self.position(out.size, padded, batch.images.device).permute(0, 3, 1, 2),
            "decoder_attention": torch.stack(decoder).unflatten(-1, out.size),
            "query_attention": decoder[-1].mean(1).unflatten(-1, out.size),
        }
        if encoder:
            views["encoder_attention"] = encoder[-1].unflatten(-1, out.size)
        if batch.targets is not None:
            targets = self.targets(batch)
            last = dataclasses.replace(out, logits=out.logits[-1:], boxes=out.boxes[-1:])
            matching = self.match(last, targets, batch)
            of_object = torch.repeat_interleave(torch.tensor(targets.counts)).to(scale.device)
            views["labels"] = targets.labels
            views["target_boxes"] = boxes.to_xyxy(targets.boxes) * scale[of_object]
            views["matching"] = pairs_by_image(matching, 0, len(batch.images))
            views["costs"] = last_costs(set_loss.costs(last.logits, last.boxes, targets, self.loss))
        return views, out

    def paper_gflops(self) -> float:
        """Multiply-adds / 1e9 of convolutions and matrix products at 800×1130, as the paper's tables count them."""
        return count(self, DETR.network, PAPER_SIZE)


def padding(batch: Batch) -> Tensor | None:
    """The batch's padding, or None where every image fills the canvas: attention then needs no mask."""
    return None if all(size == tuple(batch.images.shape[2:]) for size in batch.sizes) else batch.padding
