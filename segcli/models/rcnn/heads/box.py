"""The box head of Faster R-CNN (Ren et al., 2015): class and refined box of every proposal. Equal to torchvision's."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import fastrcnn_loss

from segcli.core import distributed
from segcli.models.interface import Detections, RoIHead, Samples
from segcli.models.rcnn.pooler import Pooler, by_image
from segcli.ops.boxes import clamp
from segcli.ops.selection import select


def build(
    *,
    num_things: int,
    channels: int,
    strides: list[int],
    pooler: str = "roi_align",
    width: int = 1024,
    convolutions: int = 0,
    score: float = 0.05,
    nms: float | None = 0.5,
) -> RoIHead:
    """width: of the two fully connected layers. convolutions: 3×3 layers with batch norm before one of them (the v2
    models: 4). score: lowest score that is reported. nms: IoU above which the weaker box of a class goes; null keeps
    all.
    """
    return BoxHead(num_things, channels, Pooler(7, strides[:4], method=pooler), width, convolutions, score, nms)


class BoxHead(RoIHead):
    def __init__(
        self,
        num_things: int,
        channels: int,
        pooler: Pooler,
        width: int,
        convolutions: int,
        score: float,
        nms: float | None,
    ):
        super().__init__()
        self.pooler, self.score, self.nms = pooler, score, nms
        head: nn.Module = TwoMLPHead(channels * 7 * 7, width)
        if convolutions:
            head = FastRCNNConvFCHead((channels, 7, 7), [channels] * convolutions, [width], norm_layer=nn.BatchNorm2d)
        self.head = head
        self.predictor = FastRCNNPredictor(width, num_things + 1)
        self.coder = BoxCoder((10.0, 10.0, 5.0, 5.0))

    def loss(self, features: list[Tensor], samples: Samples) -> dict[str, Tensor]:
        """Softmax cross-entropy over C + 1 classes; smooth L1 (β = 1/9) on the deltas of the true class."""
        logits, deltas = self.predictor(self.head(self.pooler(features, samples.boxes)))
        delta_targets = self.coder.encode(samples.matched_boxes(), samples.boxes)
        classifier, box = fastrcnn_loss(logits, deltas, samples.labels, list(delta_targets))
        share = distributed.share(len(logits))
        return {"loss_classifier": classifier * share, "loss_box_reg": box * share}

    def detect(
        self,
        features: list[Tensor],
        proposals: list[Tensor],
        scores: list[Tensor],
        sizes: Sequence[tuple[int | Tensor, int | Tensor]],
        limit: int,
    ) -> list[Detections]:
        logits, deltas = self.predictor(self.head(self.pooler(features, proposals)))
        boxes = by_image(self.coder.decode_single(deltas, torch.cat(proposals)).reshape(*logits.shape, 4), proposals)
        probabilities = by_image(F.softmax(logits, -1), proposals)
        found = []
        for boxes_NC4, probability_NC, size in zip(boxes, probabilities, sizes, strict=True):
            chosen = clamp(boxes_NC4, size)[:, 1:]
            found.append(Detections(*select(chosen, probability_NC[:, 1:], self.score, self.nms, limit)))
        return found

    def count(self, features: list[Tensor], regions: int) -> None:
        self.predictor(self.head(self.pooler.fixed(features, regions)))
