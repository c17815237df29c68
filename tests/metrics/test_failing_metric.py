"""An error of another package's metric names the metric, and takes nothing of the training with it."""

import pytest

from segcli.core.errors import DataError, SegcliError
from segcli.engine.evaluation import combine
from segcli.metrics import Scorer


class Failing:
    def __init__(self, error=None):
        self.error = error

    def update(self, predictions, targets):
        if self.error:
            raise self.error

    def merge(self, other):
        pass

    def compute(self):
        return {"axis_error": 1 / 0}


def test_an_error_names_its_metric():
    with pytest.raises(SegcliError, match=r"Failing fails: KeyError: 'axis'") as failure:
        Scorer([Failing(KeyError("axis"))]).update(None, None, [])
    assert "segcli eval" in failure.value.hint
    with pytest.raises(SegcliError, match=r"Failing fails: ZeroDivisionError: division by zero"):
        combine([Scorer([Failing()])])
    with pytest.raises(DataError, match="as it is"):
        Scorer([Failing(DataError("as it is"))]).update(None, None, [])
