"""What there is to score: random COCO cases, panoptic and class maps, simulated models; and pycocotools' AP."""

import contextlib
import io
import json

import numpy as np
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.metrics.panoptic import PanopticScores
from segcli.ops import bootstrap
from segcli.types import Instances, Panoptic, Prediction, Segment, Target

KEYS = ["AP", "AP50", "AP75", "APs", "APm", "APl"]


def classes(count):
    return DatasetInfo("test", tuple(Category(f"class {i}", i + 1) for i in range(count)), {"val": 1})


def official(truth, results, kind, max_detections=100):
    """pycocotools' six AP numbers, averaged as its summary does, with the limit in the place of its 100."""
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = truth
        gt.createIndex()
        run = COCOeval(gt, gt.loadRes(json.loads(json.dumps(results))), kind)
        run.params.maxDets = [1, 10, max_detections]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][..., 2]
    parts = [precision[..., 0], precision[0, ..., 0], precision[5, ..., 0], *(precision[..., a] for a in (1, 2, 3))]
    return {f"{kind}_{key}": p[p > -1].mean() for key, p in zip(KEYS, parts, strict=True) if (p > -1).any()}


def as_types(truth, results, kind):
    """COCO json -> (predictions, targets, annotations) with labels = positions in the category list."""
    label = {c["id"]: i for i, c in enumerate(truth["categories"])}
    out = []
    for image in truth["images"]:
        size = (image["height"], image["width"])
        annotations = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        found = [r for r in results if r["image_id"] == image["id"]]
        boxes = lambda items: torch.tensor(
            [[b[0], b[1], b[0] + b[2], b[1] + b[3]] for b in (a["bbox"] for a in items)], dtype=torch.float64
        ).reshape(-1, 4)
        labels = lambda items: torch.tensor([label[a["category_id"]] for a in items], dtype=torch.int64)
        instances = Instances(
            boxes=boxes(annotations),
            labels=labels(annotations),
            crowd=torch.tensor([bool(a["iscrowd"]) for a in annotations], dtype=torch.bool),
            masks=[to_rle(a["segmentation"], size) for a in annotations],
        )
        predicted = Instances(
            boxes=boxes(found) if kind == "bbox" else torch.zeros(len(found), 4),
            labels=labels(found),
            scores=torch.tensor([r["score"] for r in found], dtype=torch.float64),
            masks=[r["segmentation"] for r in found] if kind == "segm" else None,
        )
        out.append((Prediction(image["id"], size, predicted), Target(image["id"], size, instances), annotations))
    return tuple(map(list, zip(*out, strict=True)))


def to_rle(segmentation, size):
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, *size)
    return segmentation


def random_case(seed, images=8, most=150, classes=3, size=(96, 128)):
    """COCO json: noisy copies of the labels, false alarms, ties, crowds, empty images, more detections than counted."""
    rng = np.random.default_rng(seed)
    truth = {"images": [], "annotations": [], "categories": [{"id": 10 * (c + 1)} for c in range(classes)]}
    results = []
    for image_id in range(images):
        truth["images"].append({"id": image_id, "height": size[0], "width": size[1]})
        n = int(rng.integers(1, 25)) if image_id % 4 else 0
        for _ in range(n):
            y, x = rng.integers(0, size[0] - 4), rng.integers(0, size[1] - 4)
            h, w = rng.integers(2, 90, 2)
            mask = np.zeros(size, np.uint8)
            mask[y : y + h, x : x + w] = 1
            mask[y + h // 3 : y + h // 2, x + w // 3 :] = 0
            rle = coco_mask.encode(np.asfortranarray(mask))
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": int(10 * rng.integers(1, classes + 1)),
                    "iscrowd": int(rng.random() < 0.15),
                    "bbox": coco_mask.toBbox(rle).tolist(),
                    "area": float(coco_mask.area(rle)) * 0.97,
                    "segmentation": {"size": list(size), "counts": rle["counts"].decode()},
                }
            )
        labels = [a for a in truth["annotations"] if a["image_id"] == image_id]
        for _ in range(int(rng.integers(0, most)) if image_id % 3 else most):
            if labels and rng.random() < 0.8:
                like = labels[rng.integers(len(labels))]
                x, y, w, h = np.asarray(like["bbox"]) + rng.normal(0, 2, 4)
                category = like["category_id"] if rng.random() < 0.9 else 10
            else:
                x, y, w, h = rng.uniform(0, 80, 4)
                category = int(10 * rng.integers(1, classes + 1))
            x, y = np.clip(x, 0, size[1] - 2), np.clip(y, 0, size[0] - 2)
            w, h = np.clip(w, 1, size[1] - x), np.clip(h, 1, size[0] - y)
            mask = np.zeros(size, np.uint8)
            mask[int(y) : int(y + h) + 1, int(x) : int(x + w) + 1] = 1
            rle = coco_mask.encode(np.asfortranarray(mask))
            results.append(
                {
                    "image_id": image_id,
                    "category_id": category,
                    "score": round(float(rng.random()), 1 if rng.random() < 0.5 else 6),  # many ties
                    "bbox": [float(v) for v in (x, y, w, h)],
                    "segmentation": {"size": list(size), "counts": rle["counts"].decode()},
                }
            )
    return truth, results


def only(results, kind):
    """Results of one kind: with a bbox beside the mask, pycocotools would take the box's area for masks."""
    drop = {"bbox": "segmentation", "segm": "bbox"}[kind]
    return [{k: v for k, v in r.items() if k != drop} for r in results]


INFO = DatasetInfo("test", (Category("cat", 1), Category("dog", 2), Category("sky", 3, thing=False)), {"val": 1})


CAT, DOG, SKY = range(3)


def panoptic(ids, **segments):
    """`panoptic([[1, 2]], s1=CAT, s2=(CAT, "crowd"))`."""
    listed = []
    for name, value in segments.items():
        label, crowd = (value[0], True) if isinstance(value, tuple) else (value, False)
        listed.append(Segment(int(name[1:]), label, crowd=crowd))
    return Panoptic(np.asarray(ids, np.int32), listed)


def score(predicted, labelled, info=INFO, image_id=1):
    scores = PanopticScores(info)
    scores.update(
        [Prediction(image_id, predicted.ids.shape, panoptic=predicted)],
        [Target(image_id, labelled.ids.shape, Instances.empty(), panoptic=labelled)],
    )
    return scores


def random_panoptic(rng, shape, crowd):
    """A map of rectangles over void, with at most one crowd region a class (as COCO has it)."""
    ids, labels = np.zeros(shape, np.int32), {}
    for number in range(1, 12):
        y, x = rng.integers(0, shape[0] - 5), rng.integers(0, shape[1] - 5)
        ids[y : y + rng.integers(5, 30), x : x + rng.integers(5, 30)] = number
        labels[number] = int(rng.integers(3))
    crowds = {}
    if crowd:
        crowds = {label: number for number, label in labels.items() if label != SKY and rng.random() < 0.5}
    present = set(np.unique(ids).tolist()) - {0}
    return Panoptic(ids, [Segment(n, labels[n], crowd=crowds.get(labels[n]) == n) for n in sorted(present)])


def pair(predicted, labelled, image_id=1):
    predicted, labelled = np.asarray(predicted), np.asarray(labelled)
    truth = torch.from_numpy(labelled.astype(np.int64))
    return (
        [Prediction(image_id, predicted.shape, semantic=predicted)],
        [Target(image_id, labelled.shape, Instances.empty(), truth)],
    )


def random_maps(seed, count, images=5):
    rng = np.random.default_rng(seed)
    for _ in range(images):
        shape = tuple(rng.integers(20, 60, 2))
        labelled = rng.integers(0, count - 1, shape)  # the last class is predicted and never labelled
        predicted = np.where(rng.random(shape) < 0.6, labelled, rng.integers(0, count, shape))
        labelled[rng.random(shape) < 0.2] = 255
        yield predicted.astype(np.uint8), labelled


def simulate(rng, hardness, skill):
    """One model's detections on images of given hardness [I], as a tally of one class, area and threshold."""
    tally = bootstrap.ApTally(1, [("all", (0, 1e10))], thresholds=1)
    for i, hard in enumerate(hardness):
        objects = 3
        hits = rng.random(objects) < skill * (1 - 0.5 * hard)
        scores = np.concatenate([rng.beta(4, 2, hits.sum()), rng.beta(2, 3, 3)])
        order = np.argsort(-scores)
        hit = (np.arange(len(scores)) < hits.sum())[order]
        tally.add(
            i,
            [
                {
                    **{"category_id": 1, "aRng": (0, 1e10), "gtIgnore": [0] * objects, "dtScores": scores[order]},
                    **{"dtMatched": [hit], "dtIgnore": [np.zeros(len(hit), bool)]},
                }
            ],
        )
    return tally


def trials(count, images, resamples, skills, seed=0):
    """[count,3]: the difference in AP of two simulated models and the ends of its 95 % interval."""
    rng, out = np.random.default_rng(seed), []
    for trial in range(count):
        hardness = rng.random(images)
        times = np.concatenate([np.ones((1, images), np.float32), bootstrap.draw(images, resamples, seed=trial)])
        a, b = (simulate(rng, hardness, skill).average_precision(times).ravel() for skill in skills)
        out.append([a[0] - b[0], *np.percentile(a[1:] - b[1:], (2.5, 97.5))])
    return np.array(out)
