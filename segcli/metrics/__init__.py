"""The metric of each task, and several metrics that count one prediction."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import SegcliError, UsageError
from segcli.core.plugins import call, find
from segcli.core.tasks import TASKS
from segcli.metrics.instance import InstanceScores
from segcli.metrics.interface import Metric
from segcli.types import Prediction, Target


def metric_for(task: str, info: DatasetInfo, max_detections: int, *, resample: bool = False) -> Metric:
    """The metric of a task, beside those of its fields. resample: it will be asked for `replicates`."""
    name, kinds = TASKS[task].metric, TASKS[task].kinds
    return build_metric(name, info=info, kinds=kinds, max_detections=max_detections, resample=resample)


def build_metric(name: str, **given: object) -> Metric:
    """Build a metric plugin with those of the `given` arguments that it names. Raises UsageError if it is no Metric."""
    metric = call(find("metric", name, "a metric").build, {}, f"metric {name}", **given)
    if not isinstance(metric, Metric):
        raise UsageError(f"the metric plugin {name} builds a {type(metric).__name__}, without update, merge or compute")
    return metric


@contextlib.contextmanager
def blamed(metric: Metric) -> Iterator[None]:
    """An error of a metric names it."""
    try:
        yield
    except SegcliError:
        raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if "memory" in str(error):  # not the metric's fault, and told elsewhere
            raise
        kind, reason = type(metric), (str(error).splitlines() or [""])[0]
        raise SegcliError(
            f"the metric {kind.__module__}.{kind.__name__} fails: {type(error).__name__}: {reason:.300}",
            hint="--debug shows where; what is trained is saved, and segcli eval scores it again",
        ) from error


@dataclasses.dataclass
class Scorer:
    """Metrics that share a view of the prediction (None: as it is), and which of their scores count (None: all)."""

    metrics: list[Metric]
    view: Callable[[Prediction], Prediction] | None = None
    keys: tuple[str, ...] | None = None

    def update(self, prediction: Prediction, target: Target, annotations: Sequence[Annotation]) -> None:
        """Count one image. annotations: the target's COCO dicts."""
        viewed = prediction if self.view is None else self.view(prediction)
        for metric in self.metrics:
            with blamed(metric):
                if isinstance(metric, InstanceScores):
                    metric.update([viewed], [target], [annotations])
                else:
                    metric.update([viewed], [target])

    def counts(self, key: str) -> bool:
        return self.keys is None or key in self.keys
