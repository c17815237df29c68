"""The numbers of a recipe's model section, as far as they can be judged without knowing the model."""

import re
from typing import Any

LARGEST = 2**31  # what any of them may be
MOST = 1_000  # layers, or anything else that is built one by one
REPEATED = re.compile(r"(layers|convolutions|depth|depths|blocks|levels|groups|stages)$")
WIDE = 4096  # from here on a model's weights are counted before they are made


def check(value: Any, place: str = "model") -> None:
    """Raise ValueError that names the first number that no model can have."""
    if isinstance(value, dict):
        for key, inner in value.items():
            check(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for inner in value:
            check(inner, place)
    elif isinstance(value, int) and not isinstance(value, bool):
        most = MOST if REPEATED.search(place) else LARGEST
        if not -most <= value <= most:
            raise ValueError(f"{place} can't be {_shortened(value)}: {most:,} at most")


def _shortened(value: int) -> str:
    """A number for a message; one beyond floats by its length."""
    return f"{value:.6g}" if abs(value) < 10**300 else f"a number of {value.bit_length() * 3 // 10:,} digits"


def largest(value: Any) -> int:
    """The largest whole number in a model section; 0 where there is none."""
    if isinstance(value, (dict, list, tuple)):
        return max((largest(inner) for inner in (value.values() if isinstance(value, dict) else value)), default=0)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
