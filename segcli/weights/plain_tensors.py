"""What a file of weights may hold: names and plain tensors; and what torch says of others, in words for a user."""

import re

import torch
from torch import Tensor

from segcli.core.errors import ModelError


def plain_tensors(state: object, where: str) -> dict[str, Tensor]:
    """`state` where it maps names to dense tensors that have values. Raises ModelError that names the first other."""
    if not isinstance(state, dict) or not state:
        raise ModelError(f"{where}: holds no weights, but {type(state).__name__}")
    for name, value in state.items():
        if not isinstance(name, str):
            raise ModelError(f"{where}: holds no weights: {name!r:.80} is no parameter's name")
        if not isinstance(value, Tensor):
            raise ModelError(f"{where}: {name!r:.80} is no tensor, but {type(value).__name__}")
        odd = value.is_meta or value.layout != torch.strided or value.is_quantized or value.is_nested
        if odd or value.is_complex():
            raise ModelError(f"{where}: {name!r:.80} is no plain tensor with values")
    return state


def refuse_unusable(state: dict[str, Tensor], own: dict[str, Tensor], where: str) -> None:
    """Raise ModelError for a tensor of `state` that a model's `own` of that name can't be: whole numbers where it has
    real ones, which would cut them off, or values that are not finite, which make all that is computed so."""
    for name, value in state.items():
        mine = own.get(name)
        if mine is None or not mine.is_floating_point():
            continue
        if not value.is_floating_point():
            raise ModelError(f"{where}: {name!r:.80} holds {_called(value)}, where the model has {_called(mine)}")
        if value.is_meta or mine.is_meta:  # of a model that is only counted
            continue
        if not torch.isfinite(value).all() and torch.isfinite(mine).all():
            raise ModelError(f"{where}: {name!r:.80} holds values that are not finite")


def _called(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def reason(error: Exception) -> str:
    """Why torch could not read a file, on one line, without its advice to run what is in it."""
    text = str(error)
    if isinstance(error, EOFError):
        return "it ends too early"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    named = re.search(r"Unsupported (?:global|class|operand).{0,20}?(?:GLOBAL )?([\w.\\-]+)", text, re.S)
    if "weights_only" in text or "Weights only" in text:
        what = f" ({named[1]})" if named else ""
        return f"it holds more than tensors and plain values{what}, which is not read"
    return repr(" ".join(text.split())[:200])[1:-1] or "it is damaged"
