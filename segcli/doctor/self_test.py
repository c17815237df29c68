"""The perfect-score self-test: a dataset's labels, fed as predictions through the real evaluation, must score 100."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as coco_mask

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import DatasetInfo
from segcli.core.plugins import names
from segcli.core.tasks import TASKS, labelled_tasks
from segcli.data.dataset import Dataset
from segcli.data.findings import Item
from segcli.fields import fields_of
from segcli.metrics import Scorer, build_metric, metric_for
from segcli.types import Panoptic, Perfect, Prediction, Target

MAIN = ("segm_AP", "bbox_AP", "mIoU", "PQ")
MOST = 20  # objects: fields are not scored on images with more, since AP of keypoints counts no more detections
PERFECT = 1 - 1e-9  # sums of a hundred ones round
SAME = 0.95  # IoU that a label must have with itself: the strictest threshold of AP


def self_test(root: str | Path) -> tuple[dict[str, float], list[Item]]:
    """({"val/segm_AP": 1.0, ...}, the images whose labels do not score 100, and why) of a prepared folder.

    Every split, as every task that it has labels for, and each of its fields that has a metric of its name; with as
    many detections as its fullest image has objects, and an image at a time. Raises DataError where the labels can't be
    read.
    """
    info = DatasetInfo.load(root)
    scores: dict[str, float] = {}
    failed: list[Item] = []
    for split in (name for name, images in info.splits.items() if images):
        without_masks = labelled_tasks(info, masks=False)
        masks = bool(info.num_things) and Dataset(root, split, task=without_masks[0]).has_masks
        datasets = [
            Dataset(root, split, task=task) for task in labelled_tasks(info, masks=masks) if not TASKS[task].fields
        ]
        for name, kind in fields_of(info).items():
            if issubclass(kind, Perfect) and name in names("metric"):
                datasets.append(Dataset(root, split, task="detection", fields={name: kind}))
        for dataset in datasets:
            most = max(1, *(len(dataset.annotations(i)) for i in range(len(dataset))))
            reached = _score(dataset, range(len(dataset)), most)
            scores |= {f"{split}/{key}": value for key, value in reached.items()}
            if min(reached.values(), default=1.0) < PERFECT:
                failed += _blame(dataset, most)
    return scores, failed


def _score(dataset: Dataset, positions: Iterable[int], most: int) -> dict[str, float]:
    field = next(iter(dataset.fields), None)
    metric = metric_for(dataset.task, dataset.info, most)
    if field is not None:
        metric = build_metric(field, info=dataset.info, max_detections=MOST, resample=False)
    for i in positions:
        if field is not None and len(dataset.annotations(i)) > MOST:
            continue  # no more detections than these count, so that labels can't score 100 there
        target, annotations = dataset.annotated_target(i)
        Scorer([metric]).update(perfect(target, annotations), target, annotations)
    reached = metric.compute()
    main = [key for key in reached if "error" not in key][:1] if field is not None else MAIN
    return {key: value for key, value in reached.items() if key in main}


def _blame(dataset: Dataset, most: int) -> list[Item]:
    """The images that keep the score under 100 by themselves, with the labels that do not even match themselves."""
    out = []
    for i in range(len(dataset)):
        alone = {key: value for key, value in _score(dataset, [i], most).items() if value < PERFECT}
        if alone:
            low = ", ".join(f"{key} {100 * value:.1f}" for key, value in alone.items())
            reasons = [
                f"annotation {a.get('id')} has the bbox {a['bbox']}, which does not match itself"
                for a in dataset.annotated_target(i)[1]
                if a.get("bbox") and coco_mask.iou(*[np.array([a["bbox"]], np.float64)] * 2, [0])[0, 0] < SAME
            ]
            detail = "; ".join([low, *reasons])
            out.append(Item(dataset.split or "", dataset.file_names[i], detail=detail))
    return out


def perfect(target: Target, annotations: list[Annotation]) -> Prediction:
    """What a model would say that makes no mistake: every label but crowd regions, with the annotated boxes; of a
    dataset with fields, every object that is labelled in each."""
    instances = target.instances
    boxes = instances.boxes.clone()
    for i, annotation in enumerate(annotations):
        if annotation.get("bbox"):
            x, y, w, h = annotation["bbox"]
            boxes[i] = torch.tensor([x, y, x + w, y + h])
    scored = torch.ones(len(instances))
    single = torch.ones(len(instances), dtype=torch.bool) if instances.crowd is None else ~instances.crowd
    fields = dict(instances.fields)
    for name, field in instances.fields.items():
        if isinstance(field, Perfect):
            fields[name], has = field.perfect()
            single = single & has  # without a label there is nothing to say
    everything = type(instances)(boxes, instances.labels, scored, masks=instances.masks, fields=fields)
    panoptic = target.panoptic
    if panoptic is not None:
        crowds = [s.id for s in panoptic.segments if s.crowd]
        ids = np.where(np.isin(panoptic.ids, crowds), 0, panoptic.ids)
        panoptic = Panoptic(ids, [s for s in panoptic.segments if not s.crowd])
    semantic = None if target.semantic is None else target.semantic.numpy()
    return Prediction(target.image_id, target.size, everything[single], semantic, panoptic)
