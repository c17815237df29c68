"""The keypoint head of Mask R-CNN (He et al., 2017, section 5): one 56×56 map a keypoint, a softmax over its positions.

Standard is torchvision's, number for number. A category has its own list of keypoints; the head has as many maps as the
longest list, and keypoint k of an object is read from map k whatever its class.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
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
from segcli.models.layers.pyramid import conv_norm
from segcli.models.rcnn.pooler import Pooler
from segcli.models.rcnn.roi_heads import Detections, RoIHead, Samples

LIMIT = 10  # lite: positive samples an image; the head's time is proportional to it
SURE = 0.3  # predicted keypoints below this confidence are drawn hollow, like hidden ones


def build(
    *,
    num_things: int,
    num_keypoints: int,
    channels: int,
    strides: list[int],
    variant: str = "standard",
    fine: int = 64,
    pooler: str = "roi_align",
    width: int | None = None,
    convolutions: int | None = None,
) -> RoIHead:
    """width, convolutions: the 3×3 layers at 14×14 (512, 8; lite 128, 4) before the transposed one. The lite head reads
    the fine map, like the lite mask head.
    """
    if not num_keypoints:
        raise UsageError(
            "model.heads.keypoint: no class of the dataset declares keypoints",
            hint="if its annotations have some, prepare it again with this segcli: segcli prepare … --force",
        )
    layers: nn.Module
    if variant == "lite":
        width, pool = width or 128, Pooler(14, [4], method=pooler, aligned=True)
        sizes = [fine] + [width] * (convolutions or 4)
        layers = nn.Sequential(*(conv_norm(a, b) for a, b in itertools.pairwise(sizes)))
        return KeypointHead(layers, KeypointRCNNPredictor(width, num_keypoints), pool, lite=True)
    width, pool = width or 512, Pooler(14, strides[:4], method=pooler)
    layers = KeypointRCNNHeads(channels, [width] * (convolutions or 8))
    return KeypointHead(layers, KeypointRCNNPredictor(width, num_keypoints), pool, lite=False)


@dataclasses.dataclass
class Keypoints:
    """K keypoints of each of N objects; objects of a class with fewer have unlabelled ones at the end.

    points [N,K,3] float32: x, y in pixels, and in labels COCO's visibility (0 = not labelled, 1 = hidden, 2 = visible),
    in predictions a confidence, 0..1. mirror [N,K]: the keypoint that stands at place k of a mirror image; None in
    predictions. upright: see info.Category.
    """

    points: Tensor
    mirror: Tensor | None = None
    upright: bool = False

    @classmethod
    def read(cls, annotations: list[dict[str, Any]], info: Any) -> "Keypoints":
        """COCO's `keypoints`, [x, y, v] times K; an annotation without them has none labelled."""
        categories = {c.source_id: c for c in info.categories}
        points = torch.zeros(len(annotations), info.num_keypoints, 3)
        mirror = torch.arange(info.num_keypoints).repeat(len(annotations), 1)
        for i, annotation in enumerate(annotations):
            given = annotation.get("keypoints")
            if given:
                points[i, : len(given) // 3] = torch.tensor(given, dtype=torch.float32).reshape(-1, 3)
            for a, b in categories[annotation["category_id"]].flip_pairs:
                mirror[i, a], mirror[i, b] = b, a
        return cls(points, mirror, any(c.upright for c in info.categories))

    @classmethod
    def problems(cls, annotations: list[dict[str, Any]], info: Any) -> Iterator[str]:
        """What is wrong with a split's labels, one sentence each."""
        declared = {c.source_id: len(c.keypoints) for c in info.categories}
        for annotation in annotations:
            given, name = annotation.get("keypoints") or [], f"annotation {annotation.get('id')}"
            count = declared[annotation["category_id"]]
            if not isinstance(given, list) or not all(type(v) in (int, float) and math.isfinite(v) for v in given):
                yield f"{name}: keypoints are not a list of finite numbers"
            elif given and len(given) != 3 * count:
                yield f"{name}: {len(given)} numbers for {count} keypoints of its class, which need {3 * count}"
            elif not {*given[2::3]} <= {0, 1, 2}:
                yield f"{name}: a keypoint's visibility is {min({*given[2::3]} - {0, 1, 2})}, not 0, 1 or 2"

    @classmethod
    def labelled(cls, annotations: list[dict[str, Any]]) -> bool:
        return any(any((a.get("keypoints") or [])[2::3]) for a in annotations)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: Any) -> "Keypoints":
        mirror = None if self.mirror is None else self.mirror[index]
        return dataclasses.replace(self, points=self.points[index], mirror=mirror)

    def flip(self, width: float) -> "Keypoints":
        """Left to right, and left and right ones change places."""
        assert self.mirror is not None, "predictions are not augmented"
        x, y, v = self.points.unbind(-1)
        flipped = torch.stack([torch.where(v > 0, width - x, x), y, v], -1)
        return self._with(flipped.gather(1, self.mirror[..., None].expand_as(flipped)))

    def crop(self, x: float, y: float, width: float, height: float) -> "Keypoints":
        """What lies outside is no longer labelled."""
        points = self.points - self.points.new_tensor([x, y, 0])
        inside = (points[..., :2] >= 0).all(-1) & (points[..., 0] <= width) & (points[..., 1] <= height)
        return self._with(points * (inside & (points[..., 2] > 0))[..., None])

    def scale(self, x: float, y: float) -> "Keypoints":
        return self._with(self.points * self.points.new_tensor([x, y, 1]))

    def rotate(self, matrix: np.ndarray) -> "Keypoints":
        """matrix [2,3] maps a point (x, y, 1). Raises UsageError where names depend on what is up."""
        if self.upright:
            raise UsageError(
                "data.augment: this dataset names keypoints by where they lie in an image, and a rotation renames them",
                hint="leave rot90, flip_vertical and rotate away",
            )
        turn = torch.from_numpy(np.asarray(matrix, np.float32)).to(self.points)
        moved = self.points[..., :2] @ turn[:, :2].T + turn[:, 2]
        return self._with(torch.cat([moved * (self.points[..., 2:] > 0), self.points[..., 2:]], -1))

    def to(self, device: Any) -> "Keypoints":
        mirror = None if self.mirror is None else self.mirror.to(device)
        return dataclasses.replace(self, points=self.points.to(device), mirror=mirror)

    def write(self, labels: Sequence[int], info: Any) -> list[dict[str, Any]]:
        """What COCO results hold: `keypoints`, [x, y, confidence] times as many as the class has."""
        counts = [len(info.categories[label].keypoints) for label in labels]
        rows = self.points.double().cpu().numpy().round(4)
        return [{"keypoints": row[:n].ravel().tolist()} for row, n in zip(rows, counts, strict=True)]

    def draw(self, canvas: np.ndarray, found: Any, info: Any, factor: float, colours: list[Any]) -> None:
        """Skeletons over uint8 RGB [H,W,3], in place: visible keypoints filled, hidden and unsure ones hollow."""
        wide = max(1, round(math.sqrt(canvas.shape[0] * canvas.shape[1]) / 400))
        solid = 2.0 if found.scores is None else SURE
        for label, row, colour in zip(found.labels.tolist(), self.points.cpu().numpy(), colours, strict=True):
            category = info.categories[label]
            points = row[: len(category.keypoints)]
            at = [tuple(p) for p in np.rint(16 * (points[:, :2] * factor - 0.5)).astype(int).tolist()]
            for a, b in category.skeleton:
                if points[a, 2] > 0 and points[b, 2] > 0:
                    for ink, width in (((0, 0, 0), wide + 2), (colour, wide)):
                        cv2.line(canvas, at[a], at[b], ink, width, cv2.LINE_AA, 4)
            for place, value in zip(at, points[:, 2], strict=True):
                if value > 0:
                    cv2.circle(canvas, place, 16 * (2 * wide + 1), (0, 0, 0), -1, cv2.LINE_AA, 4)
                    inner = colour if value >= solid else (255, 255, 255)
                    cv2.circle(canvas, place, 16 * 2 * wide, inner, -1, cv2.LINE_AA, 4)

    def _with(self, points: Tensor) -> "Keypoints":
        return dataclasses.replace(self, points=points)


class KeypointHead(RoIHead):
    """14×14 RoIAlign -> 3×3 layers -> transposed convolution to 28×28 -> bilinear 56×56, K maps.

    lite: a few samples an image, and places between the cells at inference, since objects have few pixels.
    """

    needs = {"keypoints": Keypoints}
    metric = "keypoints"
    class_layers = ("predictor.kps_score_lowres.",)

    def __init__(self, head: nn.Module, predictor: nn.Module, pooler: Pooler, lite: bool):
        super().__init__()
        self.head, self.predictor, self.pooler, self.lite = head, predictor, pooler, lite

    def _run(self, features: list[Tensor], boxes: list[Tensor]) -> Tensor:
        return self.predictor(self.head(self.pooler(features, boxes))).contiguous()  # torchvision's loss takes views

    def loss(self, features: list[Tensor], samples: Samples) -> dict[str, Tensor]:
        """Mean cross-entropy over the 56² positions, of labelled keypoints (also hidden ones) inside their sample."""
        positive = samples.positives(LIMIT if self.lite else None)
        maps = self._run(features, positive.boxes)
        labelled = [t.instances.fields["keypoints"].points.to(maps) for t in positive.targets]
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
        maps = self._run(features, [d.boxes for d in detections])
        for found, own in zip(detections, maps.split([len(d.boxes) for d in detections]), strict=True):
            near = F.avg_pool2d(own.flatten(2).softmax(-1).view_as(own), 3, 1, 1) * 9
            found.extra["keypoint_maps"], found.extra["keypoint_sure"] = own, near.flatten(2).amax(-1).clamp(max=1)
            if self.lite:
                found.extra["keypoints"], found.extra["keypoint_scores"] = _between_cells(own, found.boxes)
            else:
                points, found.extra["keypoint_scores"] = heatmaps_to_keypoints(own, found.boxes)
                found.extra["keypoints"] = points[..., :2]

    def finish(self, found: Detections, size: tuple[int, int], original: tuple[int, int]) -> dict[str, Any]:
        points, sure = found.extra["keypoints"], found.extra["keypoint_sure"]
        scale = points.new_tensor([original[1] / size[1], original[0] / size[0]])
        return {"fields": {"keypoints": Keypoints(torch.cat([points * scale, sure[..., None]], -1))}}

    def count(self, features: list[Tensor], regions: int) -> None:
        self.predictor(self.head(self.pooler.fixed(features, regions)))


def _between_cells(maps: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """maps [n,K,S,S], boxes [n,4] -> places [n,K,2], the mean over the 5×5 cells around each map's highest, weighted by
    probability; and the highest values [n,K]."""
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
