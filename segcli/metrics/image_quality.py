"""How well one image was predicted, as one number: what sorts the worst images first."""

import numpy as np
from pycocotools import mask as coco_mask

from segcli.core.dataset_info import DatasetInfo
from segcli.metrics.panoptic import count
from segcli.metrics.semantic import answers, semantic_scores, tallies
from segcli.types import Instances, Prediction, Target

MEANING = "quality = sum of matched IoUs / (matches + misses/2 + false alarms/2)"
MEANING_SEMANTIC = "quality = mean IoU of the image's classes"


def image_quality(prediction: Prediction, target: Target, info: DatasetInfo, *, score: float = 0.5) -> float:
    """0..1: panoptic quality over all classes of one image, or for semantic maps the image's own mIoU.

    Detections with at least `score` are matched, best first, each with the free label of its class that it overlaps
    most, from IoU 0.5 on (masks where both have them, else boxes). Those that lie by half or more on a crowd region of
    their class count as nothing. An image without labels on which nothing is predicted has quality 1.
    """
    if prediction.panoptic is not None and target.panoptic is not None:
        iou, tp, fp, fn = count(prediction.panoptic, target.panoptic, len(info.names), target.image_id).sum(0)
        return _quality(iou, tp, fp, fn)
    if prediction.semantic is not None and target.semantic is not None:
        pair = answers(prediction.semantic, target.semantic.numpy(), len(info.names), target.image_id)
        return semantic_scores(*tallies(*pair, len(info.names))).get("mIoU", 1.0)
    found = prediction.instances if prediction.instances is not None else Instances.empty()
    if found.scores is not None:
        order = found.scores.argsort(descending=True, stable=True)
        found = found[order[found.scores[order] >= score]]
    return _quality(*match(found, target.instances))


def match(found: Instances, labelled: Instances) -> tuple[float, int, int, int]:
    """Sum of matched IoUs, matches, false alarms, misses; `found` is sorted from the best score down."""
    crowd = np.zeros(len(labelled), bool) if labelled.crowd is None else labelled.crowd.numpy()
    overlaps = _overlaps(found, labelled, crowd)
    overlaps[found.labels.numpy()[:, None] != labelled.labels.numpy()[None, :]] = 0
    free = ~crowd
    iou, hits, false_alarms = 0.0, 0, 0
    for row in overlaps:
        best = int(np.where(free, row, 0).argmax()) if free.any() else -1
        if best >= 0 and row[best] >= 0.5:
            iou, hits = iou + float(row[best]), hits + 1
            free[best] = False
        elif not (row[crowd] >= 0.5).any():
            false_alarms += 1
    return iou, hits, false_alarms, int(free.sum())


def _overlaps(found: Instances, labelled: Instances, crowd: np.ndarray) -> np.ndarray:
    """IoU [P,L]; with a crowd region, the share of the detection that lies on it."""
    if not len(found) or not len(labelled):
        return np.zeros((len(found), len(labelled)))
    if found.masks is not None and labelled.masks is not None:
        return np.asarray(coco_mask.iou(found.rles(), labelled.rles(), crowd.astype(int)))
    boxes = [i.boxes.double().numpy().copy() for i in (found, labelled)]
    for xywh in boxes:
        xywh[:, 2:] -= xywh[:, :2]
    return np.asarray(coco_mask.iou(*boxes, crowd.astype(int)))


def _quality(iou: float, hits: float, false_alarms: float, misses: float) -> float:
    weight = hits + false_alarms / 2 + misses / 2
    return float(iou / weight) if weight else 1.0
