"""Charts for files: accuracy against cost, and training curves. Colours from Okabe and Ito, apart for every eye."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from matplotlib.transforms import Bbox

from segcli.core.errors import UsageError
from segcli.core.files import write_atomic
from segcli.drawing.text import plain

COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C6D00", "#555555"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
TITLES = {
    "gflops": "GFLOPs (multiply-adds) per image",
    "gflops_paper_rule": "GFLOPs per image, counted as in the paper",
    "gflops_published": "GFLOPs as published",
    "params": "parameters",
    "latency_ms": "latency per image, ms (median)",
    "peak_memory_mb": "peak memory, MB",
    "train_seconds": "training time, s",
    "train_gflops": "GFLOPs (multiply-adds) of the whole training",
}
SUFFIXES = (".svg", ".png", ".pdf")


def pareto_plot(rows: Sequence[Mapping[str, Any]], x: str, y: str, path: str | Path) -> list[str]:
    """Cost `x` against score `y`, one point a row, the Pareto front joined; -> names of rows without both numbers.

    rows: as `compare --json` has them: "name", "model", and values at the top level or under "metrics" (0..1, shown
    ×100). Cost is better when lower, score when higher. The format follows the suffix: .svg, .png or .pdf.
    Where rows say that some are not compared ("not_compared": their trainings took very different work), the front is
    left out, but against that work itself.
    Raises UsageError for another suffix or where no row has both numbers.
    """
    points, left_out = [], []
    for row in rows:
        cost, score = value(row, x), value(row, y)
        if cost is None or score is None:
            left_out.append(str(row["name"]))
        else:
            points.append((cost, score, row))
    if not points:
        raise UsageError(f"no row has both {x} and {y}: there is nothing to plot")
    figure, axes = _figure(8.0, 5.2)
    families = list(dict.fromkeys(str(row.get("model") or "") for _, _, row in points))
    scale = 100 if all(0 <= p[1] <= 1 for p in points) else 1
    shown = {str(row["name"]) for _, _, row in points}
    unequal = x != "train_gflops" and any(shown & set(row.get("not_compared") or ()) for _, _, row in points)
    best = set() if unequal else front([(cost, score) for cost, score, _ in points])
    line = sorted((points[i][0], points[i][1] * scale) for i in best)
    style = {"where": "post", "color": "#888888", "lw": 1.2, "ls": "--", "zorder": 1}
    axes.step(*(zip(*line, strict=True) if line else ([], [])), label="Pareto front (filled)", **style)
    if unequal:
        axes.lines[-1].set(ls="none", label="training work differs too much for a front")
    for family in families:
        index = families.index(family) % len(COLOURS)
        for i, (cost, score, row) in enumerate(points):
            if str(row.get("model") or "") != family:
                continue
            face = COLOURS[index] if i in best else "white"
            axes.plot(
                cost, score * scale, MARKERS[index], ms=9, mfc=face, mec=COLOURS[index], mew=1.8, zorder=3, ls="none"
            )
    for index, family in enumerate(families):
        if family:
            colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
            axes.plot([], [], marker, color=colour, label=family, ms=8, ls="none")
    costs = [p[0] for p in points]
    if min(costs) > 0 and max(costs) / min(costs) > 20:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.16, 0.16)
    axes.set_xlabel(TITLES.get(x, x))
    axes.set_ylabel(f"{y} × 100" if scale == 100 else y)
    axes.legend(frameon=False, fontsize=9, loc="best")
    _label(figure, axes, [(cost, score * scale, plain(str(row["name"]))) for cost, score, row in points])
    _save(figure, Path(path))
    return left_out


def curves_plot(log: Sequence[Mapping[str, Any]], path: str | Path, *, metrics: Sequence[str] = ()) -> None:
    """A run's log.jsonl entries as two charts over steps: the loss (smoothed, and as logged), and the val scores.

    metrics: which scores to draw; by default those ending in AP, mIoU or PQ. Raises UsageError for an empty log.
    """
    losses = [(e["step"], e["loss"]) for e in log if "loss" in e]
    scored = [(e["step"], e["metrics"]) for e in log if "metrics" in e]
    if not losses and not scored:
        raise UsageError("the log has neither losses nor scores yet: there is nothing to plot")
    figure, axes = _figure(10.0, 4.0, columns=2)
    if losses:
        steps, values = np.array(losses, float).T
        axes[0].plot(steps, values, color=COLOURS[0], lw=0.8, alpha=0.35, label="logged")
        axes[0].plot(steps, smooth(values), color=COLOURS[0], lw=2, label="smoothed")
        axes[0].legend(frameon=False, fontsize=9)
    axes[0].set_ylabel("loss")
    keys = list(metrics) or [
        k for k in dict.fromkeys(k for _, m in scored for k in m) if k.endswith(("_AP", "mIoU")) or k == "PQ"
    ]
    for number, key in enumerate(keys):
        known = [(s, 100 * m[key]) for s, m in scored if key in m]
        if known:
            style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
            axes[1].plot(*zip(*known, strict=True), label=f"{key} {known[-1][1]:.1f}", ms=5, lw=1.8, **style)
    if keys:
        axes[1].legend(frameon=False, fontsize=9, loc="lower right")
        axes[1].set_ylim(bottom=0)
    axes[1].set_ylabel("val score × 100")
    for one in axes:
        one.set_xlabel("step")
    _save(figure, Path(path))


def front(points: Sequence[tuple[float, float]]) -> set[int]:
    """Positions of the (cost, score) points that no other one beats: as cheap or cheaper, as good or better."""
    return {
        i
        for i, (cost, score) in enumerate(points)
        if not any(c <= cost and s >= score and (c < cost or s > score) for c, s in points)
    }


def smooth(values: np.ndarray, share: float = 0.04) -> np.ndarray:
    """Centred running mean over `share` of the curve, narrower at its ends."""
    half = max(1, round(len(values) * share / 2))
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(0, at - half), np.minimum(len(values), at + half + 1)
    return (total[high] - total[low]) / (high - low)


def value(row: Mapping[str, Any], key: str) -> float | None:
    """A row's number: at its top level (a latency's median), or among its metrics."""
    found = row.get(key)
    if found is None:
        found = (row.get("metrics") or {}).get(key)
    if isinstance(found, Mapping):
        found = found.get("median")
    return None if found is None else float(found)


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = figure.subplots(1, columns)
    for one in np.atleast_1d(axes):
        one.spines[["top", "right"]].set_visible(False)
        one.grid(color="#e4e4e4", lw=0.8)
        one.set_axisbelow(True)
    return figure, axes


def _label(figure: Figure, axes: Axes, points: list[tuple[float, float, str]]) -> None:
    """Name each point beside it, where the name hides no point and no other name; with a thin line where it is far."""
    figure.draw_without_rendering()
    dots = [axes.transData.transform((x, y)) for x, y, _ in points]
    pixel = figure.dpi / 72  # per typographic point
    reserved = [Bbox.from_bounds(x - 5 * pixel, y - 5 * pixel, 10 * pixel, 10 * pixel) for x, y in dots]
    legend = axes.get_legend()
    reserved += [legend.get_window_extent()] if legend is not None else []
    for (x, y, name), dot in sorted(zip(points, dots, strict=True), key=lambda p: p[0]):
        probe = axes.text(0, 0, name, fontsize=9, parse_math=False)
        extent = probe.get_window_extent()
        probe.remove()
        choices = []
        for rank, (dx, dy, side, level) in enumerate(_offsets()):
            left = dot[0] + dx * pixel - {"left": 0, "center": 0.5, "right": 1}[side] * extent.width
            low = dot[1] + dy * pixel - {"bottom": 0, "center": 0.5, "top": 1}[level] * extent.height
            box = Bbox.from_bounds(left, low, extent.width, extent.height)
            outside = left < 0 or low < 0 or box.x1 > figure.bbox.x1 or box.y1 > figure.bbox.y1
            choices.append((10 * box.count_overlaps(reserved) + 20 * outside + 0.1 * rank, rank, box))
        _, rank, box = min(choices, key=lambda c: c[:2])
        dx, dy, side, level = _offsets()[rank]
        arrow: dict[str, Any] | None = None
        if rank > 7:
            start = (0.0 if side == "left" else 1.0, 0.5)  # of the text: its end towards the point
            arrow = {"arrowstyle": "-", "color": "#999999", "lw": 0.7, "shrinkA": 1, "shrinkB": 5, "relpos": start}
        text = axes.annotate(
            name, (x, y), (dx, dy), textcoords="offset points", ha=side, va=level, fontsize=9, arrowprops=arrow
        )
        text.set_parse_math(False)  # a name with two $ is no formula
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8})
        text.set_in_layout(False)  # the axes stay where they were when the places were chosen
        reserved.append(box.padded(1))


def _offsets() -> list[tuple[float, float, str, str]]:
    """Places for a name around its point, in points: near ones first, then further and further away."""
    near = [(8, 0, "left", "center"), (-8, 0, "right", "center"), (0, 9, "center", "bottom"), (0, -9, "center", "top")]
    near += [(7, 7, "left", "bottom"), (7, -7, "left", "top"), (-7, 7, "right", "bottom"), (-7, -7, "right", "top")]
    far = [
        (sx * 9 * k, sy * 9 * k, "left" if sx > 0 else "right", "bottom" if sy > 0 else "top")
        for k in (2, 3, 4, 6, 8)
        for sx in (1, -1)
        for sy in (1, -1)
    ]
    return [(float(a), float(b), c, d) for a, b, c, d in near + far]


def require_format(path: Path) -> None:
    """Raise UsageError for a suffix that is no picture format."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: a plot's format is one of {', '.join(SUFFIXES)}")


def _save(figure: Figure, path: Path) -> None:
    """Write under a temporary name and rename. Raises UsageError for a suffix that is no picture format."""
    require_format(path)
    kind = path.suffix.lower().removeprefix(".")
    # a fixed salt and no date: the same rows give the same file
    with matplotlib.rc_context({"svg.hashsalt": "segcli", "svg.fonttype": "none"}):
        metadata = {"Date": None} if kind == "svg" else None
        write_atomic(path, lambda p: figure.savefig(p, format=kind, facecolor="white", metadata=metadata))
