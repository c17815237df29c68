"""Boundary AP: the numbers of another implementation, and bands drawn by hand."""

import contextlib
import io

import numpy as np
import pytest
import torch
from faster_coco_eval import COCO, COCOeval_faster
from pycocotools import mask as coco_mask
from scipy.ndimage import distance_transform_cdt
from scored_cases import as_types, classes, only, random_case

from segcli.core.errors import SegcliError
from segcli.metrics.boundary import WIDTH, Band, BoundaryScores
from segcli.types import Instances, Prediction, Target, encode_masks, mask_boxes


def official(truth, results, limit=100):
    """Boundary AP and AP of each class by faster-coco-eval, which has the authors' rules in C++."""
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO(truth)
        run = COCOeval_faster(gt, gt.loadRes(results), "boundary", boundary_dilation_ratio=WIDTH)
        run.params.maxDets = [1, 10, limit]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][..., 0, 2]
    return precision[precision > -1].mean(), [precision[:, :, k].mean() for k in range(precision.shape[2])]


def moved_case(seed, size=(96, 128)):
    """The random case, where every third detection is a label moved by up to one pixel, ties among them."""
    truth, results = random_case(seed, most=60, size=size)
    rng = np.random.default_rng(seed)
    for result in results[::3]:
        labels = [a for a in truth["annotations"] if a["image_id"] == result["image_id"]]
        if labels:
            like = labels[rng.integers(len(labels))]
            mask = np.roll(coco_mask.decode(like["segmentation"]), rng.integers(-1, 2, 2), (0, 1))
            counts = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
            result.update(category_id=like["category_id"], segmentation={"size": list(size), "counts": counts})
    return truth, only(results, "segm")


def blob(size, seed):
    """An irregular mask, through the image's border for some seeds."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, bool)
    for cy, cx, r in zip(rng.uniform(0, size[0], 4), rng.uniform(0, size[1], 4), rng.uniform(8, 40, 4), strict=True):
        mask |= (y - cy) ** 2 + (x - cx) ** 2 < r * r
    return mask


@pytest.mark.parametrize(("seed", "limit", "size"), [(0, 100, (333, 401)), (1, 10, (96, 128)), (4, 100, (240, 300))])
def test_random_detections_score_as_the_reference_scores_them(seed, limit, size):
    truth, results = moved_case(seed, size)
    predictions, targets, _ = as_types(truth, results, "segm")
    scores, other = BoundaryScores(classes(3), limit), BoundaryScores(classes(3), limit)
    for i, one in enumerate(zip(predictions, targets, strict=True)):
        (scores if i % 2 else other).update(*([part] for part in one))
    scores.merge(other)
    expected, by_class = official(truth, results, limit)
    assert 0.03 < expected < 0.95
    assert scores.compute() == {"boundary_AP": pytest.approx(expected, abs=1e-6)}
    found = [scores.per_class()[f"class {k}"]["boundary_AP"] for k in range(3)]
    assert found == pytest.approx(by_class, abs=1e-6)


@pytest.mark.parametrize(("size", "reach"), [((50, 60), 2), ((300, 200), 7), ((20, 20), 1)])
def test_a_band_is_what_lies_within_reach_of_the_outline_or_the_border(size, reach):
    for seed in range(4):
        mask, other = blob(size, seed), np.roll(blob(size, seed), 2, 1)
        near = []
        for m in (mask, other):
            inside = np.pad(m, 1)
            near.append(m & (distance_transform_cdt(inside, "chessboard")[1:-1, 1:-1] <= reach))
        bands = [Band(rle) for rle in encode_masks(np.stack([mask, other]))]
        assert [b.area for b in bands] == [int(n.sum()) for n in near]
        assert bands[0].iou(bands[1]) == (near[0] & near[1]).sum() / (near[0] | near[1]).sum()


def square(side, at=50, size=(400, 400)):
    mask = np.zeros(size, bool)
    mask[at : at + side, at : at + side] = True
    return mask


def score(found, labelled, crowd=None, scores=None):
    size = labelled[0].shape
    of = lambda masks: Instances(
        torch.from_numpy(mask_boxes(np.stack(masks))),
        torch.zeros(len(masks), dtype=torch.int64),
        masks=encode_masks(np.stack(masks)),
    )
    truth = of(labelled)
    truth.crowd = None if crowd is None else torch.tensor(crowd)
    predicted = of(found)
    predicted.scores = torch.linspace(0.9, 0.5, len(found)) if scores is None else torch.tensor(scores)
    metric = BoundaryScores(classes(1))
    metric.update([Prediction(1, size, predicted)], [Target(1, size, truth)])
    return metric.compute()["boundary_AP"]


def test_a_loose_outline_costs_a_large_object_more_than_its_mask_iou_says():
    assert score([square(200)], [square(200)]) == 1.0
    loose = square(212, at=44)
    iou = coco_mask.iou(*(encode_masks(m[None]) for m in (loose, square(200))), [0])[0, 0]
    assert iou > 0.85
    assert score([loose], [square(200)]) < 0.15, "half of the band is missed"


def test_crowds_excuse_detections_within_them_and_a_second_detection_is_wrong():
    here, crowd, inside = square(60), square(100, at=200), square(40, at=210)
    assert score([inside, here], [here, crowd], crowd=[False, True]) == 1.0
    assert score([inside, here], [here, crowd]) < 1.0
    assert score([here, here], [here, crowd], crowd=[False, True]) == 1.0, "found before it is found again"
    twice = [here, here, square(60, at=300)]
    assert score(twice, [here, square(60, at=300)], scores=[0.9, 0.8, 0.7]) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_nothing_to_find_has_no_score_and_nothing_found_scores_nothing():
    metric = BoundaryScores(classes(2))
    assert metric.compute() == {}
    assert metric.per_class() == {"class 0": {}, "class 1": {}}
    empty = Instances.empty((40, 40))
    metric.update([Prediction(1, (40, 40), None)], [Target(1, (40, 40), empty)])
    assert metric.compute() == {}
    labelled = Instances(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([1]), masks=torch.ones(1, 40, 40).bool())
    metric.update([Prediction(2, (40, 40), None)], [Target(2, (40, 40), labelled)])
    assert metric.compute() == {"boundary_AP": 0.0}
    assert metric.per_class() == {"class 0": {}, "class 1": {"boundary_AP": 0.0}}


def test_a_score_that_is_no_number_is_refused():
    bad = Instances(
        torch.tensor([[0.0, 0, 9, 9]]),
        torch.tensor([0]),
        torch.tensor([float("nan")]),
        masks=encode_masks(np.ones((1, 40, 40), bool)),
    )
    with pytest.raises(SegcliError, match=r"image 3: .*not a number"):
        BoundaryScores(classes(1)).update([Prediction(3, (40, 40), bad)], [Target(3, (40, 40), Instances.empty())])


def test_resamples_are_scores_of_the_images_drawn():
    truth, results = moved_case(6)
    predictions, targets, _ = (part[:6] for part in as_types(truth, results, "segm"))
    whole, part = BoundaryScores(classes(3)), BoundaryScores(classes(3))
    whole.update(predictions, targets)
    part.update(predictions[1:4], targets[1:4])
    found = whole.replicates(np.array([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0]], np.float32))["boundary_AP"]
    assert found[0] == pytest.approx(whole.compute()["boundary_AP"])
    assert found[1] == pytest.approx(part.compute()["boundary_AP"])
