"""Intervals: replicates are the scores of the resampled images, equal models differ as often as they should."""

import numpy as np
import pytest
from scored_cases import (
    INFO,
    as_types,
    classes,
    official,
    only,
    pair,
    random_case,
    random_maps,
    random_panoptic,
    score,
    trials,
)

from segcli.metrics.instance import InstanceScores
from segcli.metrics.semantic import SemanticScores
from segcli.ops import bootstrap


def drawn(truth, results, times):
    """The COCO json of a resample: every image as often as it was drawn, under an id of its own."""
    made, found = {"images": [], "annotations": [], "categories": truth["categories"]}, []
    for image, count in zip(truth["images"], times, strict=True):
        for _ in range(int(count)):
            new = len(made["images"])
            made["images"].append({**image, "id": new})
            for a in (a for a in truth["annotations"] if a["image_id"] == image["id"]):
                made["annotations"].append({**a, "image_id": new, "id": len(made["annotations"]) + 1})
            found += [{**r, "image_id": new} for r in results if r["image_id"] == image["id"]]
    return made, found


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_a_replicate_is_what_pycocotools_says_of_the_resampled_images(kind):
    truth, results = random_case(5, images=8, most=40)
    for i, result in enumerate(np.random.default_rng(0).permutation(len(results))):
        results[result]["score"] = (i + 1) / (len(results) + 1)  # no ties: copies would be sorted into them
    results = only(results, kind)
    scores = InstanceScores(classes(3), (kind,), resample=True)
    half = InstanceScores(classes(3), (kind,), resample=True)
    predictions, targets, annotations = as_types(truth, results, kind)
    scores.update(predictions[:5], targets[:5], annotations[:5])
    half.update(predictions[5:], targets[5:], annotations[5:])
    scores.merge(half)
    times = bootstrap.draw(8, 2, seed=1)
    found = scores.replicates(np.concatenate([np.ones((1, 8), np.float32), times]))
    assert {k: v[0] for k, v in found.items()} == pytest.approx(scores.compute(), abs=1e-6)
    for i, counts in enumerate(times, start=1):
        expected = official(*drawn(truth, results, counts), kind)
        assert {k: v[i] for k, v in found.items()} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("empty", [True, False], ids=["no detection", "no detection and no object"])
def test_images_without_detections_have_intervals_of_nothing(empty):
    truth, _ = random_case(5, images=8, most=1)
    truth["annotations"] = truth["annotations"] if empty else []
    for kind in ("bbox", "segm"):
        scores = InstanceScores(classes(3), (kind,), resample=True)
        scores.update(*as_types(truth, [], kind))
        found = scores.replicates(bootstrap.draw(8, 3))
        assert found.keys() == scores.compute().keys()
        assert bool(found) == empty
        assert all((values[~np.isnan(values)] == 0).all() for values in found.values())


def test_both_ways_of_summing_up_agree():
    rng = np.random.default_rng(3)
    image, hit = rng.integers(0, 300, 900), rng.random(900) < 0.05
    times = bootstrap.draw(300, 20)
    few = bootstrap._weighted(image, hit, times, np.full(20, 60.0))  # many images, few hits: summed one by one
    close = bootstrap._weighted(np.append(image, 0), np.append(hit, False), times, np.full(20, 60.0))
    assert few == pytest.approx(close)
    grouped = times[:, :1] * np.ones(20)[:, None]
    assert bootstrap._weighted(np.zeros(9, int), hit[:9] | True, grouped, 9 * grouped[:, 0]) == pytest.approx(
        (grouped[:, 0] > 0).astype(float)
    )


def test_label_maps_and_panoptic_maps_are_resampled_too():
    times = np.array([[1, 1, 1, 1], [0, 2, 1, 1]], np.float32)
    maps = list(random_maps(4, 5))[:4]
    whole, resampled = SemanticScores(classes(5)), SemanticScores(classes(5))
    for i, one in enumerate(maps):
        whole.update(*pair(*one, i))
    for i, at in enumerate((1, 1, 2, 3)):
        resampled.update(*pair(*maps[at], i))
    found = whole.replicates(times)
    assert {k: v[0] for k, v in found.items()} == pytest.approx(whole.compute())
    assert {k: v[1] for k, v in found.items()} == pytest.approx(resampled.compute())
    rng = np.random.default_rng(0)
    labels = [random_panoptic(rng, (40, 50), crowd=False) for _ in range(4)]
    answers = [random_panoptic(np.random.default_rng(i % 2), (40, 50), crowd=False) for i in range(4)]
    made = [score(a, b, INFO, i) for i, (a, b) in enumerate(zip(answers, labels, strict=True))]
    for other in made[1:]:
        made[0].merge(other)
    found = made[0].replicates(times)
    assert {k: v[0] for k, v in found.items()} == pytest.approx(made[0].compute())
    assert found["PQ"][1] != found["PQ"][0]


def test_equal_models_seldom_differ_and_a_real_difference_is_covered():
    found = trials(40, 200, 200, (0.7, 0.7))
    assert ((found[:, 1] > 0) | (found[:, 2] < 0)).sum() <= 7, "expected 2 of 40; more than 7 once in a thousand times"
    truth = trials(1, 20_000, 1, (0.8, 0.6), seed=9)[0, 0]
    found = trials(40, 200, 200, (0.8, 0.6), seed=1)
    assert ((found[:, 1] < truth) & (truth < found[:, 2])).sum() >= 33
    assert (found[:, 1] > 0).sum() >= 38, "a difference of this size is found"
