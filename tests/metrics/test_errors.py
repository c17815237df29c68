"""What lies behind an AP: counted on a case that one can count by hand."""

import numpy as np
import pytest
import torch

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.metrics.instance import InstanceScores
from segcli.types import Instances, Prediction, Target, encode_masks

INFO = DatasetInfo("two", (Category("square", 1), Category("rhombus", 2)), {"val": 3})
PLACES = torch.tensor([[0.0, 0, 20, 20], [40, 0, 60, 20], [0, 40, 20, 60], [40, 40, 60, 60]])


def objects(places, labels, scores=None):
    masks = np.zeros((len(places), 64, 64), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, places.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    return Instances(places, torch.tensor(labels), scores, masks=encode_masks(masks))


@pytest.mark.parametrize("parts", [1, 3])
def test_confusion_errors_and_calibration_of_boxes_and_masks(parts):
    """Of twelve objects, one a shape an image: the first image's square is taken for a rhombus, the second one's is
    found twice, the third one's is missed; the last object is never found, and one detection has nothing there."""
    metrics = [InstanceScores(INFO, resample=True) for _ in range(parts)]
    for i in range(3):
        truth = objects(PLACES, [0, 1, 0, 1])
        places, labels = PLACES[:3].clone(), [1, 1, 0] if i == 0 else [0, 1, 0]
        if i == 1:
            places, labels = torch.cat([places, places[:1] + 1]), [*labels, 0]
        if i == 2:
            places, labels = torch.cat([places[1:], torch.tensor([[20.0, 20, 40, 40]])]), [1, 0, 1]
        scores = torch.linspace(0.9, 0.6, len(places))
        prediction = Prediction(i, (64, 64), objects(places, labels, scores))
        metrics[i % parts].update([prediction], [Target(i, (64, 64), truth)])
    first, *others = metrics
    for other in others:
        first.merge(other)
    behind = first.diagnostics()
    assert behind["kinds"].keys() == {"bbox", "segm"}
    for kind in behind["kinds"].values():
        assert kind["confusion"] == [[4, 1, 1], [0, 3, 3], [1, 1, 0]]
        assert kind["tide"]["counts"] == {"Cls": 1, "Loc": 0, "Both": 0, "Dupe": 1, "Bkg": 1, "Miss": 4}
        assert kind["tide"]["lost"]["Miss"] > kind["tide"]["lost"]["Dupe"]
        assert sum(one["count"] for one in kind["calibration"]["bins"]) == 10
