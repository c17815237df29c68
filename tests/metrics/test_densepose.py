"""DensePose's scores at labelled points, by hand."""

import numpy as np
import pytest
import torch

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.fields.densepose import DensePose, surface
from segcli.metrics.densepose import DensePoseScores, build
from segcli.types import Instances, Prediction, Target

INFO = DatasetInfo("people", (Category("person", 1), Category("puppet", 2)), {})
SURFACE = surface({})
POINTS = torch.tensor([[12.0, 12, 3, 0.5, 0.5], [28, 12, 3, 0.5, 0.5], [12, 28, 4, 0.2, 0.2], [28, 28, 5, 0.5, 0.5]])


def target(points: torch.Tensor = POINTS, image: int = 1, label: int = 0) -> Target:
    field = DensePose([points], [None], torch.zeros(1, 2, 3), SURFACE, None, None)
    boxes = torch.tensor([[10.0, 10, 30, 30]])
    return Target(image, (40, 40), Instances(boxes, torch.tensor([label]), fields={"densepose": field}))


def prediction(rows: list[tuple[float, int, float]], image: int = 1, label: int = 0) -> Prediction:
    """Detections of the same box: (score, chart everywhere, u and v everywhere)."""
    maps = [
        torch.tensor([chart, round(uv * 255), round(uv * 255)]).byte().view(3, 1, 1).repeat(1, 20, 20)
        for _, chart, uv in rows
    ]
    boxes = torch.tensor([[10.0, 10, 30, 30]]).repeat(len(rows), 1)
    field = DensePose.predicted(maps, boxes, SURFACE)
    scores = torch.tensor([row[0] for row in rows])
    labels = torch.full((len(rows),), label)
    return Prediction(image, (40, 40), Instances(boxes, labels, scores, fields={"densepose": field}))


def scored(*pairs: tuple[Prediction, Target]) -> DensePoseScores:
    metric = build(info=INFO)
    for one, other in pairs:
        metric.update([one], [other])
    return metric


def test_right_charts_are_counted_and_distances_only_there():
    scores = scored((prediction([(0.9, 3, 0.6)]), target())).compute()
    assert scores["densepose_part_accuracy"] == 0.5
    assert scores["densepose_uv_error"] == pytest.approx(0.1 * 2**0.5, abs=2e-3)


def test_an_object_is_read_from_its_best_detection():
    assert scored((prediction([(0.3, 3, 0.5), (0.8, 5, 0.5)]), target())).compute()["densepose_part_accuracy"] == 0.25


def test_points_of_missed_objects_and_of_another_class_are_wrong():
    nothing = Prediction(1, (40, 40), Instances.empty())
    for one in (nothing, prediction([(0.9, 3, 0.5)], label=1)):
        assert scored((one, target())).compute() == {"densepose_part_accuracy": 0}


def test_objects_without_points_say_nothing():
    assert scored((prediction([(0.9, 3, 0.5)]), target(POINTS[:0]))).compute() == {}


def test_resamples_classes_and_merged_parts_agree_with_counting_again():
    pairs = [
        (prediction([(0.9, 3, 0.6)], image=7), target(image=7)),
        (prediction([(0.9, 4, 0.6)], image=2, label=1), target(image=2, label=1)),
    ]
    whole, part = scored(*pairs), scored(pairs[0])
    part.merge(scored(pairs[1]))
    assert part.compute() == whole.compute()
    drawn = whole.replicates(np.array([[1, 1], [0, 2]], np.float32))  # images 2 and 7
    assert drawn["densepose_part_accuracy"].tolist() == [3 / 8, 1 / 2]
    assert whole.per_class()["puppet"]["densepose_part_accuracy"] == 0.25
