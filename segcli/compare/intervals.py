"""How far scores and their differences can be trusted: paired bootstrap intervals from what each run stored."""

import dataclasses
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from segcli.compare.equal_work import unequal
from segcli.compare.row import Row
from segcli.core.errors import ModelError
from segcli.data.arrays import read_arrays

KNOWN = 0.99  # share of the draws that must have something to score: about five images do
LEVEL = (2.5, 97.5)  # percentiles of a 95 % interval


Resamples = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two runs of a group: delta = a - b in `metric`, with its 95 % interval [low, high]. significant: the interval
    excludes 0, and enough images show something to score. unequal: why nothing is concluded from it, else None."""

    a: str
    b: str
    metric: str
    delta: float
    ci95: tuple[float, float]
    significant: bool
    unequal: str | None = None

    def seen_from(self, name: str) -> "Pair":
        """The same with `name` as a: its score less the other's."""
        if self.a == name:
            return self
        low, high = self.ci95
        return dataclasses.replace(self, a=self.b, b=self.a, delta=-self.delta, ci95=(-high, -low))


def load(row: Row) -> Resamples | None:
    """The run's scores in every resample, {key: [B]}, "digest" among the keys; None where none were stored.

    Raises ModelError for a file that is broken.
    """
    path = Path(row.path or "") / "predictions" / f"{row.split}_bootstrap.npz"
    if not path.exists():
        return None
    hint = f"segcli eval {row.path} writes it again"
    try:
        found = read_arrays(path, ["digest"], error=ModelError)
    except ModelError as error:
        raise ModelError(str(error), hint=hint) from error
    digest = found.pop("digest")
    drawn = {key for key, v in found.items() if v.ndim == 1 and v.dtype.kind == "f" and not np.isinf(v).any()}
    odd = next((key for key in found if key not in drawn), None)
    if odd is None and len({len(values) for values in found.values()}) > 1:
        raise ModelError(f"{path}: its arrays differ in length", hint=hint)
    if odd is not None or digest.ndim or digest.dtype.kind != "U":
        raise ModelError(f"{path}: {odd or 'digest'!r} is not what was drawn from the images' scores", hint=hint)
    return {**found, "digest": digest}


def attach(rows: Sequence[Row]) -> dict[Row, Resamples]:
    """Fill `ci95` of every run and note the runs that stored nothing to compute it from. -> resamples of each run."""
    out: dict[Row, Resamples] = {}
    for row in (r for r in rows if r.source == "run"):
        try:
            found = load(row)
        except ModelError as error:
            row.notes.append(f"{error}; no intervals for {row.name}")
            continue
        if found is None:
            row.notes.append(f"{row.name} has no intervals yet: segcli eval {row.path} stores them")
            continue
        row.ci95 = {k: interval(found[k]) for k in row.metrics if k in found and np.isfinite(found[k]).any()}
        out[row] = found
    return out


def interval(values: np.ndarray) -> list[float]:
    """The middle 95 % of [B]; resamples that show nothing to score are left out."""
    return [round(float(v), 6) for v in np.nanpercentile(values, LEVEL)]


def pairs(rows: Sequence[Row], resamples: dict[Row, Resamples], metrics: Sequence[str]) -> list[Pair]:
    """Every two runs of one group, in the table's order, in each metric that both have and, for AP, by size of objects.

    A pair is significant only where enough of the draws show something to score: drawn from few images, some have none
    (of k images, a share of about exp(-k)).
    """
    out = []
    for a, b in combinations([row for row in rows if row in resamples], 2):
        one, other = resamples[a], resamples[b]
        if str(one["digest"]) != str(other["digest"]):
            continue
        for key in (key for metric in metrics for key in with_sizes(metric)):
            if not all(key in r.metrics for r in (a, b)) or key not in one or key not in other:
                continue
            if len(one[key]) == len(other[key]):  # one draw of the images for both
                out.append(difference(a, b, one[key], other[key], key))
    return out


def difference(a: Row, b: Row, one: np.ndarray, other: np.ndarray, key: str) -> Pair:
    """The pair of two rows, from their resampled scores [B]."""
    known = np.isfinite(one - other)
    low, high = interval(one.astype(np.float64) - other) if known.any() else (-1.0, 1.0)
    why = unequal(a, b)
    significant = bool((low > 0 or high < 0) and known.mean() > KNOWN) and why is None
    return Pair(a.name, b.name, key, round(a.metrics[key] - b.metrics[key], 6), (low, high), significant, why)


def with_sizes(metric: str) -> list[str]:
    """segm_AP -> segm_AP, segm_APs, segm_APm, segm_APl; another metric alone."""
    return [metric, *(metric + size for size in "sml")] if metric.endswith("_AP") else [metric]
