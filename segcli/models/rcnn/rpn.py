"""Faster R-CNN's region proposal network on torchvision's parts, with a sampler keyed by image."""

import dataclasses

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers
from torchvision.ops import nms

from segcli.core import distributed
from segcli.core.errors import UsageError
from segcli.models.layers.sampler import BalancedSampler
from segcli.ops.boxes import clamp
from segcli.ops.preprocess_graph import Framed
from segcli.types import Batch, Target

RATIOS = (0.5, 1.0, 2.0)


@dataclasses.dataclass(frozen=True)
class RPNSettings:
    """A recipe's section `model.rpn`. convolutions: layers before the outputs (2 in the v2 models). anchors: for each
    map of the pyramid, the pooled one included, the sides of its anchors in pixels of the canvas (null: one a map, 512
    on the last and half of the next one's on the others). candidates: kept a map before suppression, in training and
    at inference. score: lowest objectness of a proposal."""

    convolutions: int = 1
    anchors: list[list[float]] | None = None
    candidates: tuple[int, int] = (2000, 1000)
    score: float = 0.0

    def sides(self, strides: list[int]) -> list[list[float]]:
        """The anchors of maps with these strides. Raises UsageError where they are not as many lists of one length."""
        if self.anchors is None:
            return [[512.0 / 2**finer] for finer in reversed(range(len(strides)))]
        lengths = {len(sides) for sides in self.anchors}
        if len(self.anchors) != len(strides) or len(lengths) != 1 or not self.anchors[0]:
            raise UsageError(
                f"model.rpn.anchors has {len(self.anchors)} lists for the pyramid's {len(strides)} maps, or lists of "
                "unequal length",
                hint=f"as many sides for each of its strides {strides}",
            )
        return self.anchors


class RPN(RegionProposalNetwork):
    """Anchors on every level, objectness and box deltas for each, non-maximum suppression a level (Ren et al., 2015).

    Parameter names and numbers are torchvision's (`rpn.head.…`). strides: of the levels. proposals: kept an image
    after suppression, in training and at inference.
    """

    class_layers: tuple[str, ...] = ()

    def __init__(
        self,
        channels: int,
        strides: list[int],
        settings: RPNSettings,
        *,
        proposals: tuple[int, int] = (2000, 1000),
    ):
        anchors = settings.sides(strides)
        super().__init__(
            AnchorGenerator(tuple(tuple(sides) for sides in anchors), (RATIOS,) * len(anchors)),
            RPNHead(channels, len(RATIOS) * len(anchors[0]), conv_depth=settings.convolutions),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n=dict(zip(("training", "testing"), settings.candidates, strict=True)),
            post_nms_top_n=dict(zip(("training", "testing"), proposals, strict=True)),
            nms_thresh=0.7,
            score_thresh=settings.score,
        )
        self.fg_bg_sampler = BalancedSampler(256, 0.5, salt=1)

    def propose(self, batch: Batch, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
        """-> proposals [n,4] and their scores [n] an image, and the raw head outputs for inspection."""
        images = ImageList(batch.images, batch.sizes)
        objectness, deltas = self.head(features)
        anchors = self.anchor_generator(images, features)
        counts = [o[0].numel() for o in objectness]
        objectness_flat, deltas_flat = concat_box_prediction_layers(objectness, deltas)
        boxes = self.box_coder.decode(deltas_flat.detach(), anchors).view(len(anchors), -1, 4)
        kept, scores = self.filter_proposals(boxes, objectness_flat, batch.sizes, counts)
        raw = {"objectness": objectness_flat, "deltas": deltas_flat, "anchors": anchors}
        return kept, scores, raw

    def candidates(self, raw: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """(boxes [N,4] on the canvas, objectness [N] 0..1) of every anchor, an image: before any is suppressed."""
        anchors: list[Tensor] = raw["anchors"]  # type: ignore[assignment]
        boxes = self.box_coder.decode(raw["deltas"], anchors).view(len(anchors), -1, 4)
        return list(zip(boxes, raw["objectness"].view(len(anchors), -1).sigmoid(), strict=True))

    def deploy(self, framed: Framed, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """(proposals [n,4], scores [n]) of one image, as `filter_proposals` chooses them."""
        objectness, deltas = self.head(features)
        canvas = (framed.image.shape[2], framed.image.shape[3])
        [anchors] = self.anchor_generator(ImageList(framed.image, [canvas]), features)
        counts = [o[0].numel() for o in objectness]
        logits, deltas_flat = concat_box_prediction_layers(objectness, deltas)
        boxes = self.box_coder.decode(deltas_flat, [anchors]).view(-1, 4)
        kept, scores = [], []
        for box, logit in zip(boxes.split(counts), logits.flatten().split(counts), strict=True):
            best, at = logit.topk(min(self.pre_nms_top_n(), len(logit)))
            box, score = clamp(box[at], framed.content), best.sigmoid()
            good = ((box[:, 2:] - box[:, :2]) >= self.min_size).all(1) & (score >= self.score_thresh)
            box, score = box[good], score[good]
            keep = nms(box, score, self.nms_thresh)
            kept.append(box[keep])
            scores.append(score[keep])
        score = torch.cat(scores)
        order = score.argsort(descending=True)[: self.post_nms_top_n()]
        return torch.cat(kept)[order], score[order]

    def loss(self, raw: dict[str, Tensor], targets: list[Target], seeds: list[int]) -> dict[str, Tensor]:
        """Binary cross-entropy on 256 drawn anchors an image, smooth L1 (β = 1/9) on the positive ones."""
        self.fg_bg_sampler.seeds = seeds
        anchors: list[Tensor] = raw["anchors"]  # type: ignore[assignment]
        labels, matched = self.assign_targets_to_anchors(anchors, [_real(t) for t in targets])
        delta_targets = self.box_coder.encode(matched, anchors)
        objectness, box = self.compute_loss(raw["objectness"], raw["deltas"], labels, delta_targets)
        share = distributed.share(self.fg_bg_sampler.drawn)
        return {"loss_objectness": objectness * share, "loss_rpn_box_reg": box * share}

    def count(self, features: list[Tensor]) -> None:
        self.head(features)


def _real(target: Target) -> dict[str, Tensor]:
    boxes, crowd = target.instances.boxes, target.instances.crowd
    return {"boxes": boxes if crowd is None else boxes[~crowd]}
