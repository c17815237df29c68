"""MaskFormer for little data: mask classification whose queries are boxes (Li et al., "Mask DINO", 2023).

Segments are found and matched as boxes with a class; each query's mask is the product of its embedding with the pixels'
and a term of its box, cut off at the box. Stuff may have kernels in place of boxes (stuff_kernels.py).

Legend: B images, Q queries, L decoder layers, M matched pairs, K denoising pairs, C classes of queries, S of kernels.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.core import distributed
from segcli.core.errors import UsageError
from segcli.core.tasks import TASKS
from segcli.models import build_backbone
from segcli.models.interface import Backbone
from segcli.models.layers.box_detector import BoxDetector
from segcli.models.layers.box_queries import BoxOptions, BoxOutputs, BoxQueries
from segcli.models.layers.box_query_loss import BoxLoss
from segcli.models.layers.sampler import keyed_generator
from segcli.models.layers.set_model import only
from segcli.models.layers.targets import BoxTargets
from segcli.models.layers.transformer import TransformerSettings
from segcli.models.maskformer.box_masks import BoxMasks, sample_points
from segcli.models.maskformer.maskformer import DOES, check
from segcli.models.maskformer.point_loss import masks_at
from segcli.models.maskformer.stuff_kernels import StuffKernels
from segcli.ops import dense_masks, losses
from segcli.ops.mask_inference import Enlarge, instances_of, semantic_of
from segcli.ops.matcher import Matching
from segcli.ops.panoptic import panoptic_of
from segcli.ops.preprocess_graph import Framed
from segcli.types import Batch, Prediction


@dataclasses.dataclass(frozen=True)
class PointMaskLoss:
    """Section `model.loss` of maskformer_lite. class: weight of that loss (its matching cost has the fixed weight
    CLASS_COST of layers/box_query_loss.py); mask, dice: of the masks' cross-entropy and dice, at `points` sampled
    points a segment (Mask2Former), which have no matching cost."""

    class_: float = 1.0
    mask: float = 20.0
    dice: float = 1.0
    points: int = 256


@dataclasses.dataclass(frozen=True)
class Inference:
    """Section `model.inference` of maskformer_lite. outputs: which of semantic, instance, panoptic predict() gives
    (null: the task's own). score, overlap: panoptic thresholds; a score is an expected IoU."""

    outputs: list[Literal["semantic", "instance", "panoptic"]] | None = None
    score: float = 0.4
    overlap: float = 0.8


def build(
    *,
    task: str,
    num_classes: int,
    num_things: int,
    backbone: dict[str, object] | None = None,
    queries: int = 100,
    levels: int = 3,
    mask_dim: int | None = None,
    kernels: bool = False,
    transformer: TransformerSettings,
    boxes: BoxOptions,
    loss: PointMaskLoss,
    inference: Inference,
) -> "MaskFormerLite":
    """backbone: a ResNet-50 by default. queries: at most so many segments an image. levels: see model detr_lite.
    mask_dim: width of the pixel embeddings (null: the transformer's). kernels (K-Net), task panoptic: every stuff class
    has a mask embedding of its own, in place of queries with boxes.
    """
    classes, _ = check("maskformer_lite", task, num_classes, num_things, None, fixed=False)
    stuff = None
    if kernels:
        if not TASKS[task].panoptic:
            raise UsageError(f"model.kernels of maskformer_lite is for task panoptic, not {task}")
        if not 0 < num_things < num_classes:
            missing = "stuff" if num_things else "thing"
            raise UsageError(
                f"model.kernels needs things and stuff, and the dataset declares no {missing}",
                hint="leave model.kernels out",
            )
        classes, stuff = num_things, StuffKernels(num_things, num_classes - num_things, mask_dim or transformer.dim)
    body = build_backbone({"name": "resnet", **(backbone or {})})
    weights = BoxLoss(loss.class_)
    head = BoxQueries(body, levels, classes, queries=queries, transformer=transformer, options=boxes, loss=weights)
    masks = BoxMasks(body.channels[0], transformer.dim, mask_dim or transformer.dim)
    return MaskFormerLite(
        body, head, masks, task=task, num_things=num_things, loss=loss, inference=inference, stuff=stuff
    )


class MaskFormerLite(BoxDetector):
    """Tasks semantic, instance and panoptic from the same outputs; without `stuff` kernels, stuff has boxes, too."""

    def __init__(
        self,
        backbone: Backbone,
        head: BoxQueries,
        masks: BoxMasks,
        *,
        task: str,
        num_things: int,
        loss: PointMaskLoss,
        inference: Inference,
        stuff: StuffKernels | None = None,
    ):
        super().__init__(backbone, head, task=task, num_things=num_things)
        self.masks, self.stuff, self.loss, self.inference = masks, stuff, loss, inference
        self.outputs: Sequence[str] = inference.outputs or [task]
        if stuff is not None:
            self.target_task = "instance"

    @property
    def class_layers(self) -> tuple[str, ...]:
        return super().class_layers + (("stuff.kernels.",) if self.stuff is not None else ())

    def more_losses(
        self,
        out: BoxOutputs,
        features: list[Tensor],
        targets: BoxTargets,
        matching: Matching,
        batch: Batch,
        normalisers: dict[str, float],
    ) -> dict[str, Tensor]:
        """{"mask": binary cross-entropy, "dice"} of the matched pairs of every layer and of the last layer's noisy
        copies, at sampled points, and {"stuff"} of the kernels, weighed as the masks' cross-entropy."""
        pixels = self.masks.pixels(out.maps[0], features[0])
        groups = len(out.logits) // len(self.head.decoder.layers)
        hidden, boxes = matching.take(out.hidden), matching.take(out.boxes).detach()
        image, objects = matching.image, matching.object
        weight = hidden.new_full((len(hidden),), 1 / groups)
        if out.noise is not None and out.noisy is not None and out.noisy_hidden is not None:
            noise = out.noise
            hidden = torch.cat([hidden, out.noisy_hidden[noise.image, noise.query]])
            boxes = torch.cat([boxes, out.noisy[1][-1, noise.image, noise.query].detach()])
            image, objects = torch.cat([image, noise.image]), torch.cat([objects, noise.object])
            weight = torch.cat([weight, noise.share[noise.image, noise.query].to(weight)])
        points = boxes.new_zeros(len(boxes), self.loss.points, 2, dtype=targets.boxes.dtype)
        for i, seed in enumerate(batch.seeds or range(len(batch.images))):  # each image has draws of its own
            rows = (image == i).nonzero()[:, 0]
            generator = keyed_generator(seed, 37)
            points[rows] = sample_points(targets.boxes[objects[rows]], self.loss.points, generator)
        labels = masks_at(targets.masks, objects, points) if len(objects) else points.new_zeros(points.shape[:2])
        logits = self.masks.at_points(pixels, hidden, boxes, image, points).float()
        entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(-1)
        count = max(normalisers["objects"], 1 / distributed.parts())
        # without any pair the sums are 0 and reach no pixel: keep their gradients
        idle = pixels.sum() * 0
        by_name = {
            "mask": self.loss.mask * (entropy * weight).sum() / count + idle,
            "dice": self.loss.dice * (losses.dice(logits, labels) * weight).sum() / count,
        }
        if self.stuff is not None:
            assert batch.targets is not None
            canvas = (batch.images.shape[2], batch.images.shape[3])
            by_pixel = self.stuff.loss(self.stuff(pixels), batch.targets, canvas, normalisers["images"])
            by_name["stuff"] = self.loss.mask * by_pixel
        return by_name

    def predict(self, batch: Batch) -> list[Prediction]:
        """What `outputs` names, on the original images' pixels."""
        features = self.backbone(batch.images)
        out = self.head(features[-self.levels :], batch)
        pixels = self.masks.pixels(out.maps[0], features[0])
        return [self._read(out, pixels[i], batch, i, self.outputs) for i in range(len(batch.images))]

    def _read(self, out: BoxOutputs, pixels_EHW: Tensor, batch: Batch, i: int, outputs: Sequence[str]) -> Prediction:
        canvas = (batch.images.shape[2], batch.images.shape[3])
        enlarge = Enlarge(canvas, batch.sizes[i], batch.original_sizes[i], direct=True)
        p_QC = out.logits[-1, i].float().sigmoid()
        hidden, boxes = out.hidden[-1, i], out.boxes[-1, i]
        masks_of = lambda query: self.masks.inside(pixels_EHW, hidden[query], boxes[query]).float()
        prediction = Prediction(batch.image_ids[i], enlarge.original)
        stuff_S, maps_Shw = p_QC.new_zeros(0), pixels_EHW.new_zeros(0, *pixels_EHW.shape[1:])
        if self.stuff is not None:
            sides = zip(enlarge.content, pixels_EHW.shape[1:], canvas, strict=True)
            rows, columns = (-(-shown * cells // whole) for shown, cells, whole in sides)
            stuff_S, maps_Shw = self.stuff.read(self.stuff(pixels_EHW[None])[0], (rows, columns))
        if "semantic" in outputs:
            every = torch.cat([masks_of(slice(None)), maps_Shw])
            prediction.semantic = semantic_of(torch.block_diag(p_QC, torch.ones_like(stuff_S).diag()), every, enlarge)
        if "instance" in outputs:
            things, corners = p_QC[:, : self.num_things], self.pixels(boxes, batch, i)
            prediction.instances = instances_of(things, masks_of, enlarge, self.max_detections, corners)
        if "panoptic" in outputs:
            p, label = p_QC.max(-1)
            keep, present = p > self.inference.score, (stuff_S > self.inference.score).nonzero()[:, 0]
            prediction.panoptic = panoptic_of(
                torch.cat([p[keep], stuff_S[present]]),
                torch.cat([label[keep], self.num_things + present]),
                torch.cat([masks_of(keep), maps_Shw[present]]),
                enlarge,
                self.num_things,
                self.inference.overlap,
            )
        return prediction

    def deploy(self, framed: Framed) -> dict[str, Tensor]:
        found, features = self.deployed_outputs(framed)
        pixels_EHW = self.masks.pixels(found.maps[0], features[0])[0]
        p_QC, boxes_Q4 = found.logits[-1, 0].float().sigmoid(), found.boxes[-1, 0]
        masks_Qhw = self.masks.inside(pixels_EHW, found.hidden[-1, 0], boxes_Q4).float()
        stuff_S, maps_Shw = p_QC.new_zeros(0), masks_Qhw[:0]
        if self.stuff is not None:
            cells, canvas = pixels_EHW.shape[1:], framed.image.shape[2:]
            rows, columns = (torch.ceil(s * n / c) for s, n, c in zip(framed.content, cells, canvas, strict=True))
            stuff_S, maps_Shw = self.stuff.read(self.stuff(pixels_EHW[None])[0], (rows, columns))
        every, out = torch.cat([masks_Qhw, maps_Shw]), dict[str, Tensor]()
        if "semantic" in self.outputs:
            p = torch.block_diag(p_QC, torch.ones_like(stuff_S).diag())
            out["semantic"] = dense_masks.semantic(p, every, framed, direct=True)
        if "instance" in self.outputs:
            things, corners = p_QC[:, : self.num_things], self.deployed_boxes(found, framed)
            limit = self.max_detections
            out |= dense_masks.instances(things, masks_Qhw, framed, limit, direct=True, boxes_Q4=corners)
        if "panoptic" in self.outputs:
            p_Q, label_Q = p_QC.max(-1)
            p_Q, numbers = torch.cat([p_Q, stuff_S]), torch.arange(len(stuff_S), device=p_Q.device)
            label_Q = torch.cat([label_Q, self.num_things + numbers])
            rule = dense_masks.PanopticRule(self.num_things, self.inference.overlap, direct=True)
            keep_Q = p_Q > self.inference.score
            out |= dense_masks.panoptic(p_Q, label_Q, keep_Q, every, framed, rule)
        return out

    def network(self, images_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Class logits [B,Q,C] and mask logits [B,Q,H/4,W/4] of the last layer; the kernels' [B,S+1,H/4,W/4]."""
        features = self.backbone(images_BCHW)
        out = self.head(features[-self.levels :], self.unpadded(images_BCHW))
        pixels = self.masks.pixels(out.maps[0], features[0])
        drawn = [self.masks.inside(*row) for row in zip(pixels, out.hidden[-1], out.boxes[-1], strict=True)]
        more = () if self.stuff is None else (self.stuff(pixels),)
        return out.logits[-1], torch.stack(drawn), *more

    def inspect(self, batch: Batch) -> dict[str, object]:
        """The views of `BoxDetector.inspect`, and of the last layer pixels [B,E,h,w], mask_embeddings [B,Q,E],
        mask_logits [B,Q,h,w]; readings: `Prediction`s with all that these outputs can be read as; predictions: those of
        `predict`."""
        views, out, features = self.inspect_with_outputs(batch)
        pixels = self.masks.pixels(out.maps[0], features[0])
        views["pixels"], views["mask_embeddings"] = pixels, self.masks.code(out.hidden[-1])[0]
        views["mask_logits"] = torch.stack(
            [self.masks.inside(*row) for row in zip(pixels, out.hidden[-1], out.boxes[-1], strict=True)]
        )
        ways = list(dict.fromkeys([*self.outputs, *(DOES if self.num_things else ("semantic",))]))
        readings = [self._read(out, pixels[i], batch, i, ways) for i in range(len(batch.images))]
        return views | {"readings": readings, "predictions": [only(one, self.outputs) for one in readings]}
