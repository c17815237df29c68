"""DETR on box queries: the detector for little data, and what a MaskFormer on box queries adds its masks to.

Legend: B images, Q queries, L decoder layers, C classes.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from segcli.models.interface import Model
from segcli.models.layers import set_loss
from segcli.models.layers.box_queries import BoxQueries, Outputs
from segcli.models.layers.set_loss import Objects
from segcli.ops import boxes
from segcli.ops.preprocess import Preprocess
from segcli.types import Batch, Instances, Prediction, Target


class BoxDetector(Model):
    """backbone -> `levels` coarsest maps -> box queries. Predictions are (query, class) pairs; none is suppressed."""

    images_needed = 1_200  # by this project's own runs on small data (docs/little_data.md)

    def __init__(self, backbone: Any, head: BoxQueries, *, task: str, num_things: int):
        super().__init__()
        self.backbone, self.head = backbone, head
        self.levels = len(head.encoder.lateral)
        self.task, self.num_things = task, num_things
        self.sought = task  # the task whose segments the queries are to find
        self.preprocess = Preprocess(None, 320, "opencv", square=True)
        self.fields: dict[str, Any] = {}
        self.max_detections = 100
        self.queries = head.queries
        self.shares_counts = head.dense is not None  # the dense head's counts are known on the way alone

    @property
    def class_layers(self) -> tuple[str, ...]:
        return tuple(f"head.{part}" for part in self.head.class_layers)

    def objects(self, batch: Batch) -> Objects:
        """The labelled objects, their boxes as shares of the canvas."""
        assert batch.targets is not None
        canvas = (batch.images.shape[2], batch.images.shape[3])
        return set_loss.objects(
            batch.targets,
            self.sought,
            classes=self.head.num_classes,
            num_things=self.num_things,
            canvas=canvas,
            of_canvas=True,
        )

    def normalisers(self, batch: Batch) -> dict[str, float]:
        """What the losses are divided by; plain counts that ranks and accumulation steps may average."""
        return self.count(self.objects(batch))

    def count(self, wanted: Objects) -> dict[str, float]:
        return {"objects": float(sum(wanted.counts)), "images": float(len(wanted.counts))}

    def forward(self, batch: Batch, normalisers: dict[str, float] | None = None) -> dict[str, Tensor]:
        """Weighted losses. normalisers: averaged over ranks and accumulation steps; None: this batch's own."""
        features = self.backbone(batch.images)
        wanted = self.objects(batch)
        out = self.head(features[-self.levels :], batch, wanted)
        normalisers = normalisers or self.count(wanted)
        matching = self.head.match(out, wanted, batch.image_ids)
        losses = self.head.losses(
            out, wanted, matching, self.dense_targets(batch, wanted), batch.seeds, normalisers["objects"]
        )
        losses.update(self.more_losses(out, features, wanted, matching, batch, normalisers))
        return losses

    def dense_targets(self, batch: Batch, wanted: Objects) -> list[Target]:
        """What the dense head is to find: the batch's targets or, where queries look for stuff too, every segment."""
        assert batch.targets is not None
        if self.sought in ("detection", "instance"):
            return batch.targets
        height, width = batch.images.shape[2:]
        corners = boxes.to_xyxy(wanted.boxes) * wanted.boxes.new_tensor([width, height, width, height])
        split = zip(batch.targets, corners.split(wanted.counts), wanted.labels.split(wanted.counts), strict=True)
        return [dataclasses.replace(t, instances=Instances(box, label)) for t, box, label in split]

    def more_losses(
        self,
        out: Outputs,
        features: list[Tensor],
        wanted: Objects,
        matching: Any,
        batch: Batch,
        normalisers: dict[str, float],
    ) -> dict[str, Tensor]:
        """What a task beyond boxes adds."""
        return {}

    def predict(self, batch: Batch) -> list[Prediction]:
        """Detections on the original images' pixels, best first."""
        out = self.head(self.backbone(batch.images)[-self.levels :], batch)
        return [
            Prediction(batch.image_ids[i], original, self.detections(out, batch, i)[0])
            for i, original in enumerate(batch.original_sizes)
        ]

    def detections(self, out: Outputs, batch: Batch, i: int) -> tuple[Instances, Tensor]:
        """(image i's best (query, class) pairs among the things, on its original pixels; their queries [n])."""
        scores_QC = out.logits[-1, i].float().sigmoid()[:, : self.num_things]
        scores, at = scores_QC.flatten().topk(min(self.max_detections, scores_QC.numel()))
        query, label = at.div(scores_QC.shape[1], rounding_mode="floor"), at % scores_QC.shape[1]
        corners = self.pixels(out.boxes[-1, i][query], batch, i)
        return Instances(corners, label, scores).to("cpu"), query

    def pixels(self, boxes_N4: Tensor, batch: Batch, i: int) -> Tensor:
        """cxcywh as shares of the canvas -> xyxy on image i's original pixels, inside it."""
        (height, width), (h, w), original = batch.images.shape[2:], batch.sizes[i], batch.original_sizes[i]
        x, y = width / w * original[1], height / h * original[0]
        corners = boxes.to_xyxy(boxes_N4.float()) * boxes_N4.new_tensor([x, y, x, y], dtype=torch.float32)
        return boxes.clamp(corners, original)

    def network(self, images_BCHW: Tensor) -> tuple[Tensor, ...]:
        """The last layer's class logits [B,Q,C] (a sigmoid a class) and boxes [B,Q,4]."""
        out = self.head(self.backbone(images_BCHW)[-self.levels :], self.unpadded(images_BCHW))
        return out.logits[-1], out.boxes[-1]

    @staticmethod
    def unpadded(images_BCHW: Tensor) -> Batch:
        """A batch of images that fill the canvas."""
        count, size = len(images_BCHW), (images_BCHW.shape[2], images_BCHW.shape[3])
        padding = torch.zeros(count, *size, dtype=torch.bool, device=images_BCHW.device)
        return Batch(images_BCHW, padding, [size] * count, [size] * count, list(range(count)))

    def inspect(self, batch: Batch) -> dict[str, Any]:
        """What explain views draw.

        class_probabilities [B,Q,C]; boxes [L,B,Q,4] xyxy in pixels of the canvas, as the layers refine them; features:
        the backbone's maps; maps: the encoder's. With targets also labels [N], target_boxes [N,4] and matching: for
        each image (queries, objects), objects counted over the batch.
        """
        return self.look(batch)[0]

    def look(self, batch: Batch) -> tuple[dict[str, Any], Outputs]:
        """(what `inspect` gives, the outputs that it read)."""
        features = self.backbone(batch.images)
        out = self.head(features[-self.levels :], batch)
        height, width = batch.images.shape[2:]
        scale = out.boxes.new_tensor([width, height, width, height])
        found: dict[str, Any] = {
            "class_probabilities": out.logits[-1].sigmoid(),
            "boxes": boxes.to_xyxy(out.boxes) * scale,
            "features": features,
            "maps": out.maps,
        }
        if batch.targets is not None:
            wanted = self.objects(batch)
            matching = self.head.match(out, wanted, batch.image_ids)
            last = len(out.logits) - 1
            found["labels"], found["target_boxes"] = wanted.labels, boxes.to_xyxy(wanted.boxes) * scale
            found["matching"] = [matching.pairs(last, i) for i in range(len(batch.images))]
        return found, out
