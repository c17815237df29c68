"""Scores of class maps, against hand-made cases and two independent implementations."""

import numpy as np
import pytest
import torch
from hotcoco.semantic import SemanticEval
from scored_cases import classes, pair, random_maps

from segcli.core.errors import SegcliError
from segcli.metrics.semantic import SemanticScores


def test_a_case_counted_by_hand():
    scores = SemanticScores(classes(4))
    # class 0: 2 right of 3 labelled, 1 falsely predicted; class 1: 1 right of 2, 1 false; class 2 only where ignored
    scores.update(*pair([[0, 0, 1], [1, 0, 2]], [[0, 0, 0], [1, 1, 255]]))
    computed = scores.compute()
    assert computed["pixel_accuracy"] == pytest.approx(3 / 5)
    assert computed["mIoU"] == pytest.approx((2 / 4 + 1 / 3) / 2)  # classes 2 and 3 appear nowhere that counts
    assert computed["fwIoU"] == pytest.approx(3 / 5 * 2 / 4 + 2 / 5 * 1 / 3)
    assert scores.per_class()["class 1"] == {"IoU": pytest.approx(1 / 3), "accuracy": 0.5}
    assert scores.per_class()["class 3"] == {}


def test_a_class_that_is_only_predicted_counts_zero():
    scores = SemanticScores(classes(3))
    scores.update(*pair([[0, 2]], [[0, 0]]))
    assert scores.compute()["mIoU"] == pytest.approx((1 / 2 + 0) / 2)


def test_a_pixel_without_an_answer_is_a_miss():
    scores = SemanticScores(classes(2))
    scores.update(*pair([[0, 255]], [[0, 0]]))
    assert scores.compute() == {"mIoU": 0.5, "fwIoU": 0.5, "pixel_accuracy": 0.5}


def test_labels_as_predictions_score_one_and_nothing_labelled_has_no_score():
    scores = SemanticScores(classes(5))
    scores.update(*pair([[3, 1]], [[255, 255]]))
    assert scores.compute() == {}
    for _, labelled in random_maps(0, 5):
        scores.update(*pair(labelled, labelled))
    assert scores.compute() == {"mIoU": 1.0, "fwIoU": 1.0, "pixel_accuracy": 1.0}


def test_random_maps_score_as_hotcoco_scores_them_and_shares_add_up():
    ours, other, oracle = SemanticScores(classes(7)), SemanticScores(classes(7)), SemanticEval(7)
    for i, (predicted, labelled) in enumerate(random_maps(1, 7)):
        (ours if i % 2 else other).update(*pair(predicted, labelled, i))
        oracle.update(labelled.astype(np.uint8), predicted)
    ours.merge(other)
    expected = oracle.report()["metrics"]
    computed = ours.compute()
    assert computed["mIoU"] == pytest.approx(expected["mIoU"], abs=1e-12)
    assert computed["fwIoU"] == pytest.approx(expected["fwIoU"], abs=1e-12)
    assert computed["pixel_accuracy"] == pytest.approx(expected["aAcc"], abs=1e-12)


def test_random_maps_score_as_torchmetrics_scores_them():
    oracle = pytest.importorskip("torchmetrics.classification", reason="torchmetrics is not installed")
    jaccard = oracle.MulticlassJaccardIndex(7, average="none", ignore_index=255, validate_args=False)
    scores = SemanticScores(classes(7))
    for predicted, labelled in random_maps(2, 7):
        scores.update(*pair(predicted, labelled))
        jaccard.update(torch.from_numpy(predicted.astype(np.int64)), torch.from_numpy(labelled.astype(np.int64)))
    ious = [scores.per_class()[f"class {i}"]["IoU"] for i in range(7)]
    assert ious == pytest.approx(jaccard.compute().tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("predicted", "labelled", "message"),
    [
        ([[0, 3]], [[0, 1]], "the predicted map holds 3, but there are 2 classes"),
        ([[0, 1]], [[0, 2]], "the label map holds 2, but there are 2 classes"),
        ([[0, -1]], [[0, 1]], "the predicted map holds -1"),
        ([[0, 1, 1]], [[0, 1]], r"the predicted map is \[1, 3\], the label map \[1, 2\]"),
    ],
)
def test_maps_that_can_not_be_scored_are_named(predicted, labelled, message):
    with pytest.raises(SegcliError, match=f"image 9: {message}"):
        SemanticScores(classes(2)).update(*pair(predicted, labelled, 9))
