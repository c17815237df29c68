"""DETR on box queries: the detector for little data, and the base of a MaskFormer on box queries.

Legend: B images, Q queries, L decoder layers, C classes.
"""

import dataclasses
from collections import deque

import torch
from torch import Tensor

from segcli.core.tasks import TASKS
from segcli.models.interface import Backbone
from segcli.models.layers import box_query_loss
from segcli.models.layers.box_queries import BoxOutputs, BoxQueries
from segcli.models.layers.set_model import SetModel, last_costs, pairs_by_image
from segcli.models.layers.targets import BoxTargets, Targets, box_targets
from segcli.models.layers.transformer import Record
from segcli.ops import boxes, dense_masks
from segcli.ops.matcher import Matching
from segcli.ops.preprocess import Preprocess
from segcli.ops.preprocess_graph import Framed
from segcli.types import Batch, Instances, Prediction, Target


class BoxDetector(SetModel):
    """backbone -> `levels` coarsest maps -> box queries. Predictions are (query, class) pairs; none is suppressed."""

    images_needed = 1_200  # by this project's own runs on small data (docs/little_data.md)

    def __init__(self, backbone: Backbone, head: BoxQueries, *, task: str, num_things: int):
        super().__init__(task, num_things, head.queries)
        self.backbone, self.head = backbone, head
        self.levels = len(head.encoder.lateral)
        self.target_task = task  # the task whose segments the queries are to find
        self.preprocess = Preprocess(None, 320, "opencv", square=True)
        self.shares_counts = head.dense is not None  # the dense head's counts are known on the way alone

    @property
    def class_layers(self) -> tuple[str, ...]:
        return tuple(f"head.{part}" for part in self.head.class_layers)

    def targets(self, batch: Batch) -> BoxTargets:
        """The labelled objects, their boxes as shares of the canvas."""
        given = {"classes": self.head.num_classes, "num_things": self.num_things}
        return box_targets(batch, self.target_task, of_canvas=True, **given)

    def match(self, out: BoxOutputs, targets: BoxTargets, batch: Batch) -> Matching:
        self.warn_of_many(targets, batch.image_ids)
        return self.head.match(out, targets, batch.image_ids)

    def count(self, targets: Targets) -> dict[str, float]:
        return {"objects": float(sum(targets.counts)), "images": float(len(targets.counts))}

    def forward(self, batch: Batch, normalisers: dict[str, float] | None = None) -> dict[str, Tensor]:
        """Weighted losses. normalisers: averaged over ranks and accumulation steps; None: this batch's own."""
        features = self.backbone(batch.images)
        targets = self.targets(batch)
        out = self.head(features[-self.levels :], batch, targets)
        normalisers = normalisers or self.count(targets)
        matching = self.match(out, targets, batch)
        losses = self.head.losses(
            out, targets, matching, self.dense_targets(batch, targets), batch.seeds, normalisers["objects"]
        )
        losses.update(self.more_losses(out, features, targets, matching, batch, normalisers))
        return losses

    def dense_targets(self, batch: Batch, targets: BoxTargets) -> list[Target]:
        """The dense head's targets: the batch's own or, where queries find stuff too, every segment."""
        assert batch.targets is not None
        if not TASKS[self.target_task].stuff:
            return batch.targets
        height, width = batch.images.shape[2:]
        corners = boxes.to_xyxy(targets.boxes) * targets.boxes.new_tensor([width, height, width, height])
        split = zip(batch.targets, corners.split(targets.counts), targets.labels.split(targets.counts), strict=True)
        return [dataclasses.replace(t, instances=Instances(box, label)) for t, box, label in split]

    def more_losses(
        self,
        out: BoxOutputs,
        features: list[Tensor],
        targets: BoxTargets,
        matching: Matching,
        batch: Batch,
        normalisers: dict[str, float],
    ) -> dict[str, Tensor]:
        """The losses of a task beyond boxes."""
        return {}

    def predict(self, batch: Batch) -> list[Prediction]:
        """Detections on the original images' pixels, best first."""
        return self.read(self.head(self.backbone(batch.images)[-self.levels :], batch), batch)

    def read(self, out: BoxOutputs, batch: Batch) -> list[Prediction]:
        """The detections of each image that the outputs hold."""
        return [
            Prediction(batch.image_ids[i], original, self.detections(out, batch, i)[0])
            for i, original in enumerate(batch.original_sizes)
        ]

    def deploy(self, framed: Framed) -> dict[str, Tensor]:
        out, _ = self.deployed_outputs(framed)
        scores_QC = out.logits[-1, 0].float().sigmoid()[:, : self.num_things]
        scores, at = scores_QC.flatten().topk(min(self.max_detections, scores_QC.numel()))
        query, label = at // scores_QC.shape[1], at % scores_QC.shape[1]
        return {"boxes": self.deployed_boxes(out, framed)[query], "labels": label, "scores": scores}

    def deployed_outputs(self, framed: Framed) -> tuple[BoxOutputs, list[Tensor]]:
        """(the outputs, the backbone's maps) of one image."""
        features = self.backbone(framed.image)
        canvas = (framed.image.shape[2], framed.image.shape[3])
        batch = Batch(framed.image, framed.padding, [canvas], [canvas], [0])
        return self.head.run(features[-self.levels :], batch, framed.padding), features

    def deployed_boxes(self, out: BoxOutputs, framed: Framed) -> Tensor:
        """xyxy of every query on the original pixels, [Q,4]."""
        canvas = framed.image.shape[2:]
        sides = [c * o / h for c, h, o in zip(canvas, framed.content, framed.original, strict=True)]
        return boxes.clamp(dense_masks.scaled(boxes.to_xyxy(out.boxes[-1, 0].float()), sides), framed.original)

    def detections(self, out: BoxOutputs, batch: Batch, i: int) -> tuple[Instances, Tensor]:
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

    def inspect(self, batch: Batch) -> dict[str, object]:
        """What explain views draw.

        class_probabilities [B,Q,C], each on its own (no_object: False); selected: whether queries are chosen in the
        image; boxes [B,Q,4] xyxy in pixels of the canvas, layer_boxes [L,B,Q,4] as the layers refine them; features:
        the backbone's maps; maps: the encoder's; encoder_attention [B,heads,T,h,w] of its last layer, where it has any;
        decoder_points, of every layer
        [B,Q,heads,S,P,3]: where each query reads the maps (x, y in pixels of the canvas) and with what weight, or,
        without deformable attention and with one map, query_attention [B,Q,h,w] of the last one, mean over heads. With
        targets also labels [N], target_boxes [N,4], matching: for each image (queries, objects), objects counted over
        the batch, and costs: for each image its parts, [Q,N]. predictions: those of `predict`.
        """
        views, out, _ = self.inspect_with_outputs(batch)
        return views | {"predictions": self.read(out, batch)}

    def inspect_with_outputs(self, batch: Batch) -> tuple[dict[str, object], BoxOutputs, list[Tensor]]:
        """(the views of `inspect`, the outputs and the features behind them)."""
        features = self.backbone(batch.images)
        encoder: Record = deque(maxlen=1)
        decoder: list[Tensor] = []
        out = self.head(features[-self.levels :], batch, record=decoder, encoder_record=encoder)
        height, width = batch.images.shape[2:]
        scale = out.boxes.new_tensor([width, height, width, height])
        layer_boxes = boxes.to_xyxy(out.boxes) * scale
        views: dict[str, object] = {
            "class_probabilities": out.logits[-1].sigmoid(),
            "no_object": False,
            "selected": self.head.options.selection,
            "boxes": layer_boxes[-1],
            "layer_boxes": layer_boxes,
            "features": features,
            "maps": out.maps,
        }
        if encoder:
            views["encoder_attention"] = encoder[-1].unflatten(-1, out.maps[-1].shape[2:])
        if self.head.options.deformable:
            views["decoder_points"] = [read * read.new_tensor([width, height, 1]) for read in decoder]
        elif self.levels == 1:
            views["query_attention"] = decoder[-1].mean(1).unflatten(-1, out.maps[0].shape[2:])
        if batch.targets is not None:
            targets = self.targets(batch)
            matching = self.match(out, targets, batch)
            last = len(out.logits) - 1
            views["labels"], views["target_boxes"] = targets.labels, boxes.to_xyxy(targets.boxes) * scale
            views["matching"] = pairs_by_image(matching, last, len(batch.images))
            views["costs"] = last_costs(box_query_loss.costs(out.logits, out.boxes, targets, self.head.loss))
        return views, out, features
