"""A head that says in which direction each object points."""

import dataclasses
import math
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.core import distributed
from segcli.models.interface import Detections, RoIHead, Samples
from segcli.models.rcnn.pooler import Pooler


@dataclasses.dataclass
class Orientation:
    """One direction [N] an object, in radians counter-clockwise from the right; NaN = not labelled."""

    angle: Tensor

    @classmethod
    def read(cls, annotations: list[dict[str, Any]], info: Any) -> "Orientation":
        degrees = [a.get("orientation", math.nan) for a in annotations]
        return cls(torch.tensor(degrees, dtype=torch.float32).deg2rad())

    @classmethod
    def problems(cls, annotations: list[dict[str, Any]], info: Any):
        for a in annotations:
            value = a.get("orientation", 0)
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                yield f"annotation {a.get('id')}: orientation {value!r} is not a number of degrees"

    @classmethod
    def labelled(cls, annotations: list[dict[str, Any]]) -> bool:
        return any("orientation" in a for a in annotations)

    def __len__(self) -> int:
        return len(self.angle)

    def __getitem__(self, index: Any) -> "Orientation":
        return Orientation(self.angle[index])

    def flip(self, width: float) -> "Orientation":
        return Orientation(math.pi - self.angle)

    def crop(self, x: float, y: float, width: float, height: float) -> "Orientation":
        return self

    def scale(self, x: float, y: float) -> "Orientation":
        return Orientation(torch.atan2(self.angle.sin() * y, self.angle.cos() * x))

    def to(self, device: Any) -> "Orientation":
        return Orientation(self.angle.to(device))

    def write(self, labels: list[int], info: Any) -> list[dict[str, Any]]:
        return [{"orientation": round(v, 2)} for v in self.angle.rad2deg().tolist()]

    def draw(self, canvas: np.ndarray, found: Any, info: Any, factor: float, colours: list[Any]) -> None:
        for (x1, y1, x2, y2), angle, colour in zip(found.boxes.tolist(), self.angle.tolist(), colours, strict=True):
            if math.isnan(angle):
                continue
            x, y, half = (x1 + x2) / 2, (y1 + y2) / 2, max(x2 - x1, y2 - y1) / 2
            tip = x + half * math.cos(angle), y - half * math.sin(angle)  # y points down in images
            ends = [tuple(round(v * factor) for v in end) for end in ((x, y), tip)]
            for ink, width in (((0, 0, 0), 4), (colour, 2)):
                cv2.arrowedLine(canvas, *ends, ink, width, cv2.LINE_AA, tipLength=0.3)


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
