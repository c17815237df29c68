"""The metric of each task, and how a prediction is counted in several at once."""

import dataclasses
from collections.abc import Callable
from typing import Any

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import UsageError
from segcli.core.plugins import call, find
from segcli.data.dataset import Dataset
from segcli.metrics.instance import InstanceScores
from segcli.types import Prediction

METRICS: dict[str, tuple[str, dict[str, Any]]] = {  # task -> plugin of segcli/metrics and its settings
    "detection": ("instance", {"kinds": ("bbox",)}),
    "instance": ("instance", {"kinds": ("bbox", "segm")}),
    "semantic": ("semantic", {}),
    "panoptic": ("panoptic", {}),
    "keypoints": ("instance", {"kinds": ("bbox",)}),  # and the keypoint head's own
}


def metric_for(task: str, info: DatasetInfo, max_detections: int, *, resample: bool = False) -> Any:
    """The metric of a task. Raises UsageError for one without."""
    if task not in METRICS:
        raise UsageError(f"task {task!r} has no score yet", hint="tasks that have: " + ", ".join(METRICS))
    name, settings = METRICS[task]
    if name == "instance":
        settings = {**settings, "max_detections": max_detections, "resample": resample}
    return call(find("metric", name).build, settings, f"metric {name}", info=info)


@dataclasses.dataclass
class Scorer:
    """One metric, how a prediction is read for it, and which of its scores count (all, or those of things alone)."""

    metric: Any
    view: Callable[[Prediction], Prediction]
    keys: tuple[str, ...] | None = None


def update(metrics: list[Scorer], prediction: Prediction, target: Any, annotations: list[dict[str, Any]]) -> None:
    """Count one image in every metric."""
    for scorer in metrics:
        prediction = scorer.view(prediction)
        if isinstance(scorer.metric, InstanceScores):
            scorer.metric.update([prediction], [target], [annotations])
        else:
            scorer.metric.update([prediction], [target])


def score_one(metric: Any, prediction: Prediction, dataset: Dataset, i: int) -> None:
    """Hold a prediction against the labels of image i in one metric."""
    update([Scorer(metric, lambda p: p)], prediction, *dataset.annotated_target(i))
