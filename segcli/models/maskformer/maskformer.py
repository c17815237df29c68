"""MaskFormer (Cheng et al., 2021): semantic, instance and panoptic segmentation as one problem, mask classification.

backbone -> pixel decoder -> an embedding for every pixel; the coarsest map and N learned queries -> transformer decoder
-> for each query a class (or "no object") and a mask embedding, whose product with the pixel embeddings is its mask.
Training matches queries and labelled segments one to one. All three tasks read the same outputs.

B images, Q queries, L decoder layers, C channels, M matched pairs, N segments of the batch; h w the masks' size (a
quarter of the canvas). Parameter names are the official ones but for a ResNet's (weights/detectron2_resnet.py).
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from segcli.core.errors import UsageError
from segcli.core.tasks import TASKS
from segcli.models import build_backbone
from segcli.models.interface import Backbone
from segcli.models.layers.flop_rule import count
from segcli.models.layers.mask_predictor import MaskPredictor
from segcli.models.layers.pixel_decoder import FpnPixelDecoder, SegmentationHead, TransformerPixelDecoder
from segcli.models.layers.set_model import SetModel, last_and_earlier, last_costs, only, pairs_by_image
from segcli.models.layers.targets import Targets, normalisers, segment_targets
from segcli.models.layers.task_check import check_task
from segcli.models.layers.transformer import TransformerSettings
from segcli.models.maskformer.mask_set_loss import (
    MaskLoss,
    MaskOutputs,
    match_segments,
    pair_losses,
    segment_costs,
    set_losses,
)
from segcli.models.maskformer.masked_decoder import MaskedPredictor
from segcli.models.maskformer.point_loss import losses_at_points, match_at_points
from segcli.ops import dense_masks, mask_inference
from segcli.ops.mask_inference import Enlarge
from segcli.ops.matcher import Matching, fixed
from segcli.ops.panoptic import panoptic
from segcli.ops.preprocess import Preprocess
from segcli.ops.preprocess_graph import Framed
from segcli.types import Batch, Prediction

DOES = ("semantic", "instance", "panoptic")


@dataclasses.dataclass(frozen=True)
class Inference:
    """Section `model.inference`. outputs: which of semantic, instance, panoptic predict() gives (null: the task's own).
    upsampling: official (masks to the input's size, there combined, then to the original's), or direct (one step;
    semantic scores combined at stride 4, a sixteenth of the work). score, overlap: panoptic thresholds."""

    outputs: list[Literal["semantic", "instance", "panoptic"]] | None = None
    upsampling: Literal["official", "direct"] = "official"
    score: float = 0.8
    overlap: float = 0.8


def build(
    *,
    task: str,
    num_classes: int,
    num_things: int,
    backbone: dict[str, object] | None = None,
    pixel_decoder: Literal["fpn", "transformer"] = "fpn",
    queries: int | None = None,
    mask_dim: int | None = None,
    matching: Literal["bipartite", "fixed"] = "bipartite",
    divisor: int | None = None,
    transformer: TransformerSettings,
    loss: MaskLoss,
    inference: Inference,
) -> "MaskFormer":
    """backbone: a ResNet-50 by default. pixel_decoder: transformer (the papers' COCO ResNets), or fpn, on which
    transformer.encoder_layers has no effect. queries: at most so many segments an image (null: 100; one a class with
    matching fixed). mask_dim: width of the pixel embeddings (null: the transformer's). matching: fixed (an ablation of
    MaskFormer's paper; task semantic): query i learns class i, none is matched. divisor: images are padded to multiples
    of it, 1: not at all (null: 32 for task semantic, 1 for the others, as on COCO; the paper's ADE20K panoptic has 32).
    """
    fixed = matching == "fixed"
    classes, queries = check("maskformer", task, num_classes, num_things, queries, fixed)
    body, pixels = build_pixel_decoder(backbone, pixel_decoder, mask_dim or transformer.dim, transformer)
    project = pixel_decoder == "fpn"
    predictor = MaskPredictor(
        pixels.memory_channels, queries, transformer, classes=classes, project=project, mask_dim=mask_dim
    )
    counts = {"num_classes": classes, "num_things": num_things}
    return MaskFormer(
        body, pixels, predictor, task=task, **counts, loss=loss, inference=inference, fixed=fixed, divisor=divisor
    )


def check(
    model: str, task: str, num_classes: int, num_things: int, queries: int | None, fixed: bool
) -> tuple[int, int]:
    """(classes, queries) of a model of this family. Raises UsageError for a task or a dataset that it does not fit."""
    classes = check_task(model, DOES, task, num_classes=num_classes, num_things=num_things)
    if fixed and TASKS[task].things:
        raise UsageError("model.matching: fixed is for task semantic")
    if fixed and queries is not None:
        raise UsageError("model.matching: fixed has a query for each class", hint="leave model.queries out, or null")
    return classes, num_classes if fixed else 100 if queries is None else queries


def build_pixel_decoder(
    backbone: dict[str, object] | None, kind: str, mask_dim: int, transformer: TransformerSettings
) -> tuple[Backbone, FpnPixelDecoder]:
    """(the backbone, by default a ResNet-50 without frozen stages, the pixel decoder of that kind on its maps)."""
    settings = backbone or {}
    if settings.get("name", "resnet") == "resnet":
        settings = {"name": "resnet", "frozen_stages": 0, **settings}
    body = build_backbone(settings)
    if kind == "transformer":
        return body, TransformerPixelDecoder(body.channels, mask_dim, transformer)
    return body, FpnPixelDecoder(body.channels, transformer.dim, mask_dim)


class MaskFormer(SetModel):
    """`backbone`, `sem_seg_head.pixel_decoder`, `sem_seg_head.predictor`."""

    class_layers: tuple[str, ...] = ("sem_seg_head.predictor.class_embed.",)
    images_needed = 100_000  # as DETR: by its 150 epochs on COCO (Carion et al., 2020)
    lite: str | None = "maskformer_lite"
    queries: int

    def __init__(
        self,
        backbone: Backbone,
        pixel_decoder: FpnPixelDecoder,
        predictor: MaskPredictor | MaskedPredictor,
        *,
        task: str,
        num_classes: int,
        num_things: int,
        loss: MaskLoss,
        inference: Inference,
        fixed: bool,
        divisor: int | None = None,
    ):
        super().__init__(task, num_things, predictor.num_queries)
        self.backbone = backbone
        self.sem_seg_head = SegmentationHead(pixel_decoder, predictor)
        self.num_classes = num_classes
        self.loss, self.inference, self.fixed = loss, inference, fixed
        self.outputs: Sequence[str] = inference.outputs or [task]
        if fixed:  # each of its queries is a class
            self.class_layers += tuple(
                f"sem_seg_head.predictor.{name}" for name in ("query_embed.", "query_feat.", "kernels")
            )
        if not TASKS[task].things:
            self.preprocess = Preprocess(512, 2048, "detectron2", "nearest", divisor=divisor or 32)
        else:
            self.preprocess = Preprocess(800, 1333, "detectron2", "centre", divisor=divisor or 1)

    def run(self, images_BCHW: Tensor) -> MaskOutputs:
        """The outputs of every decoder layer."""
        return self.decode(self.backbone(images_BCHW))[0]

    def decode(
        self, features: list[Tensor], record: list[Tensor] | None = None
    ) -> tuple[MaskOutputs, list[Tensor], list[Tensor]]:
        """(the outputs, the maps that the layers attend to in turn, the pixel decoder's from coarse to fine). record
        receives each layer's attention."""
        pixels_BChw, memory_BCHW, maps = self.sem_seg_head.pixel_decoder(features)
        logits_LBQC, embeddings_LBQC = self.sem_seg_head.predictor(memory_BCHW, record)
        return MaskOutputs(logits_LBQC, embeddings_LBQC, pixels_BChw), [memory_BCHW], maps

    def network(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """The last layer's class logits [B,Q,C+1] and mask logits [B,Q,h,w]."""
        out = self.run(images_BCHW)
        return out.logits[-1], mask_logits(out)

    def forward(self, batch: Batch, normalisers: dict[str, float] | None = None) -> dict[str, Tensor]:
        """Weighted losses {"class", "mask", "dice"} of the last layer and, summed, {"…_aux"} of the earlier ones.

        normalisers: counts averaged over ranks and accumulation steps; None: this batch's own.
        """
        out = self.run(batch.images)
        out = out if self.loss.auxiliary else out.last()
        targets = self.targets(batch)
        matching = self.match(out, targets, batch)
        if self.loss.points is None:
            pairs = pair_losses(out, targets, matching)
        else:
            pairs = losses_at_points(out, targets, matching, self.loss.points, batch.seeds)
        by_layer = set_losses(out, targets, matching, self.loss, normalisers or self.count(targets), pairs)
        return last_and_earlier(by_layer, self.loss.auxiliary)

    def match(self, out: MaskOutputs, targets: Targets, batch: Batch) -> Matching:
        """One-to-one pairs of every layer, by class and mask or, with `fixed`, by class alone."""
        self.warn_of_many(targets, batch.image_ids)
        if self.fixed:
            return fixed(targets.labels, targets.counts, len(out.logits), self.queries, batch.image_ids)
        if self.loss.points is None:
            return match_segments(out, targets, self.loss, batch.image_ids)
        return match_at_points(out, targets, self.loss, self.loss.points, batch.image_ids, batch.seeds)

    def targets(self, batch: Batch) -> Targets:
        return segment_targets(batch, self.task, self.num_things)

    def count(self, targets: Targets) -> dict[str, float]:
        return normalisers(targets.counts, self.queries, self.loss.no_object)

    def predict(self, batch: Batch) -> list[Prediction]:
        """What `outputs` names, on the original images' pixels."""
        return self._read_all(*self.network(batch.images), batch, self.outputs)

    def _read_all(
        self, logits_BQC: Tensor, masks_BQhw: Tensor, batch: Batch, outputs: Sequence[str]
    ) -> list[Prediction]:
        direct = self.inference.upsampling == "direct"
        canvas = (batch.images.shape[2], batch.images.shape[3])
        return [
            self._read(logits_BQC[i], masks_BQhw[i], Enlarge(canvas, size, original, direct), image_id, outputs)
            for i, (size, original, image_id) in enumerate(
                zip(batch.sizes, batch.original_sizes, batch.image_ids, strict=True)
            )
        ]

    def _read(
        self, logits_QC: Tensor, masks_Qhw: Tensor, enlarge: Enlarge, image_id: int, outputs: Sequence[str]
    ) -> Prediction:
        out = Prediction(image_id, enlarge.original)
        if "semantic" in outputs:
            out.semantic = mask_inference.semantic(logits_QC, masks_Qhw, enlarge)
        if "instance" in outputs:
            out.instances = mask_inference.instances(
                logits_QC, masks_Qhw, enlarge, classes=self.num_things, limit=self.max_detections
            )
        if "panoptic" in outputs:
            rule, things = self.inference, self.num_things
            out.panoptic = panoptic(
                logits_QC, masks_Qhw, enlarge, num_things=things, score=rule.score, overlap=rule.overlap
            )
        return out

    def deploy(self, framed: Framed) -> dict[str, Tensor]:
        logits_1QC, masks_1Qhw = self.network(framed.image)
        p_QC, masks_Qhw = logits_1QC[0].float().softmax(-1), masks_1Qhw[0]
        direct, out = self.inference.upsampling == "direct", dict[str, Tensor]()
        if "semantic" in self.outputs:
            out["semantic"] = dense_masks.semantic(p_QC[:, :-1], masks_Qhw, framed, direct=direct)
        if "instance" in self.outputs:
            things = p_QC[:, : self.num_things]
            out |= dense_masks.instances(things, masks_Qhw, framed, self.max_detections, direct=direct)
        if "panoptic" in self.outputs:
            p_Q, label_Q = p_QC.max(-1)
            keep_Q = (label_Q != p_QC.shape[-1] - 1) & (p_Q > self.inference.score)
            rule = dense_masks.PanopticRule(self.num_things, self.inference.overlap, direct)
            out |= dense_masks.panoptic(p_Q, label_Q, keep_Q, masks_Qhw, framed, rule)
        return out

    def inspect(self, batch: Batch) -> dict[str, object]:
        """What explain views draw.

        features: the backbone's maps; pixel_decoder_maps: the pixel decoder's, coarse to fine; pixels [B,C,h,w];
        class_probabilities [B,Q,C+1], the last one's being "no object" (no_object); mask_embeddings [B,Q,C];
        mask_logits [B,Q,h,w]; attention, of every decoder layer: [B,Q,H,W] on the map that it attends to, mean over
        heads, and query_attention, that of the last one; readings: `Prediction`s with all that these outputs can be
        read as; predictions: those of `predict`. With targets also labels [N], masks [N,H,W], matching: for each image
        (queries, segments), segments counted over the batch, and, where whole masks are matched, costs: for each image
        its parts, [Q,N]."""
        features = self.backbone(batch.images)
        record: list[Tensor] = []
        out, maps, every_map = self.decode(features, record)
        attention = [weights.mean(1).unflatten(-1, maps[i % len(maps)].shape[2:]) for i, weights in enumerate(record)]
        masks_BQhw = mask_logits(out)
        views: dict[str, object] = {
            "features": features,
            "pixel_decoder_maps": every_map,
            "pixels": out.pixels,
            "class_probabilities": out.logits[-1].softmax(-1),
            "no_object": True,
            "mask_embeddings": out.embeddings[-1],
            "mask_logits": masks_BQhw,
            "attention": attention,
            "query_attention": attention[-1],
        }
        ways = list(dict.fromkeys([*self.outputs, *(DOES if self.num_things else ("semantic",))]))
        readings = self._read_all(out.logits[-1], masks_BQhw, batch, ways)
        views["readings"] = readings
        views["predictions"] = [only(one, self.outputs) for one in readings]
        if batch.targets is not None:
            targets = self.targets(batch)
            matching = self.match(out.last(), targets, batch)
            views["labels"], views["masks"] = targets.labels, targets.masks
            views["matching"] = pairs_by_image(matching, 0, len(batch.images))
            if not self.fixed and self.loss.points is None:
                views["costs"] = last_costs(segment_costs(out.last(), targets, self.loss))
        return views

    def paper_gflops(self, size: tuple[int, int] | None = None) -> float:
        """Multiply-adds / 1e9 as the paper's tables count them.

        Semantic (table 1): on a square of the input's short side (the training crop), with the sum over queries that
        makes the semantic map. Otherwise (table 3): on 800×1130, the mean size of COCO's images, with the mask product
        of every decoder layer.
        """
        side = self.preprocess.shortest or self.preprocess.longest
        semantic = not TASKS[self.task].things
        size = size or ((side, side) if semantic else (800, 1130))
        total = count(self, MaskFormer.network, size, fvcore=True)
        predictor = self.sem_seg_head.predictor
        assert isinstance(predictor, MaskPredictor | MaskedPredictor)
        if semantic:
            return total + self.queries * self.num_classes * size[0] * size[1] / 1e9
        pixels = -(-size[0] // 4) * -(-size[1] // 4)
        return total + (predictor.num_layers - 1) * self.queries * predictor.dim * pixels / 1e9


def mask_logits(out: MaskOutputs) -> Tensor:
    """[B,Q,h,w]: the dot product of the last layer's mask embeddings with the pixel embeddings."""
    return torch.einsum("bqc,bchw->bqhw", out.embeddings[-1], out.pixels)
