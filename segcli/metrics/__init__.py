"""The metric of each task, and how a prediction is counted in several at once."""

import dataclasses
from collections.abc import Callable
from typing import Any

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import UsageError
from segcli.core.plugins import call, find
from segcli.core.tasks import TASKS
from segcli.data.dataset import Dataset
from segcli.metrics.instance import InstanceScores
from segcli.types import Prediction


def metric_for(task: str, info: DatasetInfo, max_detections: int, *, resample: bool = False) -> Any:
    """The metric of a task. Raises UsageError for one without."""
    name, kinds = TASKS[task].metric, TASKS[task].kinds
    if name is None:
        scored = [other for other, row in TASKS.items() if row.metric]
        raise UsageError(f"task {task!r} has no score yet", hint="tasks that have: " + ", ".join(scored))
    settings = {"kinds": kinds, "max_detections": max_detections, "resample": resample} if kinds else {}
    return call(find("metric", name).build, settings, f"metric {name}", info=info)


@dataclasses.dataclass
class Scorer:
    """One metric, how a prediction is read for it, and which of its scores count (all, or those of things alone)."""

    metric: Any
    view: Callable[[Prediction], Prediction]
    keys: tuple[str, ...] | None = None


def update(metrics: list[Scorer], prediction: Prediction, target: Any, annotations: list[Annotation]) -> None:
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
