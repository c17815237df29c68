"""The lite keypoint head: Mask R-CNN's, narrower and on the fine stride-4 map, for objects of few pixels."""

import itertools

import torch
from torch import Tensor, nn
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNPredictor

from segcli.models.interface import RoIHead
from segcli.models.layers.pyramid import conv_norm
from segcli.models.rcnn.heads.keypoint import KeypointHead, require_keypoints
from segcli.models.rcnn.pooler import Pooler


def build(
    *,
    num_things: int,
    num_keypoints: int,
    fine: int,
    pooler: str = "roi_align",
    width: int = 128,
    convolutions: int = 4,
) -> RoIHead:
    """width, convolutions: the 3×3 layers at 14×14 before the transposed one."""
    require_keypoints("lite_keypoint", num_keypoints)
    sizes = [fine] + [width] * convolutions
    layers = nn.Sequential(*(conv_norm(a, b) for a, b in itertools.pairwise(sizes)))
    pool = Pooler(14, [4], method=pooler, aligned=True)
    return LiteKeypointHead(layers, KeypointRCNNPredictor(width, num_keypoints), pool)


class LiteKeypointHead(KeypointHead):
    """A few samples an image, since its time is proportional to them, and places between the cells at inference."""

    slot = "keypoint"
    samples = 10

    def read(self, maps: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """As `KeypointHead.read`; a place is the mean over the 5×5 cells around the highest, weighted by
        probability."""
        side = maps.shape[-1]
        values, best = maps.flatten(2).max(-1)
        grid = torch.arange(side, device=maps.device)
        centre = torch.stack([best % side, best // side], -1)
        near = ((grid - centre[..., None]).abs() <= 2).float()  # [n,K,2,S]
        weight = (maps - values[..., None, None]).exp() * near[:, :, 1, :, None] * near[:, :, 0, None, :]
        total = weight.sum((2, 3))
        cells = torch.stack([(weight.sum(2) * grid).sum(-1), (weight.sum(3) * grid).sum(-1)], -1) / total[..., None]
        low, high = boxes[:, None, :2], boxes[:, None, 2:]
        return low + (cells + 0.5) / side * (high - low), values
