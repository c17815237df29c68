"""How far scores and their differences can be trusted: paired bootstrap intervals from what each run stored."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from segcli.compare.equal_work import unequal
from segcli.compare.row import Row
from segcli.core.errors import ModelError
from segcli.data.arrays import read_arrays

KNOWN = 0.99  # share of the draws that must have something to score: about five images do
LEVEL = (2.5, 97.5)  # percentiles of a 95 % interval


def load(row: Row) -> dict[str, np.ndarray] | None:
    """The run's scores in every resample, {key: [B]}, "digest" among the keys; None where none were stored.

    Raises ModelError for a file that is broken.
    """
    path = Path(row["path"]) / "predictions" / f"{row['split']}_bootstrap.npz"
    if not path.exists():
        return None
    hint = f"segcli eval {row['path']} writes it again"
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


def attach(rows: Sequence[Row]) -> dict[int, dict[str, np.ndarray]]:
    """Fill "ci95" of every run and note the runs that stored nothing to compute it from. -> resamples by id(row)."""
    out = {}
    for row in (r for r in rows if r["source"] == "run"):
        try:
            found = load(row)
        except ModelError as error:
            row["notes"].append(f"{error}; no intervals for {row['name']}")
            continue
        if found is None:
            row["notes"].append(f"{row['name']} has no intervals yet: segcli eval {row['path']} stores them")
            continue
        row["ci95"] = {k: interval(found[k]) for k in row["metrics"] if k in found and np.isfinite(found[k]).any()}
        out[id(row)] = found
    return out


def interval(values: np.ndarray) -> list[float]:
    """The middle 95 % of [B]; resamples that show nothing to score are left out."""
    return [round(float(v), 6) for v in np.nanpercentile(values, LEVEL)]


def pairs(
    rows: Sequence[Row], resamples: dict[int, dict[str, np.ndarray]], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """Every two runs of one group, in the table's order: delta = a - b, in each metric that both have and, for AP, by
    size of objects. "unequal": why nothing is concluded from it, else None."""
    out = []
    runs = [row for row in rows if id(row) in resamples]
    for a, b in combinations(runs, 2):
        one, other = resamples[id(a)], resamples[id(b)]
        if str(one["digest"]) != str(other["digest"]):
            continue
        for key in (key for metric in metrics for key in with_sizes(metric)):
            if not all(key in r["metrics"] for r in (a, b)) or key not in one or key not in other:
                continue
            if len(one[key]) == len(other[key]):  # one draw of the images for both
                found, why = difference(a, b, one[key], other[key], key), unequal(a, b)
                found["significant"] = found["significant"] and why is None
                out.append({"a": a["name"], "b": b["name"], **found, "unequal": why})
    return out


def difference(a: Row, b: Row, one: np.ndarray, other: np.ndarray, key: str) -> dict[str, Any]:
    """{"metric", "delta", "ci95", "significant"}: significant where the 95 % interval excludes 0, and enough images
    show what is scored: drawn from few, some draws have none (of k images, a share of about exp(-k))."""
    known = np.isfinite(one - other)
    low, high = interval(one.astype(np.float64) - other) if known.any() else (-1.0, 1.0)
    delta = round(a["metrics"][key] - b["metrics"][key], 6)
    return {
        "metric": key,
        "delta": delta,
        "ci95": [low, high],
        "significant": bool((low > 0 or high < 0) and known.mean() > KNOWN),
    }


def with_sizes(metric: str) -> list[str]:
    """segm_AP -> segm_AP, segm_APs, segm_APm, segm_APl; another metric alone."""
    return [metric, *(metric + size for size in "sml")] if metric.endswith("_AP") else [metric]
