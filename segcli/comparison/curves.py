"""How training went: the curves of log.jsonl, and how long each run took to a score that all of a group reach."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segcli.comparison.ranking import Row, accuracy

POINTS = 400  # of a loss curve at most, evenly spaced


def read_log(run: Path) -> dict[str, list[Any]]:
    """{"loss": [[step, training seconds, loss]], "scores": [[step, training seconds, metrics]]}, [] without a log."""
    losses: list[Any] = []
    scores: list[Any] = []
    path = run / "log.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            break  # the last line of a killed process may be half a line
        if "loss" in entry:
            losses.append([entry["step"], entry["seconds"], entry["loss"]])
        elif "metrics" in entry:
            scores.append([entry["step"], entry["seconds"], entry["metrics"]])
    return {"loss": losses[:: -(-len(losses) // POINTS)] if losses else [], "scores": scores}


def add_time_to_score(groups: Sequence[Sequence[Row]]) -> None:
    """Give each run "time_to_score": {"metric", "score", "seconds"}, null for other rows.

    The score is the best that every run of its group has reached during training: the least of their best ones. The
    seconds are of training alone, at the first evaluation that has it: `train.evaluations` sets how fine that is.
    """
    for group in groups:
        metric = accuracy(group)
        logs = [read_log(Path(row["path"]))["scores"] if row["source"] == "run" else [] for row in group]
        known = [[(seconds, m[metric]) for _, seconds, m in log if metric in m] for log in logs]
        best = [max(value for _, value in curve) for curve in known if curve]
        for row, curve in zip(group, known, strict=True):
            row["time_to_score"] = None
            if curve:
                seconds = next(s for s, value in curve if value >= min(best))
                row["time_to_score"] = {"metric": metric, "score": min(best), "seconds": seconds}
