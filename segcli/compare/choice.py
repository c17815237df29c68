"""Which model to choose: a sentence a score that rests on intervals, cost and licence, or says why there is none."""

import math
from collections.abc import Sequence
from pathlib import Path

from segcli.compare.equal_work import undertrained
from segcli.compare.intervals import Pair
from segcli.compare.row import Row
from segcli.compare.verdict import FEW, amount
from segcli.core.formatting import count, heading, percent
from segcli.core.run_files import read_environment

LEARNED = 0.05  # scores below say that a model has not learned yet
ALIKE = 1.1  # costs whose ratio is below count as the same


def choices(rows: Sequence[Row], pairs: Sequence[Pair], metrics: Sequence[str]) -> list[str]:
    """One group's sentences, one for each of `metrics` that two trained rows have; that of the score by which most of
    them were trained comes last, the others before it, the first of them last."""
    out = []
    others = lambda metric: sum(row.primary != metric for row in rows if row.source == "run")
    for metric in sorted(metrics, key=others)[::-1]:
        scored = [row for row in rows if row.source == "run" and metric in row.metrics]
        if len(scored) > 1:
            own = [pair for pair in pairs if pair.metric == metric]
            out.append(_choice(scored, own, metric, f" by {heading(metric, ' ')}" if len(metrics) > 1 else ""))
    return out


def _choice(rows: Sequence[Row], pairs: Sequence[Pair], metric: str, by: str) -> str:
    best = _ranked(rows, metric)[0]
    title, score = heading(metric, " "), best.metrics[metric]
    if score < LEARNED:
        return f"no choice{by} yet: none has learned ({title} {percent(score)} at most); train longer"
    turned = [pair.seen_from(best.name) for pair in pairs if best.name in (pair.a, pair.b)]
    judged = {pair.b: pair for pair in turned if not pair.unequal}
    apart = [row.name for row in rows if row is not best and row.name not in judged]
    if not judged:
        if short := [row for row in rows if undertrained(row)]:
            names, verb = _list([row.name for row in short]), "is" if len(short) == 1 else "are"
            scores = ", ".join(f"{row.name} {percent(row.metrics[metric])}" for row in _ranked(rows, metric))
            return f"no choice{by} yet ({scores}): {names} {verb} undertrained; train longer ({_enough(short)})"
        return (
            f"no choice{by} yet: {best.name} can't be held against {_list(apart)}; equal work and intervals are needed"
        )
    level = [row for row in rows if row.name in judged and not judged[row.name].significant]
    level = [row for row in level if not any(_worse(row, other, pairs) for other in level)]
    chosen = min([best, *level], key=_gflops)
    alike = [row for row in [best, *level] if row is not chosen and _gflops(row) < ALIKE * _gflops(chosen)]
    images = count(best.images or 0, "image")
    if alike:
        names = _list([chosen.name, *(row.name for row in alike)])
        gap = next((p for p in pairs if {p.a, p.b} == {chosen.name, alike[0].name}), judged.get(chosen.name))
        difference = f"{amount(gap)} {title} " if gap else ""
        text = f"the evidence is too thin to choose{by} between {names}: {difference}on {images}, at like FLOPs"
        return text + _not_judged(apart)
    if not level:
        second = min(judged.values(), key=lambda pair: pair.delta)
        reason = f"it is ahead of {second.b}, the next, by {amount(second)} {title}"
    elif chosen is best:
        gap, names = judged[level[0].name], _list([row.name for row in level])
        reason = f"{images} can't tell {names} from it ({amount(gap)} {title}), and it costs less"
    else:
        ratio, gap = f"{_gflops(chosen) / _gflops(best):.2g}", judged[chosen.name]
        reason = f"{images} can't tell it from {best.name} ({amount(gap)} {title}), at {ratio}× the FLOPs"
    return f"choose {chosen.name}{by}, because {reason}{_reservations(chosen, apart)}"


def _ranked(rows: Sequence[Row], metric: str) -> list[Row]:
    return sorted(rows, key=lambda row: -row.metrics[metric])


def _enough(short: Sequence[Row]) -> str:
    """How long every run would have to take so that the `short` ones are trained: by the pace that each had."""
    minutes = []
    for row in short:
        if not (row.enough_steps and row.train_steps and row.train_seconds):
            return "more --minutes, or the steps that the diagnosis names"
        minutes.append(row.train_seconds / row.train_steps * row.enough_steps / 60)
    return f"--minutes {math.ceil(max(minutes))}, by the pace that they had here"


def _worse(row: Row, other: Row, pairs: Sequence[Pair]) -> bool:
    """Whether `row` is significantly worse than `other`."""
    known = [pair.seen_from(row.name) for pair in pairs if {pair.a, pair.b} == {row.name, other.name}]
    return any(pair.significant and not pair.unequal and pair.delta < 0 for pair in known)


def _not_judged(names: Sequence[str]) -> str:
    return f"; not judged: {_list(names)}" if names else ""


def _reservations(chosen: Row, apart: Sequence[str]) -> str:
    """What the choice does not rest on, and what it binds one to."""
    out = _not_judged(apart)
    if (chosen.images or 0) < FEW:
        few = count(chosen.images or 0, "image")
        out += f"; {few} {'is' if chosen.images == 1 else 'are'} few: label more before you rely on it"
    licences = [licence for licence in _licences(chosen) if "NC" in licence]
    return out + (f"; its weights' licence is {licences[0]}: not for commercial use" if licences else "")


def _licences(row: Row) -> list[str]:
    """Of the weights that the run began with."""
    weights = read_environment(Path(row.path)).get("weights") if row.path else None
    return [str(one.get("licence")) for one in weights or [] if isinstance(one, dict)]


def _gflops(row: Row) -> float:
    return row.gflops or float("inf")


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
