"""How many objects are found with the right direction, and how far off the directions of those found are."""

import math
from typing import Any

from torchvision.ops import box_iou

CLOSE = math.radians(15)


def build(*, info: Any) -> "OrientationScores":
    return OrientationScores()


class OrientationScores:
    """`orientation_accuracy`: the share of labelled objects that a detection of their class finds (IoU >= 0.5) with a
    direction at most 15 degrees off. `orientation_error`: the mean error in degrees of all that are found."""

    def __init__(self) -> None:
        self.objects, self.right, self.errors = 0, 0, []

    def update(self, predictions: list[Any], targets: list[Any]) -> None:
        for prediction, target in zip(predictions, targets, strict=True):
            found, labelled = prediction.instances, target.instances
            overlap = box_iou(labelled.boxes, found.boxes)
            overlap[labelled.labels[:, None] != found.labels] = 0
            for i, angle in enumerate(labelled.fields["orientation"].angle.tolist()):
                if math.isnan(angle):
                    continue
                self.objects += 1
                if len(found) and overlap[i].max() >= 0.5:
                    off = found.fields["orientation"].angle[overlap[i].argmax()].item() - angle
                    off = abs(math.remainder(off, 2 * math.pi))
                    self.errors.append(math.degrees(off))
                    self.right += off <= CLOSE

    def merge(self, other: "OrientationScores") -> None:
        self.objects, self.right = self.objects + other.objects, self.right + other.right
        self.errors += other.errors

    def compute(self) -> dict[str, float]:
        out = {"orientation_accuracy": self.right / self.objects} if self.objects else {}
        return out | ({"orientation_error": sum(self.errors) / len(self.errors)} if self.errors else {})
