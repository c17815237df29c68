"""DETR (Carion et al., 2020): detection as set prediction, without proposals and without non-maximum suppression.

The detector is in models/detr/detector.py. With masks (tasks instance and panoptic): an attention map of each query
over the tokens, refined by a small convolutional head (models/detr/mask_head.py), trained with the detector or, as in
the paper, on a frozen one. Official parameter names; with masks the detector's are under `detr.`.

Legend: B images, Q queries, C classes, D width, M rows: any queries of any images.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.core.errors import UsageError
from segcli.core.tasks import TASKS
from segcli.models import build_backbone
from segcli.models.detr import set_loss
from segcli.models.detr.detector import DETR, PAPER_SIZE, DetrOutputs, padding
from segcli.models.detr.mask_head import AttentionMap, MaskHead
from segcli.models.detr.set_loss import DetrLoss
from segcli.models.interface import Model
from segcli.models.layers.flop_rule import count
from segcli.models.layers.task_check import check_task
from segcli.models.layers.transformer import Transformer, TransformerSettings
from segcli.ops.detr_inference import confident, detections, panoptic, to_rles
from segcli.ops.mask_inference import Enlarge
from segcli.ops.preprocess_graph import Framed
from segcli.types import Batch, Prediction

DOES = ("detection", "instance", "panoptic")
MasksOf = Callable[[int, Tensor], Tensor]  # (image of the batch, queries [n]) -> their mask logits [n,h,w]


@dataclasses.dataclass(frozen=True)
class Inference:
    """Section `model.inference` of detr. score: panoptic segments need a higher class probability (task panoptic
    alone reads it)."""

    score: float = 0.85


def build(
    *,
    task: str,
    num_classes: int,
    num_things: int,
    backbone: dict[str, object] | None = None,
    queries: int = 100,
    transformer: TransformerSettings,
    loss: DetrLoss,
    inference: Inference,
    stage: Literal["joint", "boxes", "masks"] = "joint",
) -> "DETR | DETRMasks":
    """backbone: a ResNet-50 by default (`dilate_last: 1` is DC5). queries: at most so many objects an image. stage:
    with masks, train all at once (joint), or as the paper does first `boxes` with an idle mask head, then `masks` on
    that frozen detector (from `init`).
    """
    classes = check_task("detr", DOES, task, num_classes=num_classes, num_things=num_things)
    if stage != "joint" and not TASKS[task].masks:
        raise UsageError(f"model.stage {stage} is for tasks with masks, and this one is detection")
    masks = TASKS[task].masks and stage != "boxes"
    detector = DETR(
        build_backbone({"name": "resnet", **(backbone or {})}, maps=None if masks else 1),
        Transformer(transformer),
        task=task,
        classes=classes,
        num_things=num_things,
        queries=queries,
        loss=loss,
    )
    return detector if not TASKS[task].masks else DETRMasks(detector, transformer.heads, stage, inference.score)


class DETRMasks(Model):
    """The detector with the mask head, for instances or, with stuff among the classes, panoptic segmentation."""

    class_layers = ("detr.class_embed.",)
    images_needed = DETR.images_needed

    def __init__(self, detr: DETR, heads: int, stage: str, score: float):
        super().__init__()
        if len(detr.channels) < 4:
            raise UsageError(
                f"DETR's masks need a backbone with four feature maps, and this one has {len(detr.channels)}",
                hint="task: detection, stage: joint, or another backbone",
            )
        dim = detr.query_embed.embedding_dim
        if dim % 128 or heads % 8:  # the mask head narrows to dim/16 channels, and its norms have eight groups
            raise UsageError(
                f"DETR's masks need model.transformer.dim to be a multiple of 128 and heads of 8, not {dim} and {heads}"
            )
        self.detr = detr
        self.bbox_attention = AttentionMap(dim, heads)
        self.mask_head = MaskHead(dim, heads, detr.channels[-2:-5:-1])
        self.stage, self.score, self.task = stage, score, detr.task
        for part, trained_in in [(detr, "boxes"), (self.bbox_attention, "masks"), (self.mask_head, "masks")]:
            if stage not in ("joint", trained_in):
                part.requires_grad_(False)
        self.preprocess, self.queries = detr.preprocess, detr.queries

    def masks(self, out: DetrOutputs, image_M: Tensor, query_M: Tensor) -> Tensor:
        """Mask logits [M,H/4,W/4] of any queries; in evaluation a few at a time."""
        attention = self.bbox_attention(out.queries, out.memory, out.size, out.mask)[image_M, query_M]
        sides = self.mask_head.sides(out.projected, out.features[-2:-5:-1])
        if torch.is_grad_enabled():
            return self.mask_head(sides, attention, image_M)
        parts = self.mask_head.chunks(len(image_M), sides)
        return torch.cat([self.mask_head(sides, attention[part], image_M[part]) for part in parts])

    def forward(self, batch: Batch, normalisers: dict[str, float] | None = None) -> dict[str, Tensor]:
        """The detector's losses and {"mask", "dice"} of the last layer's matched queries; one of both in stages."""
        detr = self.detr
        if self.stage == "boxes":
            return detr(batch, normalisers)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.stage == "joint"):
            out = detr.run(batch.images, padding(batch), every_layer=detr.loss.auxiliary and self.stage == "joint")
        targets = detr.targets(batch)
        matching = detr.match(out, targets, batch)
        normalisers = normalisers or detr.count(targets)
        losses = detr.losses(out, targets, matching, normalisers) if self.stage == "joint" else {}
        last = set_loss.last_layer(matching, len(out.logits))
        logits = self.masks(out, last.image, last.query)
        losses.update(set_loss.pair_mask_losses(logits, targets, last, detr.loss, normalisers))
        return losses

    def normalisers(self, batch: Batch) -> dict[str, float]:
        """See `DETR.normalisers`."""
        return self.detr.normalisers(batch)

    def predict(self, batch: Batch) -> list[Prediction]:
        """Instances with masks, or a panoptic map, on the original images' pixels."""
        out = self.detr.run(batch.images, padding(batch), every_layer=False)
        return self._read(out, batch, lambda i, query: self.masks(out, torch.full_like(query, i), query))

    def _read(self, out: DetrOutputs, batch: Batch, masks_of: MasksOf) -> list[Prediction]:
        canvas = (batch.images.shape[2], batch.images.shape[3])
        read = self._panoptic if TASKS[self.task].panoptic else self._instances
        return [
            read(out, i, image_id, Enlarge(canvas, size, original), masks_of)
            for i, (image_id, size, original) in enumerate(
                zip(batch.image_ids, batch.sizes, batch.original_sizes, strict=True)
            )
        ]

    def deploy(self, framed: Framed) -> dict[str, Tensor]:
        """Task instance; raises UsageError for task panoptic."""
        if TASKS[self.task].panoptic:
            raise UsageError(
                "DETR's panoptic maps can't be exported: small segments are dropped one after another, in a loop whose "
                "length the image decides",
                hint="train it for task instance, or a MaskFormer for task panoptic",
            )
        found, out, query = self.detr.deployed(framed)
        masks = self.masks(out, torch.zeros_like(query), query)
        canvas = framed.image.shape[2:]
        shown = F.interpolate(masks[None].float(), size=canvas, mode="bilinear", align_corners=False)[0] > 0
        rows, columns = (
            (torch.arange(n, device=shown.device) * (c / o)).floor().long()  # the nearest of F.interpolate
            for n, c, o in zip(framed.size, framed.content, framed.original, strict=True)
        )
        return {**found, "masks": shown.index_select(1, rows).index_select(2, columns)}

    def _instances(self, out: DetrOutputs, i: int, image_id: int, enlarge: Enlarge, masks_of: MasksOf) -> Prediction:
        instances, query = detections(out.logits[-1, i], out.boxes[-1, i], enlarge.original, self.max_detections)
        masks = to_rles(masks_of(i, query), enlarge)
        return Prediction(image_id, enlarge.original, dataclasses.replace(instances, masks=masks))

    def _panoptic(self, out: DetrOutputs, i: int, image_id: int, enlarge: Enlarge, masks_of: MasksOf) -> Prediction:
        query, scores, labels = confident(out.logits[-1, i], self.score)
        segments = panoptic(masks_of(i, query), scores, labels, enlarge, num_things=self.detr.num_things)
        return Prediction(image_id, enlarge.original, panoptic=segments)

    def trunk(self) -> nn.Module | None:
        return self.detr.trunk()

    def network(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The last layer's class logits [B,Q,C+1], boxes [B,Q,4] and mask logits [B,Q,h,w] of every query."""
        out = self.detr.run(images_BCHW, None, every_layer=False)
        return out.logits[-1], out.boxes[-1], self.every_mask(out)

    def every_mask(self, out: DetrOutputs) -> Tensor:
        """Mask logits [B,Q,H/4,W/4]."""
        images, queries = out.queries.shape[:2]
        rows = torch.arange(images * queries, device=out.queries.device)
        masks = self.masks(out, rows.div(queries, rounding_mode="floor"), rows % queries)
        return masks.unflatten(0, (images, queries))

    def inspect(self, batch: Batch) -> dict[str, object]:
        """The views of `DETR.inspect`, and mask_attention [B,Q,heads,h,w], mask_logits [B,Q,H/4,W/4] of all queries,
        from which predictions are read."""
        views, out = self.detr.inspect_with_outputs(batch)
        views["mask_attention"] = self.bbox_attention(out.queries, out.memory, out.size, out.mask)
        logits_BQhw = self.every_mask(out)
        read = self._read(out, batch, lambda i, query: logits_BQhw[i, query])
        return views | {"mask_logits": logits_BQhw, "predictions": read}

    def paper_gflops(self) -> float:
        """As `DETR.paper_gflops`; the mask head works by the official order, on all queries from its first layer on."""

        def plain(model: DETRMasks, images: Tensor) -> None:
            out = model.detr.run(images, None, every_layer=False)
            attention = model.bbox_attention(out.queries, out.memory, out.size, out.mask)
            model.mask_head.plain(out.projected, attention, out.features[-2:-5:-1])

        return count(self, plain, PAPER_SIZE)
