"""A head that says in which direction each object points."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.core import distributed
from segcli.models.interface import Detections, RoIHead, Samples
from segcli.models.rcnn.pooler import Pooler
from segcli_orientation.field import Orientation


def build(
    *, channels: int, strides: list[int], fine: int | None = None, pooler: str = "roi_align", width: int = 128
) -> RoIHead:
    """width: of the hidden layer."""
    first = 0 if fine is None else 1  # rcnn_lite's first map has fewer channels: it is the masks' own
    return OrientationHead(channels, Pooler(7, strides[first : first + 4], method=pooler, aligned=True), width, first)


class OrientationHead(RoIHead):
    needs = {"orientation": Orientation}
    metric = "orientation"
    class_layers = ()  # nothing here depends on the number of classes

    def __init__(self, channels: int, pooler: Pooler, width: int, first: int):
        super().__init__()
        self.pooler, self.first = pooler, first
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(channels * 49, width), nn.ReLU())
        self.predictor = nn.Linear(width, 2)  # cosine and sine, of any length

    def _run(self, features: list[Tensor], boxes: list[Tensor]) -> Tensor:
        return self.predictor(self.head(self.pooler(features[self.first :], boxes)))

    def loss(self, features: list[Tensor], samples: Samples) -> dict[str, Tensor]:
        """1 - cosine of the difference, over the samples of labelled objects."""
        positive = samples.positives()
        found = self._run(features, positive.boxes)
        angles = [
            t.instances.fields["orientation"].angle[m] for t, m in zip(positive.targets, positive.matched, strict=True)
        ]
        angle = torch.cat(angles).to(found)
        known = ~angle.isnan()
        share = distributed.share(int(known.sum()))  # with several devices, a mean over the objects of all
        if not known.any():
            return {"loss_orientation": found.sum() * 0}
        goal = torch.stack([angle.cos(), angle.sin()], 1)
        return {"loss_orientation": (1 - F.cosine_similarity(found[known], goal[known])).mean() * share}

    def predict(self, features: list[Tensor], detections: list[Detections]) -> None:
        found = self._run(features, [d.boxes for d in detections])
        for one, own in zip(detections, found.split([len(d.boxes) for d in detections]), strict=True):
            one.extra["orientation"] = torch.atan2(own[:, 1], own[:, 0])

    def finish(self, found: Detections, size: tuple[int, int], original: tuple[int, int]) -> dict[str, Any]:
        field = Orientation(found.extra["orientation"])
        return {"fields": {"orientation": field.scale(original[1] / size[1], original[0] / size[0])}}

    def count(self, features: list[Tensor], regions: int) -> None:
        self.predictor(self.head(self.pooler.fixed(features[self.first :], regions)))
