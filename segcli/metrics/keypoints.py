"""Keypoint AP as COCO defines it: detections matched by object keypoint similarity (OKS) in place of IoU."""

import re
from collections.abc import Sequence
from typing import Any

import hotcoco

from segcli.info import DatasetInfo
from segcli.metrics.instance import _AP50, InstanceScores, _put_mean, _truth, check
from segcli.types import Instances, Prediction, Target

# standard deviations, as shares of √(2·area), of a person's keypoints (COCO's home page; constants of pycocotools)
PAIRS = {"eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062}
PAIRS |= {"hip": 0.107, "knee": 0.087, "ankle": 0.089}
COCO = {"nose": 0.026, **{f"{side}_{part}": v for part, v in PAIRS.items() for side in ("left", "right")}}  # in order
OTHER = sum(COCO.values()) / len(COCO)  # for every keypoint of other data: 0.067
MOST = 20  # COCO's limit on detections of an image


def build(*, info: DatasetInfo, max_detections: int = MOST) -> "KeypointScores":
    return KeypointScores(info, max_detections)


class KeypointScores(InstanceScores):
    """{"keypoints_AP", "keypoints_AP50"}: OKS .50:.95, over classes that have keypoints; 0..1.

    COCO's own deviations where the keypoints bear the names of its 17, else their mean for each. The best 20 detections of
    an image count, or `max_detections` where that is less. Objects without a labelled keypoint are ignored, as are
    the detections that match them.
    """

    def __init__(self, info: DatasetInfo, max_detections: int = MOST):
        super().__init__(info, (), min(max_detections, MOST))
        self.kinds = ("keypoints",)
        params = hotcoco.Params("keypoints")
        params.max_dets = [self.max_detections]
        params.kpt_oks_sigmas = deviations(info)
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(self.names)]
        self.streams = {"keypoints": hotcoco.StreamingEval(categories, "keypoints", params=params)}

    def update(
        self,
        predictions: Sequence[Prediction],
        targets: Sequence[Target],
        annotations: Sequence[Sequence[dict[str, Any]]] | None = None,
    ) -> None:
        """As InstanceScores.update; labels and predictions have the field "keypoints"."""
        for i, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
            found = prediction.instances if prediction.instances is not None else Instances.empty()
            check(found, prediction, target.size)
            image = {"id": target.image_id, "height": target.size[0], "width": target.size[1]}
            labels = _truth(target, False, annotations[i] if annotations is not None else None)
            for entry, points in zip(
                labels, target.instances.fields["keypoints"].points.double().tolist(), strict=True
            ):
                entry["keypoints"] = [v for point in points for v in point]
                entry["num_keypoints"] = sum(v > 0 for _, _, v in points)
            self.streams["keypoints"].update([image], labels, _detections(found, target.image_id))

    def compute(self) -> dict[str, float]:
        out: dict[str, float] = {}
        for kind, precision in self._precision():
            _put_mean(out, f"{kind}_AP", precision[..., 0])
            _put_mean(out, f"{kind}_AP50", precision[_AP50, ..., 0])
        return out


def deviations(info: DatasetInfo) -> list[float]:
    """One for each keypoint. COCO's hold for its 17 alone, in its order: 17 points of an animal are others."""
    lists = {c.keypoints for c in info.categories if c.thing and c.keypoints}
    plain = {tuple(re.sub(r"\W", "_", name.lower()) for name in names) for names in lists}
    return list(COCO.values()) if plain == {tuple(COCO)} else [OTHER] * info.num_keypoints


def _detections(found: Instances, image_id: int) -> list[dict[str, Any]]:
    if not len(found):
        return []
    assert found.scores is not None
    rows = zip(
        found.labels.tolist(), found.scores.tolist(), found.fields["keypoints"].points.double().tolist(), strict=True
    )
    return [
        {"image_id": image_id, "category_id": label + 1, "score": score, "keypoints": [v for p in points for v in p]}
        for label, score, points in rows
    ]
