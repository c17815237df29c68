"""Multiply-adds of a network that runs on the meta device, by module and operator, and what has no formula.

Tensors have shapes there and no values. torch finds many of those shapes by Python code, dozens of calls for one batch
norm or grid sample; a network that repeats its layers asks for the same ones again, so they are remembered.
"""

import contextlib
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

OTHER = "(other)"  # the part of operators outside all sub-modules

# Operators that compute nothing: they create, copy, join, split, index or describe. Views and elementwise operators are
# recognised by torch's own tags. All others without a formula are reported as uncounted.
MOVES = (
    "alias arange as_strided bernoulli cat clone constant_pad_nd copy copy_ contiguous detach empty empty_like "
    "empty_strided expand eye fill fill_ flip full full_like gather index index_put index_put_ index_select item "
    "lift_fresh linspace masked_fill masked_fill_ masked_select nonzero new_empty new_empty_strided new_full new_ones "
    "new_zeros normal_ ones ones_like permute rand randn repeat repeat_interleave reshape resize_ roll scalar_tensor "
    "scatter scatter_ select slice split split_with_sizes stack _to_copy tril triu unbind unfold uniform_ unsafe_split "
    "_unsafe_index _unsafe_view where zero_ zeros zeros_like _local_scalar_dense _reshape_copy _assert_async "
    "is_same_size equal"
)
MOVED = frozenset(MOVES.split())
NO_DISPATCH = {"is_contiguous", "is_strides_like_format", "is_non_overlapping_and_dense", "sym_is_contiguous"} | {
    *("size", "sym_size", "stride", "sym_stride", "storage_offset", "sym_storage_offset", "numel", "sym_numel", "dim"),
    *("layout", "device"),
}

SAMPLED = {  # operators whose shape torch finds by hundreds of calls -> where their output's height and width stand
    torch.ops.aten.upsample_bilinear2d.default: lambda images_BCHW, size, *rest: size,
    torch.ops.aten.upsample_bicubic2d.default: lambda images_BCHW, size, *rest: size,
    torch.ops.aten.grid_sampler_2d.default: lambda images_BCHW, points_BHW2, *rest: points_BHW2.shape[1:3],
}


class MultiplyAdds(TorchDispatchMode):
    """Adds up multiply-adds by part while a network runs inside it; records operators without a formula."""

    def __init__(self, network: nn.Module, parts: Sequence[str]):
        super().__init__()
        self.network, self.parts = network, parts
        self.macs: Counter[tuple[str, str]] = Counter()  # by part and operator
        self.calls: Counter[str] = Counter()  # of counted operators
        self.uncounted: Counter[tuple[str, bool]] = Counter()  # by operator and whether it is elementwise
        self._inside: list[str] = []
        self._known: dict[Hashable, Any] = {}  # operator and arguments -> layouts of what it returns

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Track which sub-module is running; attention uses its unfused path, whose matrix products can be counted."""
        handles = []
        for name, module in self.network.named_modules():
            handles.append(module.register_forward_pre_hook(lambda _m, _i, name=name: self._inside.append(name)))
            handles.append(module.register_forward_hook(lambda _m, _i, _o: self._leave()))
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            for handle in handles:
                handle.remove()

    def _leave(self) -> None:
        self._inside.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        name = packet.__name__
        if name in NO_DISPATCH:
            return NotImplemented
        if packet not in flop_registry:
            with self:  # a composite operator is counted by its parts
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = self._result(func, args, kwargs)
        op = packet._qualified_op_name.replace("::", ".")
        if packet in flop_registry:
            part = part_of(self._inside[-1] if self._inside else "", self.parts)
            self.macs[part, op] += flop_registry[packet](*args, **kwargs, out_val=out) // 2
            self.calls[op] += 1
        elif name not in MOVED and not func.is_view:
            self.uncounted[op, torch.Tag.pointwise in func.tags] += 1
        return out

    def _result(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What the operator returns; where it was called with arguments like these before, tensors like those."""
        if in_place(func) and args[0].is_meta:
            return args[0]
        given = (args, tuple(kwargs.items()))
        if func.is_view or func._schema.is_mutable or not _without_values(given):
            return func(*args, **kwargs)
        if func in SAMPLED:
            return args[0].new_empty(*args[0].shape[:2], *SAMPLED[func](*args))
        key = (func, _described(given))
        if key in self._known:
            return _like(self._known[key])
        out = func(*args, **kwargs)
        if _without_values(out):
            self._known[key] = _like(out)
        return out


def in_place(func: Any) -> bool:
    """Whether an operator changes the values of its first argument, and gives that back: on the meta device there is
    nothing to do for it, and torch takes 3 ms to find out so of one ReLU6."""
    first = func._schema.arguments[:1]
    return torch.Tag.pointwise in func.tags and any(a.alias_info is not None and a.alias_info.is_write for a in first)


def part_of(name: str, parts: Sequence[str]) -> str:
    """The longest part that holds the module or parameter called `name`."""
    return max((p for p in parts if name == p or name.startswith(p + ".")), key=len, default=OTHER)


def _without_values(value: object) -> bool:
    """Whether there are tensors, and all of them on the meta device."""
    found = list(_tensors(value))
    return bool(found) and all(tensor.is_meta for tensor in found)


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


def _described(value: object) -> Hashable:
    """Equal where an operator returns alike. With the type of numbers: 1, 1.0 and True are equal, results are not."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple(_described(one) for one in value)
    return type(value), value


def _like(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)
    return type(value)(_like(one) for one in value) if isinstance(value, list | tuple) else value
