"""The lite mask head: Mask R-CNN's, on a narrow stride-4 map, with a loss and a score for few, small objects."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.core import distributed
from segcli.models.interface import Detections, Finished, RoIHead, Samples
from segcli.models.layers.pyramid import conv_norm
from segcli.models.rcnn.mask_targets import crop_targets
from segcli.models.rcnn.pooler import Pooler, by_image
from segcli.ops import dense_masks, losses
from segcli.ops.paste import paste_exact
from segcli.ops.preprocess_graph import Framed

LIMIT = 10  # positive samples an image: the head's time is proportional to it


def build(*, num_things: int, fine: int, pooler: str = "roi_align") -> RoIHead:
    """It is as wide as the fine map that it reads."""
    return LiteMaskHead(num_things, fine, Pooler(14, [4], method=pooler, aligned=True))


class LiteMaskHead(RoIHead):
    """Three 3×3 layers at 14×14, a transposed one to 28×28, one channel a class.

    - binary cross-entropy plus dice (Milletari et al., 2016): dice weighs thin objects like thick ones;
    - the detection's score is multiplied by the mean probability inside its mask, so that sure masks rank first
      (the idea of Mask Scoring R-CNN, Huang et al., 2019, without its extra branch).
    """

    slot = "mask"
    masks = True

    def __init__(self, num_things: int, channels: int, pooler: Pooler):
        super().__init__()
        self.pooler = pooler
        self.head = nn.Sequential(*(conv_norm(channels, channels) for _ in range(3)))
        self.up = nn.ConvTranspose2d(channels, channels, 2, 2)
        self.predictor = nn.Conv2d(channels, num_things, 1)

    def _run(self, pooled: Tensor) -> Tensor:
        return self.predictor(F.silu(self.up(self.head(pooled))))

    def loss(self, features: list[Tensor], samples: Samples) -> dict[str, Tensor]:
        positive = samples.positives(LIMIT)
        logits = self._run(self.pooler(features[:1], positive.boxes))
        share = distributed.share(len(logits))
        if not len(logits):
            return {"loss_mask": logits.sum() * 0, "loss_dice": logits.sum() * 0}
        mask_targets, label = crop_targets(positive, logits.shape[-1], aligned=True), torch.cat(positive.labels)
        chosen = logits[torch.arange(len(label), device=label.device), label - 1]
        entropy = F.binary_cross_entropy_with_logits(chosen, mask_targets)
        dice = losses.dice(chosen.flatten(1), mask_targets.flatten(1))
        return {"loss_mask": 4 * entropy * share, "loss_dice": 3 * dice.mean() * share}

    def predict(self, features: list[Tensor], detections: list[Detections]) -> None:
        """Adds `masks` [n,28,28] and the channels of all classes, and rescales the scores."""
        boxes = [d.boxes for d in detections]
        logits = self._run(self.pooler(features[:1], boxes))
        for found, logit in zip(detections, by_image(logits, boxes), strict=True):
            mask = logit[torch.arange(found.labels.shape[0], device=logit.device), found.labels].sigmoid()
            found.extra["mask_channels"], found.extra["masks"] = logit, mask
            inside = (mask > 0.5).float()
            sure = (mask * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1.0)
            found.extra["mask_quality"] = sure

    def finish(self, found: Detections, size: tuple[int, int], original: tuple[int, int]) -> Finished:
        masks = paste_exact(found.extra["masks"], found.boxes, size, original)
        return {"masks": masks, "scores": found.scores * found.extra["mask_quality"]}

    def deploy(self, found: Detections, framed: Framed) -> dict[str, Tensor]:
        masks = dense_masks.paste(found.extra["masks"], found.boxes, framed, exact=True)
        return {"masks": masks, "scores": found.scores * found.extra["mask_quality"]}

    def count(self, features: list[Tensor], regions: int) -> None:
        self._run(self.pooler.fixed(features[:1], regions))
