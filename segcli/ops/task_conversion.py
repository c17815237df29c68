"""One kind of prediction read as another, so that families which predict different things can be scored alike.

Only where every pixel is labelled: elsewhere a false alarm on unlabelled ground would cost nothing.
"""

import dataclasses

import numpy as np
import torch
from pycocotools import mask as coco_mask

from segcli.types import IGNORE, Instances, Panoptic, Prediction, Segment, encode_masks, mask_boxes

SCORE, HIDDEN = 0.5, 0.5  # as in "Panoptic Segmentation" (Kirillov et al., 2019) and Detectron2's combination


def as_panoptic(prediction: Prediction, score: float = SCORE) -> Prediction:
    """Detections with masks that score `score` or more -> a panoptic map of things: the best on top, what is mostly
    covered is left out."""
    found = prediction.instances
    assert found is not None, "only instances can be laid on a map"
    ids, segments = np.zeros(prediction.size, np.int32), []
    assert found.scores is not None, "detections have scores"
    kept = found[found.scores >= score]
    assert kept.scores is not None
    for i in torch.argsort(kept.scores, descending=True, stable=True).tolist():
        mask = kept.mask(i)
        free = mask & (ids == 0)
        if not free.any() or free.sum() <= (1 - HIDDEN) * mask.sum():
            continue
        ids[free] = i + 1
        segments.append(Segment(i + 1, int(kept.labels[i]), float(kept.scores[i])))
    return dataclasses.replace(prediction, panoptic=Panoptic(ids, segments))


def as_semantic(prediction: Prediction, ignore: int = IGNORE) -> Prediction:
    """A panoptic map, or detections with masks -> labels [H,W], `ignore` where nothing is."""
    if prediction.panoptic is None:
        prediction = as_panoptic(prediction)
    assert prediction.panoptic is not None
    table = np.full(max((s.id for s in prediction.panoptic.segments), default=0) + 1, ignore, np.int32)
    for segment in prediction.panoptic.segments:
        table[segment.id] = segment.label
    return dataclasses.replace(prediction, semantic=table[prediction.panoptic.ids])


def as_instances(prediction: Prediction, num_things: int) -> Prediction:
    """A panoptic map -> its things as detections, best first."""
    assert prediction.panoptic is not None, "the prediction has no panoptic map"
    things = [s for s in prediction.panoptic.segments if s.label < num_things]
    things.sort(key=lambda s: -s.score)
    masks = np.stack([prediction.panoptic.ids == s.id for s in things]) if things else np.zeros((0, *prediction.size))
    instances = Instances(
        boxes=torch.from_numpy(mask_boxes(masks.astype(bool))),
        labels=torch.tensor([s.label for s in things], dtype=torch.int64),
        scores=torch.tensor([s.score for s in things], dtype=torch.float32),
        masks=encode_masks(masks),
    )
    return dataclasses.replace(prediction, instances=instances)


def suppress(found: Instances, overlap: float) -> Instances:
    """Non-maximum suppression (class by class, by boxes, greedy): drop what a better one covers with IoU > overlap."""
    assert found.scores is not None, "detections have scores"
    order = torch.argsort(found.scores, descending=True, stable=True)
    boxes = found.boxes[order].double().cpu().numpy().copy()
    boxes[:, 2:] -= boxes[:, :2]
    labels = found.labels[order].cpu().numpy()
    kept: list[int] = []
    if len(boxes):
        iou = coco_mask.iou(boxes, boxes, [0] * len(boxes))
        for i in range(len(boxes)):
            if not any(labels[i] == labels[k] and iou[i, k] > overlap for k in kept):
                kept.append(i)
    return found[order[torch.tensor(kept, dtype=torch.int64)]]
