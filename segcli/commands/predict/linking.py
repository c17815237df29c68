"""Detections of successive frames that are the same object get the same number.

Each detection is linked with the object of its class whose last box it overlaps most: all of a frame at once, by the
Hungarian method on intersection over union, as SORT does (Bewley et al. 2016), without its motion model; an object that
is not seen for a while keeps its number for GONE frames.
"""

import dataclasses

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from segcli.ops.boxes import iou
from segcli.types import Instances

LEAST = 0.3  # SORT's threshold of IoU
GONE = 15  # frames


@dataclasses.dataclass
class Links:
    """The objects seen so far. boxes [T,4], labels [T], numbers [T] and frames [T] of when they were seen last."""

    boxes: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, 4))
    labels: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    numbers: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    seen: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    frame: int = 0
    count: int = 0

    def add(self, found: Instances) -> list[int]:
        """The number of each detection of the next frame, from 1 on."""
        self.frame += 1
        boxes, labels = found.boxes.cpu(), found.labels.cpu()
        overlap = iou(self.boxes[:, None], boxes[None]) * (self.labels[:, None] == labels[None])
        rows, columns = (torch.from_numpy(part) for part in linear_sum_assignment(overlap.numpy(), maximize=True))
        same = overlap[rows, columns] >= LEAST
        rows, columns = rows[same], columns[same]
        numbers = torch.zeros(len(boxes), dtype=torch.int64)
        numbers[columns] = self.numbers[rows]
        new = numbers == 0
        numbers[new] = torch.arange(int(new.sum())) + self.count + 1
        self.count += int(new.sum())
        kept = self.frame - self.seen <= GONE
        kept[rows] = False
        self.boxes = torch.cat([self.boxes[kept], boxes])
        self.labels = torch.cat([self.labels[kept], labels])
        self.numbers = torch.cat([self.numbers[kept], numbers])
        self.seen = torch.cat([self.seen[kept], torch.full((len(boxes),), self.frame)])
        return numbers.tolist()
