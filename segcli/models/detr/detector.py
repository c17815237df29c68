"""DETR's detector (Carion et al., 2020).

backbone -> tokens with sine positions -> transformer encoder -> decoder of N learned queries, all at once -> for each
query a class (or "no object") and a box. Training matches queries and objects one to one.

Official parameter names: `backbone.0.body`, `transformer`, `class_embed`, `bbox_embed`, `query_embed`, `input_proj`.
Legend: B images, T = h·w tokens, Q queries, L decoder layers, D width, C classes.
"""

import copy
import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segcli.models.interface import Model
from segcli.models.layers import set_loss
from segcli.models.layers.mlp import MLP
from segcli.models.layers.position import SinePosition
from segcli.models.layers.set_loss import DetrLoss, Objects
from segcli.models.layers.transformer import Record, Transformer, attention_mask
from segcli.ops import boxes
from segcli.ops.detr_inference import detections
from segcli.ops.matcher import Matching
from segcli.ops.preprocess import Preprocess
from segcli.types import Batch, Prediction

PAPER_SIZE = (800, 1130)  # the mean size of COCO's images behind the paper's tables


@dataclasses.dataclass
class Outputs:
    """logits [L,B,Q,C+1] and boxes [L,B,Q,4] (cxcywh, shares of each image); what the mask head needs: queries [B,Q,D]
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

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        return self.body(x_BCHW)


class DETR(Model):
    """The detector. `forward` gives the losses, `run` the outputs of every decoder layer."""

    class_layers = ("class_embed.",)
    images_needed = 100_000  # by DETR's 150 epochs on COCO (Carion et al., 2020)
    lite = "detr_lite"

    def __init__(
        self,
        backbone: Any,
        transformer: Transformer,
        *,
        task: str,
        classes: int,
        num_things: int,
        queries: int,
        loss: DetrLoss,
    ):
        super().__init__()
        dim = transformer.decoder.norm.normalized_shape[0]
        self.transformer = transformer
        self.class_embed = nn.Linear(dim, classes + 1)
        self.bbox_embed = MLP(dim, dim, 4, 3)
        self.query_embed = nn.Embedding(queries, dim)
        self.input_proj = nn.Conv2d(backbone.channels[-1], dim, 1)
        self.backbone = nn.Sequential(Body(backbone))
        self.channels: list[int] = backbone.channels
        self.position = SinePosition(dim)
        self.task, self.classes, self.num_things = task, classes, num_things
        self.loss = loss
        self.preprocess = Preprocess(800, 1333, "pil", "nearest", divisor=1)
        self.fields: dict[str, Any] = {}
        self.max_detections = 100
        self.queries = queries

    def run(
        self,
        images_BCHW: Tensor,
        padding_BHW: Tensor | None,
        *,
        every_layer: bool,
        encoder_record: Record | None = None,
        decoder_record: Record | None = None,
    ) -> Outputs:
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
        logits, found = self.class_embed(read), self.bbox_embed(read).float().sigmoid()
        return Outputs(logits, found, hs_LBQD[-1], memory_BTD, size, mask, projected, features)

    def objects(self, batch: Batch) -> Objects:
        assert batch.targets is not None
        canvas = (batch.images.shape[2], batch.images.shape[3])
        return set_loss.objects(
            batch.targets, self.task, classes=self.classes, num_things=self.num_things, canvas=canvas
        )

    def match(self, out: Outputs, wanted: Objects, batch: Batch) -> Matching:
        return set_loss.match_objects(out.logits, out.boxes, wanted, self.loss, batch.image_ids)

    def normalisers(self, batch: Batch) -> dict[str, float]:
        """What `forward` divides the losses by; sums that ranks and accumulation steps may average and hand it."""
        return self.count(self.objects(batch))

    def count(self, wanted: Objects) -> dict[str, float]:
        return set_loss.normalisers(wanted.counts, self.query_embed.num_embeddings, self.loss.no_object)

    def losses(
        self, out: Outputs, wanted: Objects, matching: Matching, normalisers: dict[str, float]
    ) -> dict[str, Tensor]:
        """{"class", "l1", "giou"} of the last layer and, summed, {"…_aux"} of the earlier ones."""
        by_layer = set_loss.class_and_box_losses(out.logits, out.boxes, wanted, matching, self.loss, normalisers)
        losses = {name: value[-1] for name, value in by_layer.items()}
        if len(out.logits) > 1:
            losses.update({f"{name}_aux": value[:-1].sum() for name, value in by_layer.items()})
        return losses

    def forward(self, batch: Batch, normalisers: dict[str, float] | None = None) -> dict[str, Tensor]:
        """Weighted losses. normalisers: averaged over ranks and accumulation steps; None: this batch's own."""
        out = self.run(batch.images, padding(batch), every_layer=self.loss.auxiliary)
        wanted = self.objects(batch)
        return self.losses(out, wanted, self.match(out, wanted, batch), normalisers or self.count(wanted))

    def predict(self, batch: Batch) -> list[Prediction]:
        """Detections on the original images' pixels, best first: each query's best class, and no suppression."""
        out = self.run(batch.images, padding(batch), every_layer=False)
        return [
            Prediction(
                image_id, original, detections(out.logits[-1, i], out.boxes[-1, i], original, self.max_detections)[0]
            )
            for i, (image_id, original) in enumerate(zip(batch.image_ids, batch.original_sizes, strict=True))
        ]

    def network(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """The last layer's class logits [B,Q,C+1] and boxes [B,Q,4]."""
        out = self.run(images_BCHW, None, every_layer=False)
        return out.logits[-1], out.boxes[-1]

    def inspect(self, batch: Batch) -> dict[str, Any]:
        """What explain views draw.

        class_probabilities [B,Q,C+1]; boxes [B,Q,4] xyxy in pixels of each image on the canvas; features: the
        backbone's maps; decoder_attention [L,B,heads,Q,h,w]: where each query looks; encoder_attention [B,heads,T,h,w]
        of the last encoder layer: where each token looks. With targets also labels [N], target_boxes [N,4] xyxy and
        matching: for each image (queries, objects), objects counted over the batch.
        """
        return self.look(batch)[0]

    def look(self, batch: Batch) -> tuple[dict[str, Any], Outputs]:
        """(what `inspect` gives, the outputs that it read)."""
        encoder: list[Tensor] = []
        decoder: list[Tensor] = []
        out = self.run(batch.images, padding(batch), every_layer=False, encoder_record=encoder, decoder_record=decoder)
        scale = out.boxes.new_tensor([[w, h, w, h] for h, w in batch.sizes])
        found: dict[str, Any] = {
            "class_probabilities": out.logits[-1].softmax(-1),
            "boxes": boxes.to_xyxy(out.boxes[-1]) * scale[:, None],
            "features": out.features,
            "decoder_attention": torch.stack(decoder).unflatten(-1, out.size),
        }
        if encoder:
            found["encoder_attention"] = encoder[-1].unflatten(-1, out.size)
        if batch.targets is not None:
            wanted = self.objects(batch)
            matching = self.match(out, wanted, batch)
            of_object = torch.repeat_interleave(torch.tensor(wanted.counts)).to(scale.device)
            found["labels"] = wanted.labels
            found["target_boxes"] = boxes.to_xyxy(wanted.boxes) * scale[of_object]
            found["matching"] = [matching.pairs(0, i) for i in range(len(batch.images))]
        return found, out

    def paper_gflops(self) -> float:
        """Multiply-adds / 1e9 of convolutions and matrix products at 800×1130, as the paper's tables count them."""
        return gflops(self, lambda model, images: model.network(images))


def padding(batch: Batch) -> Tensor | None:
    """The batch's padding, or None where every image fills the canvas: attention then needs no mask."""
    return None if all(size == tuple(batch.images.shape[2:]) for size in batch.sizes) else batch.padding


def gflops(model: nn.Module, run: Any) -> float:
    """GFLOPs of `run(model, images)` on the meta device at the paper's size; 1 multiply-add = 1."""
    model = copy.deepcopy(model).eval().requires_grad_(False).to("meta")  # the counter follows gradients, if any
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run(model, torch.empty(1, 3, *PAPER_SIZE, device="meta"))
    return counter.get_total_flops() / 2e9
