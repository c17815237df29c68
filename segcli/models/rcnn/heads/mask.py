"""The mask head of Mask R-CNN (He et al., 2017): a small FCN with one foreground/background channel a class."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from segcli.core import distributed
from segcli.models.interface import Detections, Finished, RoIHead, Samples
from segcli.models.rcnn.mask_targets import crop_targets
from segcli.models.rcnn.pooler import Pooler, by_image
from segcli.ops import dense_masks
from segcli.ops.paste import paste_masks
from segcli.ops.preprocess_graph import Framed


def build(
    *,
    num_things: int,
    channels: int,
    strides: list[int],
    pooler: str = "roi_align",
    width: int = 256,
    convolutions: int = 4,
    norm: bool = False,
) -> RoIHead:
    """width, convolutions: the 3×3 layers at 14×14 before the transposed one. norm: batch norm in them (v2 models)."""
    return MaskHead(num_things, channels, Pooler(14, strides[:4], method=pooler), width, convolutions, norm)


class MaskHead(RoIHead):
    """14×14 RoIAlign -> convolutions -> transposed convolution to 28×28 -> C channels, each an independent sigmoid.

    Classes do not compete: the box head names the class, and only that class's channel is trained and read.
    """

    masks = True
    class_layers = ("predictor.mask_fcn_logits.",)

    def __init__(self, num_things: int, channels: int, pooler: Pooler, width: int, convolutions: int, norm: bool):
        super().__init__()
        self.pooler = pooler
        self.head = MaskRCNNHeads(channels, [width] * convolutions, 1, nn.BatchNorm2d if norm else None)
        self.predictor = MaskRCNNPredictor(width, width, num_things + 1)

    def loss(self, features: list[Tensor], samples: Samples) -> dict[str, Tensor]:
        """Mean binary cross-entropy of the true class's channel over all pixels of all positive samples."""
        positive = samples.positives()
        logits = self.predictor(self.head(self.pooler(features, positive.boxes)))
        mask_targets, labels = crop_targets(positive, logits.shape[-1]), torch.cat(positive.labels)
        share = distributed.share(len(mask_targets))
        if not len(mask_targets):
            return {"loss_mask": logits.sum() * 0}
        chosen = logits[torch.arange(len(labels), device=labels.device), labels]
        return {"loss_mask": F.binary_cross_entropy_with_logits(chosen, mask_targets) * share}

    def predict(self, features: list[Tensor], detections: list[Detections]) -> None:
        """Adds `masks` [n,28,28], the probability of the detected class's channel."""
        boxes = [d.boxes for d in detections]
        logits = self.predictor(self.head(self.pooler(features, boxes)))
        for found, logit in zip(detections, by_image(logits, boxes), strict=True):
            at = torch.arange(found.labels.shape[0], device=logit.device)
            found.extra["mask_channels"] = logit
            found.extra["masks"] = logit[at, found.labels + 1].sigmoid()

    def finish(self, found: Detections, size: tuple[int, int], original: tuple[int, int]) -> Finished:
        return {"masks": paste_masks(found.extra["masks"], found.boxes, size, original)}

    def deploy(self, found: Detections, framed: Framed) -> dict[str, Tensor]:
        return {"masks": dense_masks.paste(found.extra["masks"], found.boxes, framed, exact=False)}

    def count(self, features: list[Tensor], regions: int) -> None:
        self.predictor(self.head(self.pooler.fixed(features, regions)))
