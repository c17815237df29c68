"""The direction in which each object points: how it is read, follows the image, is stored and drawn."""

import dataclasses
import math
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor


@dataclasses.dataclass
class Orientation:
    """One direction [N] an object, in radians counter-clockwise from the right; NaN = not labelled."""

    angle: Tensor

    @classmethod
    def reads(cls) -> tuple[str, ...]:
        return ("orientation",)

    @classmethod
    def read(cls, annotations: list[dict[str, Any]], origin: Any) -> "Orientation":
        degrees = [a.get("orientation", math.nan) for a in annotations]
        return cls(torch.tensor(degrees, dtype=torch.float32).deg2rad())

    @classmethod
    def problems(cls, annotations: list[dict[str, Any]], origin: Any):
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

    @classmethod
    def moved(cls, annotation: dict[str, Any], placed: Any) -> dict[str, Any]:
        turn = math.radians(annotation["orientation"])
        x, y = placed.scale
        return {"orientation": math.degrees(math.atan2(math.sin(turn) * y, math.cos(turn) * x))}

    def perfect(self) -> tuple["Orientation", Tensor]:
        return self, ~self.angle.isnan()

    def write(self, labels: list[int], store: Any) -> list[dict[str, Any]]:
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


def build() -> type[Orientation]:
    return Orientation
