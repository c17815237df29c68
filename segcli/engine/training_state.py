"""Check the contents of checkpoints/last.pt before any of it is used.

torch loads an optimiser state of another shape without an error, and then crashes the process; training would continue
from a step of -5, 1.5 or 10^30.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from segcli.core.errors import ModelError
from segcli.weights.plain_tensors import plain_tensors

KEYS = ("model", "ema", "optimizer", "progress", "rng")
ADDED = ("pixels", "cpu_seconds")  # later additions to the progress; None in a training started without them
MOMENTS = {"AdamW": {"step", "exp_avg", "exp_avg_sq"}, "SGD": {"momentum_buffer"}}


def weights_of(state: Any, where: str) -> dict[str, Tensor]:
    """The averaged weights of a training state if it has them, else its weights. Raises ModelError."""
    for key in ("model", "ema"):
        if not isinstance(state, dict) or key not in state:
            raise ModelError(f"{where}: not a readable checkpoint: it has no {key!r}")
    model = plain_tensors(state["model"], f"{where}: model")
    return model if state["ema"] is None else plain_tensors(state["ema"], f"{where}: ema")


def steps_done(state: object, where: str) -> int:
    """The step that a training state stands at. Raises ModelError."""
    progress = state.get("progress") if isinstance(state, dict) else None
    if not isinstance(progress, dict) or type(progress.get("step")) is not int:
        raise ModelError(f"{where}: not a readable checkpoint: it has no step")
    return int(progress["step"])


def check(state: Any, where: str, optimizer: torch.optim.Optimizer, progress: Any, total: int) -> None:
    """Raise ModelError unless `state` fits: `progress` is a dataclass of the stored kind, `total` the number of
    steps of the training."""
    weights_of(state, where)
    for key in KEYS:
        if key not in state:
            raise ModelError(f"{where}: not a readable checkpoint: it has no {key!r}")
    _check_progress(state["progress"], where, progress, total)
    _check_optimizer(state["optimizer"], f"{where}: optimizer", optimizer)
    rng = state["rng"]
    if not isinstance(rng, Tensor) or rng.dtype != torch.uint8 or rng.shape != torch.get_rng_state().shape:
        raise ModelError(f"{where}: rng is no state of torch's random numbers")


def _check_progress(stored: object, where: str, progress: Any, total: int) -> None:
    fields = {field.name: field for field in dataclasses.fields(progress)}
    if not isinstance(stored, dict) or not all(isinstance(key, str) for key in stored):
        raise ModelError(f"{where}: progress is {type(stored).__name__}, no mapping")
    needed = {"step", "best", "seconds", "images"}
    for name in sorted((needed - stored.keys()) | (stored.keys() - fields.keys())):
        raise ModelError(f"{where}: progress: {name!r:.80} is {'missing' if name in fields else 'not known'}")
    for name, value in stored.items():
        own = getattr(progress, name)
        if value is None and name in ADDED:
            continue
        if type(own) is int and (type(value) is not int or not 0 <= value < 2**63):
            raise ModelError(f"{where}: progress: {name} is {value!r:.80}, no count")
        if type(own) is float and (type(value) not in (int, float) or not -1 <= value < 2**63):
            raise ModelError(f"{where}: progress: {name} is {value!r:.80}, no number from -1 up")
    if stored["step"] > total:
        raise ModelError(f"{where}: progress: it stands at step {stored['step']:,} of a training of {total:,}")


def _check_optimizer(stored: Any, where: str, optimizer: torch.optim.Optimizer) -> None:
    own = optimizer.state_dict()
    groups = stored.get("param_groups") if isinstance(stored, dict) else None
    if not isinstance(groups, list) or not isinstance(stored.get("state"), dict):
        raise ModelError(f"{where}: no state of an optimiser")
    if len(groups) != len(own["param_groups"]):
        raise ModelError(f"{where}: has {len(groups)} groups of parameters, the recipe's {len(own['param_groups'])}")
    for number, (given, expected) in enumerate(zip(groups, own["param_groups"], strict=True)):
        if not isinstance(given, dict) or given.get("params") != expected["params"]:
            raise ModelError(f"{where}: group {number} is of other parameters")
        for key, value in expected.items():
            if key in given and not _alike(given[key], value):  # another version of torch may have more settings
                raise ModelError(
                    f"{where}: group {number}: {key} is {given.get(key)!r:.80}, where {value!r:.80} stands"
                )
    moments = MOMENTS[type(optimizer).__name__]
    listed = [p for group in optimizer.param_groups for p in group["params"]]
    for key, entry in stored["state"].items():
        if type(key) is not int or not 0 <= key < len(listed):
            raise ModelError(f"{where}: state of a parameter {key!r:.80} that the model does not have")
        full = isinstance(entry, dict) and (entry.keys() == moments or (entry.keys() <= moments and len(moments) == 1))
        if not full:  # without momentum SGD keeps nothing
            raise ModelError(f"{where}: state {key} is not that of {type(optimizer).__name__}")
        for name, value in entry.items():
            shape = () if name == "step" else tuple(listed[key].shape)
            if value is None and name == "momentum_buffer":
                continue
            plain_tensors({name: value}, f"{where}: state {key}")
            if tuple(value.shape) != shape or not value.is_floating_point():
                raise ModelError(f"{where}: state {key}: {name} is {list(value.shape)}, its parameter {list(shape)}")
            if not torch.isfinite(value).all():
                raise ModelError(f"{where}: state {key}: {name} holds values that are not finite")


def _alike(given: Any, expected: object) -> bool:
    """Whether a stored setting has the type that this optimiser expects."""
    if isinstance(expected, bool) or expected is None:
        return given is None or isinstance(given, bool)
    if isinstance(expected, (int, float)):
        return type(given) in (int, float) and -1e300 < given < 1e300
    if isinstance(expected, (list, tuple)):
        return isinstance(given, (list, tuple)) and len(given) == len(expected) and all(map(_alike, given, expected))
    return type(given) is type(expected)
