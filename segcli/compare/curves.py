"""How training went: the curves of log.jsonl, and how long each run took to a score that all of a group reach."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from segcli.compare.ranking import accuracy
from segcli.compare.row import Row, TimeToScore
from segcli.core.run_files import read_log

POINTS = 400  # of a loss curve at most, evenly spaced


class Curves(NamedTuple):
    """loss: (step, seconds of training or None, loss); scores: (step, seconds, metrics)."""

    loss: list[tuple[int, float | None, float]]
    scores: list[tuple[int, float, dict[str, float | None]]]


def curves(run: Path) -> Curves:
    """Both empty without a log. Raises ModelError where the log is broken."""
    out = Curves([], [])
    for entry in read_log(run):
        loss, metrics, seconds = entry.get("loss"), entry.get("metrics"), entry.get("seconds")
        if loss is not None:
            out.loss.append((entry["step"], seconds, loss))
        elif metrics is not None and seconds is not None:
            out.scores.append((entry["step"], seconds, metrics))
    return Curves(out.loss[:: max(1, -(-len(out.loss) // POINTS))], out.scores)


def add_time_to_score(groups: Sequence[Sequence[Row]]) -> None:
    """Fill `time_to_score` of runs with a log.

    The score is the best that every run of its group has reached during training: the least of their best ones. The
    seconds are of training alone, at the first evaluation that has it: `train.evaluations` sets how fine that is.
    """
    for group in groups:
        metric = accuracy(group)
        logs = [curves(Path(row.path)).scores if row.path else [] for row in group]
        known = [[(s, score) for _, s, m in log if (score := m.get(metric or "")) is not None] for log in logs]
        best = [max(value for _, value in curve) for curve in known if curve]
        for row, curve in zip(group, known, strict=True):
            if metric is not None and curve:
                seconds = next(s for s, value in curve if value >= min(best))
                row.time_to_score = TimeToScore(metric=metric, score=min(best), seconds=seconds)
