"""How training went: the curves of log.jsonl, and how long each run took to a score that all of a group reach."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segcli.compare.ranking import Row, accuracy
from segcli.core.run_files import read_log

POINTS = 400  # of a loss curve at most, evenly spaced


def curves(run: Path) -> dict[str, list[Any]]:
    """{"loss": [[step, training seconds, loss]], "scores": [[step, training seconds, metrics]]}, [] without a log.

    Raises ModelError where the log is broken.
    """
    losses: list[Any] = []
    scores: list[Any] = []
    for entry in read_log(run):
        if entry.get("loss") is not None:
            losses.append([entry["step"], entry.get("seconds"), entry["loss"]])
        elif entry.get("metrics") is not None and entry.get("seconds") is not None:
            scores.append([entry["step"], entry["seconds"], entry["metrics"]])
    return {"loss": losses[:: -(-len(losses) // POINTS)] if losses else [], "scores": scores}


def add_time_to_score(groups: Sequence[Sequence[Row]]) -> None:
    """Give each run "time_to_score": {"metric", "score", "seconds"}, null for other rows.

    The score is the best that every run of its group has reached during training: the least of their best ones. The
    seconds are of training alone, at the first evaluation that has it: `train.evaluations` sets how fine that is.
    """
    for group in groups:
        metric = accuracy(group)
        logs = [curves(Path(row["path"]))["scores"] if row["source"] == "run" else [] for row in group]
        known = [[(seconds, m[metric]) for _, seconds, m in log if m.get(metric) is not None] for log in logs]
        best = [max(value for _, value in curve) for curve in known if curve]
        for row, curve in zip(group, known, strict=True):
            row["time_to_score"] = None
            if curve:
                seconds = next(s for s, value in curve if value >= min(best))
                row["time_to_score"] = {"metric": metric, "score": min(best), "seconds": seconds}
