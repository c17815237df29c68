"""What a model costs: parameters, multiply-adds, latency, peak memory. One rule for every family.

1 multiply-add = 1 FLOP. Counted: convolution, linear, matrix product, attention and einsum, at the shapes of
`model.network(images)`, on the meta device, where scaled-dot-product attention splits into the products that it is made
of (on a CPU torch's counter sees a fused kernel and counts 0). A transposed convolution multiplies every *input* pixel
by its kernel, as fvcore counts it. Biases count nothing.
"""

import contextlib
import copy
import ctypes
import gc
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

OTHER = "(other)"  # the part of operators that run in no sub-module

# Operators that compute nothing: they create, copy, join, split, index or describe. Views and elementwise operators are
# known by torch's own marks. Whatever is neither of these nor has a formula is reported as uncounted.
MOVES = (
    "alias arange as_strided bernoulli cat clone constant_pad_nd copy copy_ contiguous detach empty empty_like "
    "empty_strided expand eye fill fill_ flip full full_like gather index index_put index_put_ index_select item "
    "lift_fresh linspace masked_fill masked_fill_ masked_select nonzero new_empty new_empty_strided new_full new_ones "
    "new_zeros normal_ ones ones_like permute rand randn repeat repeat_interleave reshape resize_ roll scalar_tensor "
    "scatter scatter_ select slice split split_with_sizes stack _to_copy tril triu unbind unfold uniform_ unsafe_split "
    "_unsafe_index _unsafe_view where zero_ zeros zeros_like _local_scalar_dense _reshape_copy _assert_async "
    "is_same_size equal"
)
NO_DISPATCH = {"is_contiguous", "is_strides_like_format", "is_non_overlapping_and_dense", "sym_is_contiguous"} | {
    *("size", "sym_size", "stride", "sym_stride", "storage_offset", "sym_storage_offset", "numel", "sym_numel", "dim"),
    *("layout", "device"),
}


def parameters(model: nn.Module) -> dict[str, Any]:
    """{"params", "params_trainable", "parts": {part: parameters}}. Buffers (frozen batch norms) are no parameters."""
    parts: Counter[str] = Counter()
    names = part_names(model)
    for name, parameter in model.named_parameters():
        parts[_part_of(name, names)] += parameter.numel()
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"params": sum(parts.values()), "params_trainable": trainable, "parts": dict(parts)}


def part_names(model: nn.Module) -> list[str]:
    """The parts that a cost is split into: every child of the model; a backbone that has a `body` is opened one level,
    and a ModuleDict elsewhere (the heads) into its entries."""
    names = []
    for name, child in model.named_children():
        names.append(name)
        if name == "backbone":
            inner = [n for n, _ in child.named_children()]
            names += [f"{name}.{n}" for n in inner] if "body" in inner else []
            continue
        for path, module in child.named_modules():
            if isinstance(module, nn.ModuleDict):
                names += [".".join(filter(None, (name, path, key))) for key in module]
    return names


def flops(model: nn.Module, size: tuple[int, int]) -> dict[str, Any]:
    """Multiply-adds of `model.network` on one image of `size` (height, width), in units of 1e9.

    -> {"gflops", "parts": {part: gflops}, "uncounted": [{"op", "calls"}]}: the operators that do arithmetic, are not
    elementwise, and have no formula (normalisation, pooling, interpolation, sampling, softmax, sorting, NMS, …).
    Works on a copy without storage: nothing is computed, and the model is left alone.
    """
    network = copy.deepcopy(model).eval().to("meta")
    counter = _Counter(network, part_names(network))
    with counter.attached(), torch.no_grad(), counter:
        network.network(torch.empty(1, 3, *size, device="meta"))  # type: ignore[operator]
    return {
        "gflops": sum(counter.macs.values()) / 1e9,
        "parts": {part: count / 1e9 for part, count in counter.macs.items() if count},
        "uncounted": [{"op": op, "calls": calls} for op, calls in counter.uncounted.most_common()],
    }


def latency(
    model: nn.Module, size: tuple[int, int], *, repeats: int = 10, warmup: int = 2, at_most: float = 20.0
) -> dict[str, float]:
    """Milliseconds of `model.network` on one image of `size`, where the model is: {"median", "p95"}.

    At least 3 repeats, at most `repeats`, and none begun after `at_most` seconds. Reading, resizing and encoding files
    are not in it.
    """
    run = _runner(model, size)
    times: list[float] = []
    with _evaluating(model):
        for _ in range(warmup):
            run()
        begun = time.perf_counter()
        while len(times) < 3 or (len(times) < repeats and time.perf_counter() - begun < at_most):
            start = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - start))
    return {"median": statistics.median(times), "p95": sorted(times)[round(0.95 * (len(times) - 1))]}


def peak_memory(model: nn.Module, size: tuple[int, int]) -> float | None:
    """MB (1e6 bytes) that inference on one image needs at its peak: weights, buffers and activations, not Python.

    CUDA: torch's own record. CPU: by how much the process's resident set rises above where it stood, plus the weights;
    Linux alone can reset that high-water mark. None elsewhere.
    """
    run = _runner(model, size)
    weights = sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])
    device = next(model.parameters()).device
    with _evaluating(model):
        run()  # libraries allocate what they keep
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            run()
            return torch.cuda.max_memory_allocated(device) / 1e6
        gc.collect()
        before = _reset_peak_resident()
        if device.type != "cpu" or before is None:
            return None
        run()
        return (weights + max(0, _status("VmHWM") - before)) / 1e6


def measure(
    model: nn.Module, size: tuple[int, int], *, device: torch.device | str | None = None, repeats: int = 10
) -> dict[str, Any]:
    """All of it at `size` (height, width), in the shape of cost.json (without train_seconds and images_seen).

    `device`: where to time it (the model is moved there); None: where it is. `gflops_paper_rule` is what the model's
    own `paper_gflops()` says, null for a family without one.
    """
    if device is not None:
        model = model.to(device)
    counted, sizes = flops(model, size), parameters(model)
    paper: Callable[[], float] | None = getattr(model, "paper_gflops", None)
    memory = peak_memory(model, size)
    times = latency(model, size, repeats=repeats, warmup=1)  # after the runs for memory
    names = [n for n in [*part_names(model), OTHER] if n in counted["parts"] or n in sizes["parts"]]
    return {
        "schema_version": 1,
        "params": sizes["params"],
        "params_trainable": sizes["params_trainable"],
        "gflops": round(counted["gflops"], 4),
        "gflops_paper_rule": None if paper is None else round(paper(), 4),
        "gflops_input": list(size),
        "flops_uncounted": counted["uncounted"],
        "parts": {
            n: {"params": sizes["parts"].get(n, 0), "gflops": round(counted["parts"].get(n, 0.0), 4)} for n in names
        },
        "latency_ms": {k: round(v, 2) for k, v in times.items()},
        "peak_memory_mb": None if memory is None else round(memory, 1),
        "measured_on": {
            "device": str(next(model.parameters()).device),
            "threads": torch.get_num_threads(),
            "batch": 1,
        },
    }


class _Counter(TorchDispatchMode):
    """Adds up multiply-adds by part while the network runs; remembers what it could not count."""

    def __init__(self, model: nn.Module, parts: list[str]):
        super().__init__()
        self.model, self.parts = model, parts
        self.macs: Counter[str] = Counter()
        self.uncounted: Counter[str] = Counter()
        self._inside: list[str] = []

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Follow which sub-module is running; attention keeps to its plain path, whose products are visible."""
        handles = []
        for name, module in self.model.named_modules():
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
            with self:  # an operator that torch defines by others is counted as those
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        if packet in flop_registry:
            part = _part_of(self._inside[-1] if self._inside else "", self.parts)
            self.macs[part] += flop_registry[packet](*args, **kwargs, out_val=out) // 2
        elif name not in MOVES.split() and not func.is_view and torch.Tag.pointwise not in func.tags:
            self.uncounted[f"{packet._qualified_op_name.replace('::', '.')}"] += 1
        return out


def _part_of(name: str, parts: list[str]) -> str:
    """The longest part that holds the module or parameter called `name`."""
    return max((p for p in parts if name == p or name.startswith(p + ".")), key=len, default=OTHER)


def _runner(model: nn.Module, size: tuple[int, int]) -> Callable[[], None]:
    """A function that runs the network once on noise, in the weights' memory layout, and waits for the device."""
    tensor = next(model.parameters())
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(tensor.device)
    if any(_channels_last(p) for p in model.parameters()):
        images = images.contiguous(memory_format=torch.channels_last)

    def run() -> None:
        with torch.inference_mode():
            model.network(images)  # type: ignore[operator]
        if tensor.device.type == "cuda":
            torch.cuda.synchronize(tensor.device)
        elif tensor.device.type == "mps":
            torch.mps.synchronize()

    return run


def _channels_last(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, the former mode of every sub-module outside."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _reset_peak_resident() -> int | None:
    """Give freed memory back, set the resident high-water mark to now, and return it in bytes; None where not Linux."""
    if not sys.platform.startswith("linux"):
        return None
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it; without it freed memory may be reused
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # a container that forbids it
        return None
    return _status("VmHWM")


def _status(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {key} in /proc/self/status")
