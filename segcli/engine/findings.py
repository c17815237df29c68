"""The findings that matter most behind a score, as sentences with what to change: `segcli eval --diagnose`.

Each is weighed by the share of the score that it may cost, as far as that is known: what is worth changing first comes
first. Read from the confusion matrix, the types of error (TIDE), the scores by size and class, and the calibration.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segcli.core.recipe.recipe import Recipe
from segcli.core.tasks import MATCHED
from segcli.engine.diagnosis import longer
from segcli.metrics.errors import ERRORS
from segcli.models.interface import Model, Suppressing

Diagnostics = Mapping[str, Any]  # of a metric, by kind: "tide", "confusion", "calibration", …
MOST = 3  # findings that are told
LEAST = 0.01  # share of the score below which a finding is none
ECE = 0.1  # calibration error from which scores are told to mislead


@dataclasses.dataclass(frozen=True)
class Finding:
    """what: a sentence with its numbers; advice: what to change; cost: the share of the score that it may cost,
    0..1."""

    what: str
    advice: str
    cost: float


def findings(
    recipe: Recipe,
    model: Model,
    metrics: Mapping[str, float],
    per_class: Mapping[str, Mapping[str, float]],
    behind: Diagnostics,
) -> list[Finding]:
    """At most MOST, the costliest first. behind: the metric's `diagnostics()`."""
    found = [*_errors(recipe, model, behind), *_sizes(recipe, metrics), *_classes(recipe, metrics, per_class)]
    found += [*_calibration(behind), *_pixels(recipe, behind)]
    return sorted((one for one in found if one.cost >= LEAST), key=lambda one: -one.cost)[:MOST]


def _errors(recipe: Recipe, model: Model, behind: Diagnostics) -> list[Finding]:
    """The types of error of detections."""
    if "tide" not in behind:
        return []
    lost, counts = behind["tide"]["lost"], behind["tide"]["counts"]
    advice = {
        "Cls": _confused(behind),
        "Loc": f"Train longer ({longer(recipe)}), or set a larger data.size: {_outlines(behind)}",
        "Both": "Few in number, these vanish with the others: mend those first",
        "Dupe": _duplicates(model),
        "Bkg": "Look whether these are objects without a label (segcli visualize predictions RUN --worst 12); if "
        "not, add images without objects to the training, or raise --score of segcli predict",
        "Miss": _missed(recipe, model),
    }
    score = f"{MATCHED[behind['kind']]} AP50"
    what = lambda name: f"{100 * lost[name]:.1f} points of {score} are lost to: {ERRORS[name]} ({counts[name]} times)"
    return [Finding(what(name), advice[name], lost[name]) for name in ERRORS]


def _confused(behind: Diagnostics) -> str:
    pair = _worst_pair(behind)
    more = "Check the labels of both with segcli visualize data, and add examples where they differ"
    return f"Most often {pair[0]} is taken for {pair[1]} ({pair[2]}). {more}" if pair else more


def _worst_pair(behind: Diagnostics) -> tuple[str, str, int] | None:
    """(labelled, predicted, how often) of the largest number off the diagonal between two classes."""
    if behind.get("confusion") is None:
        return None
    names = behind["classes"][:-1]
    square = np.array(behind["confusion"], np.int64)[: len(names), : len(names)].copy()
    np.fill_diagonal(square, 0)
    row, column = divmod(int(square.argmax()), len(names))
    return (names[row], names[column], int(square[row, column])) if square.any() else None


def _outlines(behind: Diagnostics) -> str:
    return (
        "boxes and masks are then cut from finer maps"
        if behind["kind"] == "segm"
        else "boxes then end where they should"
    )


def _duplicates(model: Model) -> str:
    heads = [module for module in model.modules() if isinstance(module, Suppressing)]
    if heads:
        return "Lower the head's nms (model.heads.box.nms), or try segcli eval --nms 0.4"
    return (
        "Train longer: queries learn not to repeat one another late; segcli eval --nms 0.6 shows what suppression gives"
    )


def _missed(recipe: Recipe, model: Model) -> str:
    more = f"Train longer ({longer(recipe)}), or set a larger data.size where they are small"
    if model.queries is not None:
        return f"{more}; model.queries is {model.queries}, and more objects an image can't be found"
    return f"{more}; an image has at most eval.max_detections ({recipe.eval.max_detections}) detections"


def _sizes(recipe: Recipe, metrics: Mapping[str, float]) -> list[Finding]:
    """Small objects far behind large ones."""
    kind = "segm" if "segm_APs" in metrics else "bbox"
    small, large = metrics.get(f"{kind}_APs"), metrics.get(f"{kind}_APl", metrics.get(f"{kind}_APm"))
    if small is None or large is None or small > large / 2:
        return []
    size = recipe.data.size
    at = f" ({size} now)" if isinstance(size, int) else ""
    return [
        Finding(
            f"Small objects (below 32² pixels) have {MATCHED[kind]} AP {100 * small:.1f}, large ones {100 * large:.1f}",
            f"Set a larger data.size{at}, or cut large images into tiles: segcli prepare … --tile 512 --overlap 64",
            (large - small) / 3,
        )
    ]


def _classes(
    recipe: Recipe, metrics: Mapping[str, float], per_class: Mapping[str, Mapping[str, float]]
) -> list[Finding]:
    """The class that is furthest behind."""
    key = next((k for k in (recipe.primary, "IoU", "PQ") if any(k in one for one in per_class.values())), None)
    known = {name: one[key] for name, one in per_class.items() if key in one} if key else {}
    if len(known) < 2:
        return []
    worst = min(known, key=lambda name: known[name])
    others = (sum(known.values()) - known[worst]) / (len(known) - 1)
    if known[worst] > 0.7 * others:
        return []
    return [
        Finding(
            f"Class {worst} has {100 * known[worst]:.1f}, the other classes {100 * others:.1f} on average",
            f"Label more of {worst}, check its labels (segcli prepare DATA --check), or join it with one that is alike",
            (others - known[worst]) / len(known),
        )
    ]


def _calibration(behind: Diagnostics) -> list[Finding]:
    if "calibration" not in behind or behind["calibration"]["ece"] < ECE:
        return []
    bins = [one for one in behind["calibration"]["bins"] if one["count"]]
    gap = lambda one: abs(one["avg_confidence"] - one["avg_accuracy"]) * one["count"]
    worst = max(bins, key=gap)
    advice = "They rank detections all the same: choose --score of segcli predict by what they are worth"
    if (least := _half_right_from(bins)) is not None:
        advice += f"; from {least:.1f} on, half of the detections or more are right"
    what = (
        f"Scores are no probabilities: of detections scored {worst['bin_lower']:.1f} to {worst['bin_upper']:.1f}, "
        f"{100 * worst['avg_accuracy']:.0f} % are right"
    )
    return [Finding(what, advice, behind["calibration"]["ece"] / 10)]  # costs no AP by itself


def _half_right_from(bins: Sequence[Mapping[str, Any]]) -> float | None:
    """The lowest score from which on at least half of all detections are right; None where there is none. bins: from
    low to high."""
    least, right, seen = None, 0.0, 0
    for one in reversed(bins):
        right, seen = right + one["avg_accuracy"] * one["count"], seen + one["count"]
        if right >= seen / 2:
            least = float(one["bin_lower"])
    return least


def _pixels(recipe: Recipe, behind: Diagnostics) -> list[Finding]:
    """The pair of classes whose pixels are taken for one another most, of label maps."""
    pair = _worst_pair(behind)
    if "tide" in behind or pair is None:
        return []
    matrix = np.array(behind["confusion"], np.int64)
    names: Sequence[str] = behind["classes"]
    row = names.index(pair[0])
    of_class, of_all = pair[2] / max(1, matrix[row].sum()), pair[2] / max(1, matrix.sum())
    share = f"{100 * of_class:.0f} % of the pixels of {pair[0]} are taken for {pair[1]}"
    return [
        Finding(
            f"{share}, {100 * of_all:.1f} % of all pixels",
            "Look where (segcli visualize predictions RUN --worst 12): at borders a larger data.size helps, over whole "
            f"regions more examples or a longer training ({longer(recipe)})",
            max(of_all, of_class / len(names)),
        )
    ]
