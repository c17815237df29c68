"""The numbers of a recipe's model section, as far as they can be judged without knowing the model."""

import re

LARGEST = 2**31  # what any of them may be
MOST = 1_000  # layers, or anything else that is built one by one
REPEATED = re.compile(r"(layers|convolutions|depth|depths|blocks|levels|groups|stages)$")
SIZES = re.compile(r"(width|dim|heads|ffn|queries|fine|samples|window|proposals|channels|divisor|decoder_layers)$")
SHARES = re.compile(r"(dropout|drop_path|positive|foreground|score|nms)$")
WEIGHTS = re.compile(r"(_weight|loss\.(class|l1|giou|mask|dice)|auxiliary|norm_eps)$")
WIDE = 4096  # from here on a model's weights are counted before they are made


def check(value: object, place: str = "model") -> None:
    """Raise ValueError that names the first number that no model can have."""
    if isinstance(value, dict):
        for key, inner in value.items():
            check(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for inner in value:
            check(inner, place)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        _check_least(value, place)
        if isinstance(value, float):
            return
        most = MOST if REPEATED.search(place) else LARGEST
        if not -most <= value <= most:
            raise ValueError(f"{place} can't be {_shortened(value)}: {most:,} at most")


def _check_least(value: float, place: str) -> None:
    """Raise ValueError for a size of nothing, a count below 0, a share that is none, and a negative weight. What a
    setting of another name may be is for the model's own signature."""
    if SIZES.search(place) and value < 1:
        raise ValueError(f"{place} can't be {_shortened(value)}: 1 at least")
    if (REPEATED.search(place) or WEIGHTS.search(place)) and not value >= 0:
        raise ValueError(f"{place} can't be {_shortened(value)}: 0 at least")
    if SHARES.search(place) and not 0 <= value <= 1:
        raise ValueError(f"{place} can't be {_shortened(value)}: a share from 0 to 1")


def _shortened(value: float) -> str:
    """A number for a message; one beyond floats by its length."""
    if isinstance(value, int) and abs(value) >= 10**300:
        return f"a number of {value.bit_length() * 3 // 10:,} digits"
    return f"{value:.6g}"


def largest(value: object) -> int:
    """The largest whole number in a model section; 0 where there is none."""
    if isinstance(value, (dict, list, tuple)):
        return max((largest(inner) for inner in (value.values() if isinstance(value, dict) else value)), default=0)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
