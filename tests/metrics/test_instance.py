"""COCO AP: the numbers of pycocotools, on its own reference case and on random detections."""

import json

import numpy as np
import pytest
import torch
from scored_cases import KEYS, as_types, classes, official, only, random_case

from segcli.core.errors import SegcliError
from segcli.metrics.instance import InstanceScores
from segcli.types import Instances, Prediction, Target, encode_masks, mask_boxes


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
