"""From which score on pictures show detections."""

import pytest

from segcli.predictions.shown_score import shown_score


@pytest.mark.parametrize(
    ("scores", "objects", "shown"),
    [
        ([0.9, 0.1], 2, 0.5),
        ([0.5], 9, 0.5),
        ([], 3, 0.5),
        ([0.499, 0.308, 0.2, 0.01], 2, 0.3),
        ([0.308, 0.2], 5, 0.2),
        ([0.06, 0.05], 0, 0.06),
        ([0.001], 1, 0.0),
    ],
)
def test_weak_models_show_as_many_detections_as_there_are_objects(scores, objects, shown):
    assert shown_score(scores, objects) == shown
