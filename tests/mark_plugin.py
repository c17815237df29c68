"""A field, a head and a metric of another package: each object bears a number, which lies in a side file."""

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segcli.models.interface import Detections, RoIHead, Samples
from segcli.models.rcnn.pooler import Pooler

ENTRY_POINTS = """[segcli.plugins]
field:mark = mark_plugin:FieldPlugin
head:mark = mark_plugin:HeadPlugin
metric:mark = mark_plugin:MetricPlugin
"""


@dataclasses.dataclass
class Mark:
    """value [N], NaN where an object has none; size: (h, w) of the image that it was read from."""

    value: Tensor
    size: tuple[int, int] = (0, 0)

    @classmethod
    def reads(cls) -> tuple[str, ...]:
        return ("mark",)

    @classmethod
    def read(cls, annotations: Any, origin: Any) -> "Mark":
        return cls(torch.tensor([_value(a, origin) for a in annotations], dtype=torch.float32), origin.size)

    @classmethod
    def problems(cls, annotations: Any, origin: Any):
        for a in annotations:
            if "mark" in a and not origin.file(a["mark"]).is_file():
                yield f"annotation {a['id']}: there is no file {a['mark']} in an image of {origin.size}"

    @classmethod
    def labelled(cls, annotations: Any) -> bool:
        return any("mark" in a for a in annotations)

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, index: Any) -> "Mark":
        return Mark(self.value[index], self.size)

    def flip(self, width: float) -> "Mark":
        return self

    def crop(self, x: float, y: float, width: float, height: float) -> "Mark":
        return self

    def scale(self, x: float, y: float) -> "Mark":
        return self

    def to(self, device: Any) -> "Mark":
        return Mark(self.value.to(device), self.size)

    def perfect(self) -> tuple["Mark", Tensor]:
        return self, ~self.value.isnan()

    def write(self, labels: Any, store: Any) -> list[dict[str, Any]]:
        name = store.file("mark", {"value": self.value.numpy()}) if len(self) else ""
        return [{"mark": name, "place": i} for i in range(len(self))]

    def draw(self, canvas: np.ndarray, found: Any, info: Any, factor: float, colours: Any) -> None:
        for x, y in found.boxes[~self.value.isnan(), :2].mul(factor).long().tolist():
            canvas[y : y + 4, x : x + 4] = (1, 2, 3)


def _value(annotation: Any, origin: Any) -> float:
    if "mark" not in annotation:
        return np.nan
    file = origin.file(annotation["mark"])
    return float(np.load(file)["value"][annotation["place"]] if "place" in annotation else file.read_text())


class FieldPlugin:
    @staticmethod
    def build() -> type[Mark]:
        return Mark


class MarkHead(RoIHead):
    needs = {"mark": Mark}
    metric = "mark"
    class_layers = ()

    def __init__(self, channels: int, strides: list[int], strength: float):
        super().__init__()
        self.pooler, self.strength = Pooler(2, strides[:4]), strength
        self.layer = nn.Linear(channels * 4, 1)

    def loss(self, features: list[Tensor], samples: Samples) -> dict[str, Tensor]:
        positive = samples.positives()
        found = self.layer(self.pooler(features, positive.boxes).flatten(1))[:, 0]
        marks = [t.instances.fields["mark"].value[m] for t, m in zip(positive.targets, positive.matched, strict=True)]
        goal = torch.cat(marks).to(found)
        return {"loss_mark": self.strength * (found - goal)[~goal.isnan()].abs().sum() + 0 * found.sum()}

    def predict(self, features: list[Tensor], detections: list[Detections]) -> None:
        for i, one in enumerate(detections):
            pooled = self.pooler([f[i : i + 1] for f in features], [one.boxes])
            one.extra["mark"] = self.layer(pooled.flatten(1))[:, 0]

    def finish(self, found: Detections, size: Any, original: Any) -> dict[str, Any]:
        return {"fields": {"mark": Mark(found.extra["mark"])}}

    def count(self, features: list[Tensor], regions: int) -> None:
        self.layer(self.pooler.fixed(features, regions).flatten(1))


class HeadPlugin:
    @staticmethod
    def build(*, channels: int, strides: list[int], declared: dict[str, dict[str, Any]]) -> RoIHead:
        return MarkHead(channels, strides, declared["mark"]["strength"])


class MetricPlugin:
    @staticmethod
    def build() -> "Marks":
        return Marks()


class Marks:
    """mark_accuracy: the share of predicted marks on images whose labels have the same mark, within a half."""

    def __init__(self) -> None:
        self.right = self.all = 0

    def update(self, predictions: Any, targets: Any) -> None:
        for prediction, target in zip(predictions, targets, strict=True):
            real = target.instances.fields["mark"].value
            for value in prediction.instances.fields["mark"].value:
                self.right += bool(((real - value).abs() < 0.5).any())
                self.all += 1

    def merge(self, other: "Marks") -> None:
        self.right, self.all = self.right + other.right, self.all + other.all

    def compute(self) -> dict[str, float]:
        return {"mark_accuracy": self.right / self.all} if self.all else {}
