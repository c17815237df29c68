"""How scores and costs are written: one rule for tables, sentences and the report."""

import math

from segcli.core.tasks import MATCHED

MISSING = "–"
ABSOLUTE = ("error", "chamfer")  # parts of the names of metrics that are no fractions


def percent(value: float | None) -> str:
    """A fraction × 100 with one decimal; – where it is not known (COCO writes -1)."""
    return MISSING if value is None or not math.isfinite(value) or value < 0 else f"{100 * value:.1f}"


def number(value: float | None, unit: float = 1.0, digits: int = 0) -> str:
    """A cost in `unit`s; small ones keep three figures."""
    if value is None:
        return MISSING
    value = value / unit
    if value and abs(value) < 10:
        digits = max(digits, 2 if abs(value) >= 0.1 else 4)
    return f"{value:,.{digits}f}"


def count(things: int, noun: str) -> str:
    """1 image, 1,200 images."""
    return f"{things:,} {noun}{'s' * (things != 1)}"


def shortened(text: str, most: int) -> str:
    """Text of `most` letters at most: a long one loses its middle, since its ends say where and why."""
    if len(text) <= most:
        return text
    head = (most - 3) // 3
    return f"{text[:head]} … {text[head + 3 - most :]}"


def is_fraction(metric: str) -> bool:
    return not any(part in metric for part in ABSOLUTE)


def score(metric: str, value: float | None) -> str:
    """A metric's value: × 100 where it is a fraction."""
    return percent(value) if value is None or is_fraction(metric) else f"{value:.3f}"


def heading(metric: str, join: str = "\n") -> str:
    """segm_AP50 -> mask AP50, in two lines for a column; other metrics are called as they are."""
    kind, _, part = metric.partition("_")
    return f"{MATCHED[kind]}{join}{part}" if kind in MATCHED and part else metric


def finite(value: object) -> object:
    """A JSON value in which null stands for what is no number (nan, inf)."""
    if isinstance(value, dict):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
