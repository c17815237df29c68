"""COCO AP: the numbers of pycocotools, on its own reference case and on random detections."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import SegcliError
from segcli.metrics.instance import InstanceScores
from segcli.types import Instances, Prediction, Target, encode_masks, mask_boxes

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


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_cocos_reference_case_gives_the_official_numbers(shared_data, kind):
    folder = shared_data / "coco_eval_fake100"
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    results = json.loads((folder / f"instances_val2014_fake{kind}100_results.json").read_text())
    scores = InstanceScores(classes(80), (kind,))
    scores.update(*as_types(truth, results, kind))
    computed = scores.compute()
    assert computed == pytest.approx(official(truth, results, kind), abs=1e-9)
    printed = {"bbox": [0.505, 0.697, 0.573, 0.586, 0.519, 0.501], "segm": [0.320, 0.562, 0.299, 0.387, 0.310, 0.327]}
    assert [round(computed[f"{kind}_{k}"], 3) for k in KEYS] == printed[kind]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize(("seed", "limit"), [(0, 100), (1, 20), (2, 300)])
def test_random_detections_score_as_pycocotools_scores_them(kind, seed, limit):
    truth, results = random_case(seed, most=400 if limit == 300 else 150)
    predictions, targets, annotations = as_types(truth, only(results, kind), kind)
    scores = InstanceScores(classes(3), (kind,), limit)
    for i in np.random.default_rng(seed).permutation(len(targets)):  # the order of images does not matter
        scores.update([predictions[i]], [targets[i]], [annotations[i]])
    assert scores.compute() == pytest.approx(official(truth, only(results, kind), kind, limit), abs=1e-9)


def test_two_processes_together_score_what_one_scores():
    truth, results = random_case(3)
    batch = as_types(truth, results, "segm")
    whole, *halves = (InstanceScores(classes(3)) for _ in range(3))
    whole.update(*batch)
    for i, half in enumerate(halves):
        half.update(*(part[i::2] for part in batch))
    before = halves[0].compute()
    halves[0].merge(halves[1])
    assert halves[0].compute() == whole.compute() != before
    assert halves[0].per_class() == whole.per_class()


def test_labels_as_predictions_score_one_and_a_higher_limit_is_needed_for_more_objects():
    size = (200, 300)
    masks = np.zeros((150, *size), bool)
    for i in range(150):
        masks[i, 10 * (i // 15) : 10 * (i // 15) + 4 + i % 6, 20 * (i % 15) : 20 * (i % 15) + 9] = True
    boxes, labels = torch.from_numpy(mask_boxes(masks)), torch.zeros(150, dtype=torch.int64)
    target = Target(7, size, Instances(boxes, labels, masks=torch.from_numpy(masks)))
    found = Instances(boxes, labels, scores=torch.linspace(1, 0.5, 150), masks=encode_masks(masks))
    for limit, expected in ((100, 100 / 150), (150, 1.0)):
        scores = InstanceScores(classes(1), max_detections=limit)
        scores.update([Prediction(7, size, found)], [target])
        computed = scores.compute()
        assert computed["bbox_AP"] == computed["segm_AP"] == pytest.approx(expected, abs=0.01)
        assert (computed["segm_AP"] == 1.0) == (limit == 150)


def test_what_the_labels_say_nothing_about_has_no_key():
    masks = np.zeros((1, 50, 50), bool)
    masks[0, :40, :40] = True
    target = Target(
        1, (50, 50), Instances(torch.tensor([[0.0, 0, 40, 40]]), torch.tensor([1]), masks=torch.tensor(masks))
    )
    scores = InstanceScores(classes(3))
    assert scores.compute() == {}
    scores.update([Prediction(1, (50, 50), Instances.empty())], [target])
    assert scores.compute() == {f"{k}_{m}": 0.0 for k in ("bbox", "segm") for m in ("AP", "AP50", "AP75", "APm")}
    none, seen = {}, {f"{k}_{m}": 0.0 for k in ("bbox", "segm") for m in ("AP", "AP50")}
    assert scores.per_class() == {"class 0": none, "class 1": seen, "class 2": none}


def test_annotated_areas_decide_the_size_range():
    masks = np.zeros((1, 50, 50), bool)
    masks[0, :40, :40] = True
    instances = Instances(torch.tensor([[0.0, 0, 40, 40]]), torch.tensor([0]), masks=torch.tensor(masks))
    scores = InstanceScores(classes(1), ("bbox",))
    scores.update([Prediction(1, (50, 50))], [Target(1, (50, 50), instances)], [[{"area": 1000.0}]])
    assert "bbox_APs" in scores.compute()
    assert "bbox_APm" not in scores.compute()


@pytest.mark.parametrize(
    ("score", "shape", "message"),
    [(float("nan"), (50, 50), "not a number"), (0.5, (50, 49), r"mask is of size \[50, 49\], the image \[50, 50\]")],
)
def test_predictions_that_can_not_be_scored_are_named(score, shape, message):
    masks = encode_masks(np.ones((1, *shape), bool))
    found = Instances(torch.tensor([[0.0, 0, 40, 40]]), torch.tensor([0]), torch.tensor([score]), masks=masks)
    with pytest.raises(SegcliError, match=f"image 12: .*{message}"):
        InstanceScores(classes(1)).update(
            [Prediction(12, (50, 50), found)], [Target(12, (50, 50), Instances.empty((50, 50)))]
        )
