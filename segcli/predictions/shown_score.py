"""The least score of the detections that pictures show: weak models would otherwise seem to detect nothing."""

import math
from collections.abc import Iterable

from segcli.types import Prediction

USUAL = 0.5


def scores_of(prediction: Prediction) -> list[float]:
    """The scores of its detections; none of a map."""
    found = prediction.instances
    return [] if found is None or found.scores is None else found.scores.tolist()


def shown_score(scores: Iterable[float], objects: int) -> float:
    """0.5 where any detection reaches it, or where there are none. Else the score that as many detections reach as
    there are labelled `objects`, in hundredths, rounded down."""
    best = sorted(scores, reverse=True)
    if not best or best[0] >= USUAL:
        return USUAL
    return math.floor(100 * best[min(max(1, objects), len(best)) - 1]) / 100
