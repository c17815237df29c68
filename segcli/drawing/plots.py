"""Accuracy against cost as a picture. Colours from Okabe and Ito, apart for every eye."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
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


class Point(NamedTuple):
    """A model: its cost (lower is better) and score (higher is better, fractions are shown × 100); None is not known.
    not_compared: names of models whose training took very different work."""

    name: str
    family: str
    cost: float | None
    score: float | None
    not_compared: Sequence[str] = ()


def pareto_plot(models: Sequence[Point], x: str, y: str, path: str | Path) -> list[str]:
    """Cost `x` against score `y`, the Pareto front joined; -> names of models without both numbers.

    The format follows the suffix: .svg, .png or .pdf. Where models that are drawn are not compared, the front is left
    out, but against the training work itself (`train_gflops`).
    Raises UsageError for another suffix or where no model has both numbers.
    """
    points = [(m.cost, m.score, m) for m in models if m.cost is not None and m.score is not None]
    if not points:
        raise UsageError(f"no row has both {x} and {y}: there is nothing to plot")
    figure, axes = _figure(8.0, 5.2)
    families = list(dict.fromkeys(m.family for _, _, m in points))
    scale = 100 if all(0 <= score <= 1 for _, score, _ in points) else 1
    shown = {m.name for _, _, m in points}
    unequal = x != "train_gflops" and any(shown & set(m.not_compared) for _, _, m in points)
    best = set() if unequal else front([(cost, score) for cost, score, _ in points])
    line = sorted((points[i][0], points[i][1] * scale) for i in best)
    label = "training work differs too much for a front" if unequal else "Pareto front (filled)"
    dashes = "none" if unequal else "--"
    xs, ys = [cost for cost, _ in line], [score for _, score in line]
    axes.step(xs, ys, where="post", color="#888888", lw=1.2, ls=dashes, zorder=1, label=label)
    for index, family in enumerate(families):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        for i, (cost, score, model) in enumerate(points):
            if model.family == family:
                face = colour if i in best else "white"
                axes.plot(cost, score * scale, marker, ms=9, mfc=face, mec=colour, mew=1.8, zorder=3, ls="none")
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
    _label(figure, axes, [(cost, score * scale, plain(model.name)) for cost, score, model in points])
    _save(figure, Path(path))
    return [m.name for m in models if m.cost is None or m.score is None]


def front(points: Sequence[tuple[float, float]]) -> set[int]:
    """Positions of the (cost, score) points that no other one beats: as cheap or cheaper, as good or better."""
    return {
        i
        for i, (cost, score) in enumerate(points)
        if not any(c <= cost and s >= score and (c < cost or s > score) for c, s in points)
    }


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", lw=0.8)
    axes.set_axisbelow(True)
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
        arrow: dict[str, object] | None = None
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
