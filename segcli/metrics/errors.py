"""What lies behind an AP: which class is taken for which, what kinds of error cost how much, how far scores can be
trusted. hotcoco's streaming evaluation forgets what it needs for this, so that it is kept here, in COCO's own terms.
"""

from typing import Any

import hotcoco
import numpy as np

from segcli.metrics.interface import CocoEntry

SEEN = 0.5  # score from which a detection counts in the confusion matrix
LEAST = 0.05  # score below which detections are not kept: a hundred an image would fill the memory
ERRORS = {  # hotcoco's name -> what it means (Bolya et al., "TIDE", 2020, section 3)
    "Cls": "wrong class, right place",
    "Loc": "right class, wrong place",
    "Both": "wrong class and place",
    "Dupe": "duplicate of a better detection",
    "Bkg": "nothing there",
    "Miss": "missed object",
}


class ErrorTally:
    """The labels and the detections with a score of LEAST or more, of every image that was added.

    kind: "bbox" or "segm"; params: hotcoco's, with the limit on detections.
    """

    def __init__(self, categories: list[CocoEntry], kind: str, params: hotcoco.Params):
        self.categories, self.kind, self.params = categories, kind, params
        self.images: list[CocoEntry] = []
        self.labels: list[CocoEntry] = []
        self.boxes: list[np.ndarray] = []
        self.masks: list[CocoEntry] = []

    def add(self, images: list[CocoEntry], labels: list[CocoEntry], found: Any) -> None:
        """found: boxes [N,7] as hotcoco takes them, or dicts of masks."""
        self.images += images
        self.labels += labels
        if self.kind == "bbox":
            self.boxes.append(found[found[:, 5] >= LEAST])
        else:
            self.masks += [one for one in found if one["score"] >= LEAST]

    def merge(self, other: "ErrorTally") -> None:
        self.images, self.labels = self.images + other.images, self.labels + other.labels
        self.boxes, self.masks = self.boxes + other.boxes, self.masks + other.masks

    def diagnostics(self, confusion: bool) -> dict[str, Any]:
        """{"confusion" (if asked for), "tide", "calibration"}, see `InstanceScores.diagnostics`."""
        numbered = [{**entry, "id": i} for i, entry in enumerate(self.labels, start=1)]
        labels = hotcoco.COCO({"images": self.images, "annotations": numbered, "categories": self.categories})
        found: Any = np.concatenate([np.zeros((0, 7)), *self.boxes]) if self.kind == "bbox" else self.masks
        result = hotcoco.COCOeval(labels, labels.load_res(found), self.kind)
        result.params = self.params
        result.params.img_ids = [image["id"] for image in self.images]
        result.evaluate()
        tide, calibration = result.tide_errors(), result.calibration()
        matrix = result.confusion_matrix(min_score=SEEN)["matrix"] if confusion else None
        return {
            "confusion": None if matrix is None else matrix.tolist(),
            "tide": {
                "lost": {name: round(float(tide["delta_ap"][name]), 4) for name in ERRORS},
                "counts": {name: int(tide["counts"][name]) for name in ERRORS},
            },
            "calibration": {key: calibration[key] for key in ("ece", "mce", "bins")},
        }
