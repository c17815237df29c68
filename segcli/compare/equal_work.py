"""Which runs a conclusion may be drawn from: those whose trainings took like work, and that are trained at all.

A score says something of a model only beside one that was given as much. Work is multiply-adds: at equal work a cheaper
model sees more images, which is no fault of the comparison.
"""

from collections.abc import Sequence

from segcli.compare.row import Row

MOST = 2.0  # times the multiply-adds of another training, up to which two runs are compared
UNDERTRAINED = ("too few steps", "no-object collapse", "classes not learned", "learning rate too low")  # diagnoses


def undertrained(row: Row) -> list[str]:
    """The diagnoses by which a run has not learned enough to stand for its model."""
    return [cause for cause in row.diagnosis if cause in UNDERTRAINED]


def work_ratio(row: Row, other: Row, key: str = "train_gflops") -> float | None:
    """How many times the work of `other`'s training `row`'s was; None where one is not recorded."""
    mine, theirs = getattr(row, key), getattr(other, key)
    return mine / theirs if mine and theirs else None


def unequal(a: Row, b: Row) -> str | None:
    """Why two runs are not compared; None where they may be, or where nothing is on record that speaks against it."""
    for row in (a, b):
        if undertrained(row):
            return _untrained(row)
    ratio = work_ratio(a, b)
    if ratio is None or 1 / MOST <= ratio <= MOST:
        return None
    more, less = (a, b) if ratio > 1 else (b, a)
    return f"{more.name} had {times(max(ratio, 1 / ratio))} the multiply-adds of {less.name}"


def mark_unequal(rows: Sequence[Row]) -> None:
    """Fill `not_compared` of a group's rows."""
    for row in rows:
        row.not_compared = [other.name for other in rows if other is not row and unequal(row, other)]


def warnings(rows: Sequence[Row]) -> list[str]:
    """A sentence for each run of a group that is not compared with others, by what speaks against it."""
    if len(rows) < 2:
        return []
    out = [f"not compared: {_untrained(row)}" for row in rows if undertrained(row)]
    runs = [row for row in rows if not undertrained(row)]
    for row in runs:
        ratios = [(work_ratio(row, other), other.name) for other in runs]
        less = [(ratio, name) for ratio, name in ratios if ratio is not None and ratio > MOST]
        if less:
            (first, name), *rest = less
            reasons = [f"{times(first)} the multiply-adds of {name}", *(f"{times(r)} those of {n}" for r, n in rest)]
            out.append(f"not compared: {row.name} had {', '.join(reasons)}")
    return out


def unrecorded(rows: Sequence[Row]) -> list[str]:
    """A note where the work of a group's runs is not on record, as that of earlier versions; else []."""
    runs = [row for row in rows if row.source == "run"]
    missing = [row.name for row in runs if not row.train_gflops]
    if len(runs) < 2 or not missing:
        return []
    if len(missing) == len(runs):
        return ["the multiply-adds of these trainings are not recorded"]
    return [
        f"the multiply-adds of training are not recorded for {', '.join(missing)}: whether it was equal is not known"
    ]


def times(ratio: float) -> str:
    """3.1×; from 10 on without decimals. What is above MOST does not round to it."""
    return f"{ratio:.0f}×" if ratio >= 10 else f"{max(ratio, MOST + 0.1):.1f}×" if ratio > MOST else f"{ratio:.1f}×"


def _untrained(row: Row) -> str:
    return f"{row.name} was diagnosed as undertrained ({', '.join(undertrained(row))})"
