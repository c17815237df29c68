"""A task that a model does not do, or a dataset without what it learns, is one line with the way out."""

import pytest

from segcli.core.errors import UsageError
from segcli.models import build_model

BACKBONE = {"name": "resnet", "depth": 18}


@pytest.mark.parametrize(
    ("name", "task", "words", "hint"),
    [
        ("rcnn", "semantic", "", "tasks: detection, instance, keypoints, densepose, mesh"),
        ("rcnn_lite", "panoptic", "", "tasks: detection, instance, keypoints, densepose, mesh"),
        ("detr", "keypoints", "", "tasks: detection, instance, panoptic"),
        ("detr_lite", "instance", ": it has boxes alone", "tasks: detection, or model.name: maskformer_lite"),
        ("detr_lite", "keypoints", ": it has boxes alone", "tasks: detection"),
        ("maskformer", "detection", "", "tasks: semantic, instance, panoptic"),
        ("fcn", "instance", ": it has one label for each pixel", "tasks: semantic, or model.name: maskformer"),
        ("per_pixel", "detection", ": it has one label for each pixel", "tasks: semantic"),
    ],
)
def test_another_task_is_refused_with_those_that_the_model_does(name, task, words, hint):
    settings = {"name": name, "backbone": BACKBONE, **({"heads": {}} if name.startswith("rcnn") else {})}
    with pytest.raises(UsageError) as refused:
        build_model(settings, task=task, num_classes=3, num_things=2)
    assert str(refused.value).splitlines()[0] == f"model {name} does not do task {task!r}{words}"
    assert refused.value.hint == hint


@pytest.mark.parametrize("name", ["rcnn", "detr", "detr_lite"])
def test_a_dataset_without_things_is_refused(name):
    settings = {"name": name, "backbone": BACKBONE, **({"heads": {"box": {}}} if name == "rcnn" else {})}
    with pytest.raises(UsageError, match=f"model {name} needs thing classes for task detection"):
        build_model(settings, task="detection", num_classes=2, num_things=0)
