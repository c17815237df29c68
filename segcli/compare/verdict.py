"""What the data supports, in plain sentences."""

import dataclasses
from collections.abc import Sequence

from segcli.compare.equal_work import MOST, times, warnings, work_ratio
from segcli.compare.intervals import Pair
from segcli.compare.row import Row
from segcli.core.formatting import count, heading

SIZES = {"s": "small", "m": "medium", "l": "large"}
FEW = 50  # images: below, an interval from resampling is itself rough


def verdict(rows: Sequence[Row], pairs: Sequence[Pair], metrics: Sequence[str]) -> list[str]:
    """One group's sentences: which runs are not compared; in each of `metrics` the best row against every other; where
    another wins at one size of objects; what suppression of duplicates changes. Rows are in order of the table, pairs
    as `intervals.pairs` makes them."""
    out: list[str] = []
    for metric in metrics:
        sizes = (metric, *(metric + size for size in SIZES))
        out += _ranked(rows, [p for p in pairs if p.metric in sizes], metric)
    few = next((r.images for r in rows if out and r.source == "run" and (r.images or 0) < FEW), None)
    if few is not None:
        out.append(
            f"{count(few, 'image')} {'is' if few == 1 else 'are'} few: expect these intervals to be somewhat too narrow"
        )
    if metrics and rows[0].source == "published":
        out += _cheaper_and_better(rows, metrics[0])
    out += [line for row in rows for line in _suppression(row, metrics[0] if metrics else None)]
    return [*warnings(rows), *out]


def _ranked(rows: Sequence[Row], pairs: Sequence[Pair], metric: str) -> list[str]:
    """The best run against those that it may be compared with; then the best of the others against the rest; …"""
    known = [r for r in rows if any(r.name in (p.a, p.b) for p in pairs) and metric in r.metrics]
    out: list[str] = []
    while len(known) > 1:
        best = max(known, key=lambda r: r.metrics[metric])
        names = {r.name for r in known}
        own = [p.seen_from(best.name) for p in pairs if best.name in (p.a, p.b) and {p.a, p.b} <= names]
        apart = {p.b for p in own if p.unequal}
        out += _best_against(best, {r.name: r for r in known}, [p for p in own if p.b not in apart], metric)
        known = [r for r in known if r.name in apart]
    return out


def _best_against(best: Row, by_name: dict[str, Row], pairs: Sequence[Pair], metric: str) -> list[str]:
    out, equal = [], []
    title = heading(metric, " ")
    for pair in pairs:
        if pair.metric == metric and pair.significant:
            out.append(f"{best.name} is better than {pair.b} by {amount(pair)} {title}{_price(best, by_name[pair.b])}")
        elif pair.metric == metric:
            equal.append(pair)
        elif pair.significant and pair.delta < 0:
            size = SIZES[pair.metric[-1]]
            out.append(f"on {size} objects {pair.b} is better than {best.name} by {amount(pair)} {title}")
    images = count(best.images or 0, "image")
    for pair in equal:
        out.append(
            f"{best.name} and {pair.b} can't be told apart on {images}: the difference is {amount(pair)} "
            f"{title}{_price(best, by_name[pair.b])}"
        )
    return out


def _cheaper_and_better(rows: Sequence[Row], metric: str) -> list[str]:
    """For the papers' rows: the cheapest row of each family that beats another family's best at fewer FLOPs."""
    out = []
    scored = [r for r in rows if metric in r.scores]
    for family in dict.fromkeys(r.model for r in scored):
        best = max((r for r in scored if r.model == family), key=lambda r: r.scores[metric])
        cheaper = [r for r in scored if r.model != family and (r.cost("gflops") or 1e9) < (best.cost("gflops") or 0)]
        better = [r for r in cheaper if r.scores[metric] > best.scores[metric]]
        if better:
            other = min(better, key=lambda r: r.cost("gflops") or 1e9)
            high, low = (100 * r.scores[metric] for r in (other, best))
            out.append(
                f"{other.name} has a higher {heading(metric, ' ')} than {best.name} ({high:.1f} against {low:.1f})"
                f"{_price(other, best)}"
            )
    return out


def amount(pair: Pair) -> str:
    """2.1 ± 0.9: the difference in points without its sign where it is significant, half of the interval's width.

    8.5 (0.4 to 18.6): the interval itself where it lies so unevenly that ± would take 0 in, or leave it out.
    """
    turned = dataclasses.replace(pair, delta=-pair.delta, ci95=(-pair.ci95[1], -pair.ci95[0]))
    shown = turned if pair.significant and pair.delta < 0 else pair
    low, high = shown.ci95
    difference, half = f"{100 * shown.delta:.1f}", f"{50 * (high - low):.1f}"
    if (low > 0 or high < 0) != (abs(float(difference)) > float(half)):
        return f"{difference} ({100 * low:.1f} to {100 * high:.1f})"
    return f"{difference} ± {half}"


def _price(row: Row, other: Row) -> str:
    mine, theirs = row.cost("gflops"), other.cost("gflops")
    out = ""
    if mine and theirs:
        ratio = f"{mine / theirs:.2g}"
        out = ", at the same FLOPs" if ratio == "1" else f", at {ratio}× the FLOPs"
    images = work_ratio(row, other, "images_seen")
    if images is not None and not 1 / MOST <= images <= MOST:
        out += f", after {times(images) if images > 1 else f'{images:.2g}×'} the images"
    if row.starts and other.starts and row.starts != other.starts and row.backbone == other.backbone:
        out += f", begun with {row.starts} where the other began with {other.starts}"
    return out


def _suppression(row: Row, metric: str | None) -> list[str]:
    """What `eval --nms` measured beside the model's own way."""
    key = metric or row.primary
    own = row.metrics.get(key)
    parts = [
        f"{100 * scores[key]:.1f} " + ("without suppression" if setting == "off" else f"with suppression at {setting}")
        for setting, scores in row.nms.items()
        if key in scores
    ]
    return (
        [f"{row.name}: {heading(key, ' ')} {100 * own:.1f} as it is, {', '.join(parts)}"]
        if parts and own is not None
        else []
    )
