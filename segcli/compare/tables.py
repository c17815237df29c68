"""The comparison's tables as texts and sort keys, for the terminal and the report alike."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from segcli.compare.row import Row
from segcli.core.formatting import MISSING, heading, is_fraction, number, score
from segcli.core.run_files import Cost


@dataclasses.dataclass(frozen=True)
class Column:
    """text: the cell of a row; order: what it is sorted by, None where it is not known, which stands last.

    left: of words, not numbers. less: less is better. unit: of a cost, to draw it.
    """

    title: str
    text: Callable[[Row], str]
    order: Callable[[Row], float | str | None]
    left: bool = False
    less: bool = False
    unit: float = 1.0


def _number(
    title: str, value: Callable[[Row], float | None], unit: float = 1.0, digits: int = 0, less: bool = True
) -> Column:
    return Column(title, lambda row: number(value(row), unit, digits), value, less=less, unit=unit)


def _cost(key: str, title: str, unit: float = 1.0, digits: int = 0) -> Column:
    return _number(title, lambda row: row.cost(key), unit, digits)


NAME = Column("name", lambda row: row.name, lambda row: row.name, left=True)
MODEL = Column("model", lambda row: " ".join(filter(None, (row.model, row.variant))), lambda row: row.model, left=True)
BACKBONE = Column("backbone", lambda row: row.backbone or MISSING, lambda row: row.backbone, left=True)
COST = {
    "gflops": _cost("gflops", "GFLOPs", digits=1),
    "params": _cost("params", "params\nM", 1e6, 1),
    "latency_ms": _cost("latency_ms", "latency\nms"),
    "peak_memory_mb": _cost("peak_memory_mb", "memory\nMB"),
    "train_seconds": _cost("train_seconds", "training\nmin", 60, 1),
    "train_gflops": _cost("train_gflops", "training\nTFLOPs", 1000, 1),
}
PAPER = (
    _number("paper's\nparams M", lambda row: row.params_published, 1e6),
    _number("paper's\nGFLOPs", lambda row: row.gflops_published),
)


def _spread(row: Row) -> str:
    over = row.gflops_dataset
    return f"{number(over['mean'], digits=1)} ± {number(over.get('sd'), digits=1)}" if over else MISSING


def _share(row: Row) -> float | None:
    return row.machine.get("share") if row.machine else None


MORE = (
    _number("training\nsteps", lambda row: row.train_steps, less=False),
    _number("training\nimages", lambda row: row.images_seen, less=False),
    _number("training\nCPU min", lambda row: row.train_cpu_seconds, 60, 1),
    _number("latency p95\nms", lambda row: row.latency_ms and row.latency_ms.get("p95")),
    Column(
        "GFLOPs over\nthe dataset", _spread, lambda row: row.gflops_dataset and row.gflops_dataset["mean"], less=True
    ),
    _number("GFLOPs,\npaper's rule", lambda row: row.gflops_paper_rule, digits=1),
    _number("GFLOPs,\npublished", lambda row: row.gflops_published, digits=1),
    Column(
        "share of the\nmachine's limit",
        lambda row: MISSING if _share(row) is None else f"{_share(row):.0%}",
        _share,
    ),
)


def time_to_score(rows: Sequence[Row]) -> list[Column]:
    """Minutes until the score that every run of a group reached, one column; none without logs."""
    reached = next((row.time_to_score for row in rows if row.time_to_score), None)
    if reached is None:
        return []
    title = f"min to {heading(reached['metric'], ' ')}\n{score(reached['metric'], reached['score'])}"
    return [_number(title, lambda row: row.time_to_score and row.time_to_score["seconds"], 60, 1)]


def known_score(row: Row, metric: str) -> float | None:
    """Measured, or reported by the paper of an untrained recipe; COCO's -1, nothing to score, is not known."""
    value = row.all_scores.get(metric)
    return None if value is None or value < 0 else value


def score_column(metric: str) -> Column:
    """A metric, higher is better."""
    value = lambda row: known_score(row, metric)
    return Column(heading(metric), lambda row: score(metric, value(row)), value)


def interval(row: Row, metric: str) -> str:
    """The 95 % interval of a score; empty where there is none."""
    form = (lambda bound: f"{100 * bound:.1f}") if is_fraction(metric) else (lambda bound: f"{bound:.3f}")
    return "–".join(map(form, row.ci95.get(metric, ())))


def star_caption(rows: Sequence[Row], metric: str | None) -> str:
    """What ★ says in a group's table; a row alone has none."""
    like = " of like training" if any(row.not_compared for row in rows) else ""
    if metric is None or len(rows) < 2:
        return ""
    return f"★ no other row{like} has a higher {heading(metric, ' ')} for fewer GFLOPs"


FORECAST = ("steps", "training\nmin", "evaluation\nmin", "memory\nMB", "disk\nMB")


def forecast_cells(rows: Sequence[Row]) -> list[list[str]]:
    """What training untrained recipes would take: name, FORECAST, whether this machine can, how that is known."""
    return [
        [
            row.name,
            number(f["steps"]),
            number(f["train_minutes"], 1, 1),
            number(f["evaluation_minutes"], 1, 1),
            number(f["peak_memory_mb"]),
            number(f["disk_mb"]),
            can(f),
            "measured" if f["measured"] else "estimated",
        ]
        for row in rows
        if (f := row.forecast)
    ]


def can(forecast: Mapping[str, Any]) -> str:
    """Whether the machine can do what a forecast says."""
    if forecast["possible"] is None:
        return "its free memory is not known"
    return "can do it" if forecast["possible"] else f"can't do it: {'; '.join(forecast['reasons'])}"


def part_cells(cost: Cost) -> list[list[str]]:
    """cost.json's parts: name, parameters in millions, GFLOPs, regions × GFLOPs of each."""
    return [
        [
            name,
            number(part["params"], 1e6, 2),
            number(part["gflops"], 1, 2),
            f"{part['regions']} × {part['gflops_per_region']:.4f}" if part.get("regions") else "",
        ]
        for name, part in (cost.get("parts") or {}).items()
    ]


def not_counted(cost: Cost) -> str:
    """Operators without a formula, with their share of all calls that compute, which runs of earlier versions lack."""
    operators = cost.get("flops_uncounted") or ()
    share = lambda entry: f" ({entry['share']:.0%})" if "share" in entry else ""
    named = [f"{u['op']} ×{u['calls']}{share(u)}" for u in operators if not u.get("elementwise")]
    if any("share" not in u for u in operators):
        return ", ".join(named)
    simple = sum(u["share"] for u in operators if u.get("elementwise"))
    return ", ".join([*named, f"elementwise ({simple:.0%})"])
