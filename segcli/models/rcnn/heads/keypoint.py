"""The keypoint head of Mask R-CNN (He et al., 2017, section 5): one 56×56 map a keypoint, a softmax over its positions.

Equal to torchvision's. A category has its own list of keypoints; the head has as many maps as the
longest list, and keypoint k of an object is read from map k whatever its class.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.roi_heads import (
    heatmaps_to_keypoints,
    keypointrcnn_loss,
    keypoints_to_heatmap,
)

from segcli.core import distributed
from segcli.core.errors import UsageError
from segcli.fields.keypoints import Keypoints
from segcli.models.interface import Detections, Finished, RoIHead, Samples
from segcli.models.rcnn.pooler import Pooler, by_image
from segcli.ops import keypoint_places
from segcli.ops.preprocess_graph import Framed


def build(
    *,
    num_things: int,
    num_keypoints: int,
    channels: int,
    strides: list[int],
    pooler: str = "roi_align",
    width: int = 512,
    convolutions: int = 8,
) -> RoIHead:
    """width, convolutions: the 3×3 layers at 14×14 before the transposed one."""
    require_keypoints("keypoint", num_keypoints)
    layers = KeypointRCNNHeads(channels, [width] * convolutions)
    return KeypointHead(layers, KeypointRCNNPredictor(width, num_keypoints), Pooler(14, strides[:4], method=pooler))


def require_keypoints(head: str, num_keypoints: int) -> None:
    """Raises UsageError for a dataset none of whose classes declares keypoints."""
    if not num_keypoints:
        raise UsageError(
            f"model.heads.{head}: no class of the dataset declares keypoints",
            hint="if its annotations have some, prepare it again with this segcli: segcli prepare … --force",
        )


class KeypointHead(RoIHead):
    """14×14 RoIAlign -> 3×3 layers -> transposed convolution to 28×28 -> bilinear 56×56, K maps."""

    needs = {"keypoints": Keypoints}
    metric = "keypoints"
    class_layers = ("predictor.kps_score_lowres.",)

    samples: int | None = None
    """Positive samples an image that it learns from; None: all."""

    def __init__(self, head: nn.Module, predictor: nn.Module, pooler: Pooler):
        super().__init__()
        self.head, self.predictor, self.pooler = head, predictor, pooler

    def _run(self, features: list[Tensor], boxes: list[Tensor]) -> Tensor:
        return self.predictor(self.head(self.pooler(features, boxes))).contiguous()  # torchvision's loss takes views

    def loss(self, features: list[Tensor], samples: Samples) -> dict[str, Tensor]:
        """Mean cross-entropy over the 56² positions, of labelled keypoints (also hidden ones) inside their sample."""
        positive = samples.positives(self.samples)
        maps = self._run(features, positive.boxes)
        labelled = [Keypoints.of(t.instances).points.to(maps) for t in positive.targets]
        pairs = zip(labelled, positive.matched, positive.boxes, strict=True)
        inside = [keypoints_to_heatmap(points[at], boxes, maps.shape[-1])[1].sum() for points, at, boxes in pairs]
        count = int(torch.stack(inside).sum())
        share = distributed.share(count)
        if not count:
            return {"loss_keypoint": maps.sum() * 0}
        return {"loss_keypoint": keypointrcnn_loss(maps, positive.boxes, labelled, positive.matched) * share}

    def predict(self, features: list[Tensor], detections: list[Detections]) -> None:
        """Adds `keypoint_maps` [n,K,56,56], `keypoints` [n,K,2] on the canvas, `keypoint_scores` [n,K], the map's
        highest value, and `keypoint_sure` [n,K]: how probable the 3×3 cells around it are."""
        boxes = [d.boxes for d in detections]
        maps = self._run(features, boxes)
        for found, own in zip(detections, by_image(maps, boxes), strict=True):
            near = F.avg_pool2d(own.flatten(2).softmax(-1).view_as(own), 3, 1, 1) * 9
            found.extra["keypoint_maps"], found.extra["keypoint_sure"] = own, near.flatten(2).amax(-1).clamp(max=1)
            found.extra["keypoints"], found.extra["keypoint_scores"] = self.read(own, found.boxes)

    def read(self, maps: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """maps [n,K,S,S], boxes [n,4] -> places [n,K,2] on the canvas and the maps' highest values [n,K]."""
        if torch.compiler.is_exporting():  # torchvision enlarges each map to the size of its own box
            return keypoint_places.read(maps, boxes)
        points, values = heatmaps_to_keypoints(maps, boxes)
        return points[..., :2], values

    def finish(self, found: Detections, size: tuple[int, int], original: tuple[int, int]) -> Finished:
        points, sure = found.extra["keypoints"], found.extra["keypoint_sure"]
        scale = points.new_tensor([original[1] / size[1], original[0] / size[0]])
        return {"fields": {"keypoints": Keypoints(torch.cat([points * scale, sure[..., None]], -1))}}

    def deploy(self, found: Detections, framed: Framed) -> dict[str, Tensor]:
        points, sure = found.extra["keypoints"], found.extra["keypoint_sure"]
        x, y = (framed.original[i] / framed.content[i] for i in (1, 0))
        return {"keypoints": torch.cat([points * torch.stack([x, y]).to(points.dtype), sure[..., None]], -1)}

    def count(self, features: list[Tensor], regions: int) -> None:
        self.predictor(self.head(self.pooler.fixed(features, regions)))
