"""The lite box head: one box for all classes, scores that say how good the box is."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.ops import generalized_box_iou_loss

from segcli.core import distributed
from segcli.models.interface import Detections, RoIHead, Samples
from segcli.models.rcnn.pooler import Pooler, by_image
from segcli.ops import boxes as ops_boxes
from segcli.ops.selection import select


def build(
    *,
    num_things: int,
    channels: int,
    strides: list[int],
    pooler: str = "roi_align",
    width: int = 384,
    score: float = 0.02,
    nms: float | None = 0.5,
) -> RoIHead:
    """width: of the two fully connected layers. score: lowest score that is reported. nms: IoU above which the weaker
    box of a class goes; null keeps all.
    """
    pool = Pooler(7, strides[1:], method=pooler, aligned=True, canonical=112.0)
    return IoUBoxHead(num_things, channels, pool, width, score, nms)


class IoUBoxHead(RoIHead):
    """Differs from Mask R-CNN's box head in what it learns, for fast convergence on little data:

    - sigmoid per class whose target is the IoU of the refined box (Zhang et al., "VarifocalNet", 2021), not 0/1: the
      ranking that AP measures is trained directly;
    - one class-agnostic refinement with a GIoU loss (Rezatofighi et al., 2019);
    - the final score is the geometric mean with the proposal's own for the class (Zhou et al., 2021).
    """

    slot = "box"
    class_layers = ("classes.",)

    def __init__(self, num_things: int, channels: int, pooler: Pooler, width: int, score: float, nms: float | None):
        super().__init__()
        self.pooler, self.score, self.nms = pooler, score, nms
        self.head = TwoMLPHead(channels * pooler.size**2, width)
        self.classes = nn.Linear(width, num_things)
        self.refine = nn.Linear(width, 4)
        self.coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        nn.init.constant_(self.classes.bias, -2.0)
        nn.init.normal_(self.refine.weight, std=0.001)
        nn.init.zeros_(self.refine.bias)

    def _run(self, features: list[Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        x = self.head(self.pooler(features[1:], boxes))
        return self.classes(x), self.coder.decode_single(self.refine(x), torch.cat(boxes))

    def loss(self, features: list[Tensor], samples: Samples) -> dict[str, Tensor]:
        logits_KC, refined_K4 = self._run(features, samples.boxes)
        label_K, target_K4 = torch.cat(samples.labels), torch.cat(samples.matched_boxes())
        at = torch.where(label_K > 0)[0]
        target_KC = torch.zeros_like(logits_KC)
        if len(at):
            quality = ops_boxes.iou(refined_K4[at].detach(), target_K4[at])
            target_KC[at, label_K[at] - 1] = quality.clamp(min=0.01)
        total, share = distributed.mean(target_KC.sum(), least=1.0), distributed.share(len(at))
        importance = torch.where(target_KC > 0, torch.ones_like(target_KC), 0.75 * logits_KC.detach().sigmoid() ** 1.5)
        entropy = F.binary_cross_entropy_with_logits(logits_KC, target_KC, reduction="none")
        losses = {"loss_classifier": (entropy * importance).sum() / total}
        if not len(at):
            return {**losses, "loss_box": refined_K4.sum() * 0}
        giou = generalized_box_iou_loss(refined_K4[at], target_K4[at]).mean()
        side = (target_K4[at, 2:] - target_K4[at, :2]).mean(1, keepdim=True).clamp(min=8.0)
        l1 = ((refined_K4[at] - target_K4[at]).abs() / side).clamp(max=4.0).sum(1).mean()
        return {**losses, "loss_box": (2 * giou + l1) * share}

    def detect(
        self,
        features: list[Tensor],
        proposals: list[Tensor],
        scores: list[Tensor],
        sizes: Sequence[tuple[int | Tensor, int | Tensor]],
        limit: int,
    ) -> list[Detections]:
        logits, refined = self._run(features, proposals)
        found = []
        for logit_NC, box_N4, score_NC, size in zip(
            by_image(logits, proposals), by_image(refined, proposals), scores, sizes, strict=True
        ):
            final = (logit_NC.sigmoid() * score_NC).sqrt()
            boxes = ops_boxes.clamp(box_N4, size)[:, None]
            found.append(Detections(*select(boxes, final, self.score, self.nms, limit)))
        return found

    def count(self, features: list[Tensor], regions: int) -> None:
        x = self.head(self.pooler.fixed(features[1:], regions))
        self.classes(x)
        self.refine(x)
