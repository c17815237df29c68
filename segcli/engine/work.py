"""The work of training: the multiply-adds of a real step, forward and backward, and the CPU time that steps take.

1 multiply-add = 1 FLOP, of the operators that `cost` counts, in all parts of the training: network, matching, losses.
Each gradient of a convolution or matrix product costs as much as its forward pass, and only required gradients are
counted: none for the images, none below frozen layers. Three formulas differ from torch's own: gradients of
convolutions (torch ignores groups, so a depthwise one would count as many times as it has channels), attention (torch
has none on a CPU, and elsewhere counts the forward pass again in the backward pass), and linear layers on Apple's GPUs.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import conv_flop_count, flop_registry

from segcli.engine import machine


def step_gflops(model: nn.Module, step: Callable[[], None]) -> float:
    """10⁹ multiply-adds of `step()`, which computes gradients of `model`'s parameters.

    The step is really run. Its gradients are removed after it; buffers (batch norms' statistics) and the random state
    are restored.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    device = next(model.parameters()).device
    counter = _Counter()
    with torch.random.fork_rng([device] if device.type == "cuda" else []), counter:
        step()
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    model.zero_grad(set_to_none=True)
    return counter.multiply_adds / 1e9


def multiply_adds(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    """Multiply-adds of one call of an operator (e.g. `torch.ops.aten.mm`) that returned `out`; 0 if it has none."""
    name = operator.__name__
    if name == "convolution_backward":
        gradient, images, kernel, transposed, computed = *args[:3], args[7], args[10]
        return sum(computed[:2]) * conv_flop_count(images.shape, kernel.shape, gradient.shape, transposed) // 2
    if name.startswith("_scaled_dot_product") and "attention" in name:
        backward = name.endswith("_backward")
        query, key, value = args[1:4] if backward else args[:3]
        return (1 + backward) * prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])
    if name == "linear":
        return prod(args[0].shape) * args[1].shape[0]
    if name == "linear_backward":  # (input, gradient, weight, computed)
        return sum(args[3][:2]) * prod(args[0].shape) * args[2].shape[0]
    if operator in flop_registry:
        return int(flop_registry[operator](*args, **kwargs, out_val=out)) // 2
    return 0


class _Counter(TorchDispatchMode):
    """Adds up the multiply-adds of all operators in its context, backward passes included."""

    def __init__(self) -> None:
        super().__init__()
        self.multiply_adds = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.multiply_adds += multiply_adds(func._overloadpacket, args, kwargs or {}, out)
        return out


class CpuClock:
    """CPU seconds of this process and its children (loader workers), from one call to the next."""

    def __init__(self) -> None:
        self._last = machine.cpu_seconds()

    def lap(self) -> float:
        """Seconds since the last call, of all threads. The time of a child that ends in between is lost."""
        now = machine.cpu_seconds()
        spent, self._last = max(0.0, now - self._last), now
        return spent
