"""Keypoint AP as COCO defines it: detections matched by object keypoint similarity (OKS) in place of IoU."""

import re
from collections.abc import Sequence

import hotcoco

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import DatasetInfo
from segcli.fields.keypoints import Keypoints
from segcli.metrics.instance import SUMMARY, Entries, InstanceScores, truth
from segcli.metrics.interface import CocoEntry
from segcli.types import Instances, Target

# standard deviations, as shares of √(2·area), of a person's keypoints (COCO's home page; constants of pycocotools)
PAIRS = {"eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062}
PAIRS |= {"hip": 0.107, "knee": 0.087, "ankle": 0.089}
COCO = {"nose": 0.026, **{f"{side}_{part}": v for part, v in PAIRS.items() for side in ("left", "right")}}  # in order
OTHER = sum(COCO.values()) / len(COCO)  # for every keypoint of other data: 0.067
MOST = 20  # COCO's limit on detections of an image


def build(*, info: DatasetInfo, max_detections: int = MOST, resample: bool = False) -> "KeypointScores":
    return KeypointScores(info, max_detections, resample)


class KeypointScores(InstanceScores):
    """{"keypoints_AP", "keypoints_AP50"}: OKS .50:.95, over classes that have keypoints; 0..1.

    COCO's own deviations where the keypoints bear the names of its 17, else their mean for each. The best 20
    detections of an image count, or `max_detections` where that is less. Objects without a labelled keypoint are
    ignored, as are the detections that match them. Labels and predictions have the field "keypoints".
    """

    summary = {key: SUMMARY[key] for key in ("AP", "AP50")}

    def __init__(self, info: DatasetInfo, max_detections: int = MOST, resample: bool = False):
        self.deviations = deviations(info)
        super().__init__(info, ("keypoints",), min(max_detections, MOST), resample)

    def entries(self, found: Instances, target: Target, annotations: Sequence[Annotation] | None) -> Entries:
        labels = truth(target, False, annotations)
        places = Keypoints.of(target.instances).points.double().tolist()
        for entry, points in zip(labels, places, strict=True):
            entry["keypoints"] = [v for point in points for v in point]
            entry["num_keypoints"] = sum(v > 0 for _, _, v in points)
        return labels, {"keypoints": _detections(found, target.image_id)}

    def _params(self, kind: str) -> hotcoco.Params:
        params = super()._params(kind)
        params.kpt_oks_sigmas = self.deviations
        return params


def deviations(info: DatasetInfo) -> list[float]:
    """One for each keypoint. COCO's hold for its 17 alone, in its order: 17 points of an animal are others."""
    lists = {c.keypoints for c in info.categories if c.thing and c.keypoints}
    plain = {tuple(re.sub(r"\W", "_", name.lower()) for name in names) for names in lists}
    return list(COCO.values()) if plain == {tuple(COCO)} else [OTHER] * info.num_keypoints


def _detections(found: Instances, image_id: int) -> list[CocoEntry]:
    if not len(found):
        return []
    assert found.scores is not None
    places = Keypoints.of(found).points.double().tolist()
    return [
        {"image_id": image_id, "category_id": label + 1, "score": score, "keypoints": [v for p in points for v in p]}
        for label, score, points in zip(found.labels.tolist(), found.scores.tolist(), places, strict=True)
    ]
