"""What a model costs: parameters, multiply-adds with their coverage, latency, peak memory. One rule for every family.

1 multiply-add = 1 FLOP. Counted: convolution, linear, matrix product, attention and einsum, at the shapes of
`model.network(images)`, on the meta device, where scaled-dot-product attention is decomposed into matrix products (on a
CPU torch's counter sees a fused kernel and counts 0). A transposed convolution multiplies every *input* pixel
by its kernel, as fvcore counts it. Biases count 0.
"""

import contextlib
import copy
import gc
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from segcli.engine import machine
from segcli.models.interface import Model
from segcli.ops.multiply_adds import OTHER, MultiplyAdds, part_of
from segcli.ops.preprocess import Preprocess

CANVASES = 12  # at most this many sizes are counted for a dataset's mean GFLOPs
WARMUP, REPEATS = 2, 10  # runs before timing, and timed ones


def parameters(model: Model) -> dict[str, Any]:
    """{"params", "params_trainable", "parts": {part: parameters}}. Buffers (frozen batch norms) are no parameters."""
    parts: Counter[str] = Counter()
    names = part_names(model)
    for name, parameter in model.named_parameters():
        parts[part_of(name, names)] += parameter.numel()
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"params": sum(parts.values()), "params_trainable": trainable, "parts": dict(parts)}


def part_names(model: Model) -> list[str]:
    """Parts that costs are listed by: every child of the model; a backbone with a `body` is split into its children,
    a ModuleDict (the heads) into its entries."""
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


def flops(model: Model, size: tuple[int, int]) -> dict[str, Any]:
    """Multiply-adds of `model.network` on one image of `size` (height, width), in units of 1e9.

    -> {"gflops", "parts": {part: gflops}, "operators": {operator: {"gflops", "calls"}}, "uncounted": [{"op", "calls",
    "share", "elementwise"}]}. Uncounted is all arithmetic without a formula: normalisation, pooling, interpolation,
    sampling, softmax, sorting, …, then what is elementwise; `share`: of all calls that compute (0..1). Non-maximum
    suppression is not included: on the meta device there are no values to suppress.
    Works on a copy on the meta device: nothing is computed, and the model is unchanged.
    """
    network = copy.deepcopy(model).eval().to("meta")
    counter = MultiplyAdds(network, part_names(network))
    with counter.attached(), torch.no_grad(), counter:
        network.network(torch.empty(1, 3, *size, device="meta"))
    calls = sum(counter.calls.values()) + sum(counter.uncounted.values())
    operators: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    for (part, op), count in counter.macs.items():
        operators[op] += count
        parts[part] += count
    return {
        "gflops": sum(parts.values()) / 1e9,
        "parts": {part: count / 1e9 for part, count in parts.items() if count},
        "operators": {op: {"gflops": n / 1e9, "calls": counter.calls[op]} for op, n in operators.most_common()},
        "uncounted": [
            {"op": op, "calls": n, "share": n / calls, "elementwise": elementwise}
            for (op, elementwise), n in sorted(counter.uncounted.items(), key=lambda item: (item[0][1], -item[1]))
        ],
    }


def flops_over(
    model: Model, sizes: Sequence[tuple[int, int]], known: Mapping[tuple[int, int], float] = MappingProxyType({})
) -> dict[str, Any]:
    """GFLOPs over a dataset whose images come on canvases of `sizes` (height, width): {"mean", "sd", "images",
    "canvases"}. Where there are more than 12 different canvases, 12 of the images, evenly spaced by area, stand for all
    (`images` is then 12). known: GFLOPs of canvases that were counted before."""
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    if len(set(ordered)) > CANVASES:
        ordered = [ordered[(2 * i + 1) * len(ordered) // (2 * CANVASES)] for i in range(CANVASES)]
    counted = {size: known[size] if size in known else flops(model, size)["gflops"] for size in set(ordered)}
    numbers = [counted[size] for size in ordered]
    return {
        "mean": round(statistics.fmean(numbers), 4),
        "sd": round(statistics.pstdev(numbers), 4),
        "images": len(numbers),
        "canvases": len(counted),
    }


def canvases(preprocess: Preprocess, sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The canvas (height, width) of each image of `sizes`, alone in its batch."""
    return [preprocess.canvas([preprocess.output_size(*size)]) for size in sizes]


def median_canvas(preprocess: Preprocess, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The canvas of the median image by area, at which costs are reported."""
    middle = sorted(sizes, key=lambda size: size[0] * size[1])[len(sizes) // 2]
    return canvases(preprocess, [middle])[0]


def latency(
    model: Model, size: tuple[int, int], *, repeats: int | None = None, warmup: int | None = None, at_most: float = 20.0
) -> dict[str, Any]:
    """Milliseconds of `model.network` on one image of `size`, where the model is.

    -> {"median", "p95", "warmup": runs before timing, "repeats"}.

    At least 3 repeats, at most `repeats` (None: REPEATS), and none started after `at_most` seconds; before them
    `warmup` (None: WARMUP). Reading, resizing and encoding files are not included.
    """
    repeats, warmup = REPEATS if repeats is None else repeats, WARMUP if warmup is None else warmup
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
    p95 = sorted(times)[round(0.95 * (len(times) - 1))]
    return {"median": statistics.median(times), "p95": p95, "warmup": warmup, "repeats": len(times)}


def peak_memory(model: Model, size: tuple[int, int]) -> float | None:
    """MB (1e6 bytes) that inference on one image needs at its peak: weights, buffers and activations, not Python.

    CUDA: torch's own peak. CPU: the rise of the process's peak resident set, plus the weights; only Linux can reset
    that peak. None elsewhere.
    """
    run = _runner(model, size)
    weights = sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])
    device = next(model.parameters()).device
    with _evaluating(model):
        run()  # libraries allocate their permanent buffers
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            run()
            return torch.cuda.max_memory_allocated(device) / 1e6
        gc.collect()
        before = machine.peak_resident() if machine.reset_peak_resident() else None
        if device.type != "cpu" or before is None:
            return None
        run()
        return (weights + max(0, (machine.peak_resident() or 0) - before)) / 1e6


def measure(
    model: Model,
    size: tuple[int, int],
    *,
    sizes: Sequence[tuple[int, int]] = (),
    device: torch.device | str | None = None,
    repeats: int | None = None,
) -> dict[str, Any]:
    """All costs at `size` (height, width), in the format of cost.json (without train_seconds and images_seen).

    `sizes`: the canvases of a dataset's images, for `gflops_dataset` (see `flops_over`; null without). `device`: where
    to time it (the model is moved there); None: where it is. `gflops_paper_rule` is the model's own
    `paper_gflops()`, null for a family without one. Parts that run once for each region (a model's `regions()`)
    report the number of regions and the cost of one. `machine`: the share of the device's measured
    limit that one image reaches.
    """
    if device is not None:
        model = model.to(device)
    counted, parameter_counts = flops(model, size), parameters(model)
    paper = model.paper_gflops()
    memory = peak_memory(model, size)
    times = latency(model, size, repeats=repeats)  # after the runs for memory
    where = next(model.parameters()).device
    limit = machine.speed_limit(where)
    return {
        "schema_version": 1,
        "params": parameter_counts["params"],
        "params_trainable": parameter_counts["params_trainable"],
        "gflops": round(counted["gflops"], 4),
        "gflops_paper_rule": None if paper is None else round(paper, 4),
        "gflops_input": list(size),
        "gflops_dataset": flops_over(model, sizes, {size: counted["gflops"]}) if sizes else None,
        "flops_operators": {
            op: {"gflops": round(v["gflops"], 4), "calls": v["calls"]} for op, v in counted["operators"].items()
        },
        "flops_uncounted": [{**u, "share": round(u["share"], 4)} for u in counted["uncounted"]],
        "parts": _part_costs(model, parameter_counts["parts"], counted["parts"]),
        "latency_ms": {**times, "median": round(times["median"], 2), "p95": round(times["p95"], 2)},
        "peak_memory_mb": None if memory is None else round(memory, 1),
        "machine": {
            "gflops_per_second": round(limit, 1),
            "share": round(counted["gflops"] / (times["median"] / 1e3) / limit, 3),
        },
        "measured_on": {
            "device": str(where),
            "threads": torch.get_num_threads(),
            "batch": 1,
        },
    }


def _part_costs(model: Model, params: dict[str, int], macs: dict[str, float]) -> dict[str, dict[str, Any]]:
    """{part: {"params", "gflops"}}, with "regions" and "gflops_per_region" for parts that run per region."""
    regions = model.regions()
    out: dict[str, dict[str, Any]] = {}
    for name in [*part_names(model), OTHER]:
        if name in params or name in macs:
            gflops = macs.get(name, 0.0)
            out[name] = {"params": params.get(name, 0), "gflops": round(gflops, 4)}
            if regions.get(name):
                out[name].update(regions=regions[name], gflops_per_region=round(gflops / regions[name], 6))
    return out


def _runner(model: Model, size: tuple[int, int]) -> Callable[[], None]:
    """A function that runs the network once on noise, in the weights' memory layout, and waits for the device."""
    tensor = next(model.parameters())
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(tensor.device)
    if any(_channels_last(p) for p in model.parameters()):
        images = images.contiguous(memory_format=torch.channels_last)

    def run() -> None:
        with torch.inference_mode():
            model.network(images)
        if tensor.device.type == "cuda":
            torch.cuda.synchronize(tensor.device)
        elif tensor.device.type == "mps":
            torch.mps.synchronize()

    return run


def _channels_last(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


@contextlib.contextmanager
def _evaluating(model: Model) -> Iterator[None]:
    """Evaluation mode within the context; every sub-module's mode is restored after it."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
