"""Scores of more classes than a confusion matrix, or all resamples at once, have room for: the same numbers."""

import numpy as np
import torch

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.metrics import panoptic, semantic
from segcli.ops import bootstrap
from segcli.types import Instances, Panoptic, Prediction, Segment, Target

IDS = np.kron(np.arange(1, 13).reshape(3, 4), np.ones((4, 4), int)).astype(np.int32)


def info(count):
    return DatasetInfo("many", tuple(Category(f"c{i}", i, thing=i < 9) for i in range(count)), {"val": 1})


def test_without_a_confusion_matrix_the_scores_are_the_same(monkeypatch):
    times, found = bootstrap.draw(4, 20), []
    for most, at_once in ((2000, 2**25), (10, 200)):
        monkeypatch.setattr(semantic, "MOST", most)
        monkeypatch.setattr(semantic, "AT_ONCE", at_once)
        scores, rng = semantic.SemanticScores(info(20)), np.random.default_rng(0)
        for i in range(4):
            labelled = rng.integers(0, 20, (9, 9))
            predicted = np.where(rng.random((9, 9)) < 0.6, labelled, 3)
            labelled[0] = 255
            target = Target(i, (9, 9), Instances.empty(), torch.from_numpy(labelled))
            scores.update([Prediction(i, (9, 9), semantic=predicted)], [target])
        assert (scores.diagnostics()["confusion"] is None) == (most == 10)
        resampled = {key: values.tolist() for key, values in scores.replicates(times).items()}
        found.append((scores.compute(), scores.per_class(), resampled))
    assert found[0] == found[1]
    assert 0.1 < found[0][0]["mIoU"] < 1


def test_panoptic_resamples_a_few_classes_at_a_time(monkeypatch):
    scores, rng = panoptic.PanopticScores(info(20)), np.random.default_rng(0)
    for i in range(4):
        segments = [Segment(int(k), int(rng.integers(0, 20))) for k in range(1, 13)]
        labelled, predicted = Panoptic(IDS, segments), Panoptic(np.roll(IDS, i, 1), segments)
        target = Target(i, IDS.shape, Instances.empty(), panoptic=labelled)
        scores.update([Prediction(i, IDS.shape, panoptic=predicted)], [target])
    times = bootstrap.draw(4, 20)
    whole = scores.replicates(times)
    monkeypatch.setattr(panoptic, "AT_ONCE", 4 * 20 * 3)  # three classes
    parts = scores.replicates(times)
    assert {key: values.tolist() for key, values in whole.items()} == {k: v.tolist() for k, v in parts.items()}
    assert 0 < whole["PQ"].mean() < 1
