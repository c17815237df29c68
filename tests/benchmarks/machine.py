"""What this machine can do at most, against which benchmarks state their own speed."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch

SECONDS = 1.5  # of repeating each operation


def limit() -> float:
    """The best fp32 GFLOP/s of a matrix product and of a 3x3 convolution, as layers of detectors have them; printed.

    1 multiply-add = 1 FLOP, as everywhere in segcli.
    """
    a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
    x = torch.rand(1, 256, 100, 136).contiguous(memory_format=torch.channels_last)
    weight = torch.rand(256, 256, 3, 3).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        product = 2048**3 / best(lambda: a @ b) / 1e9
        convolution = 256 * 256 * 9 * 100 * 136 / best(lambda: torch.conv2d(x, weight, padding=1)) / 1e9
    print(
        f"this machine, {torch.get_num_threads()} threads: matrix product {product:.0f}, 3x3 convolution "
        f"{convolution:.0f} GFLOP/s",
        flush=True,
    )
    return max(product, convolution)


def best(run: Callable[[], object]) -> float:
    """Seconds of the fastest of many calls."""
    times, end = [timed(run)], time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        times.append(timed(run))
    return min(times)


def timed(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def paired(
    title: str, ours: Callable[[], float], theirs: Callable[[], float], rounds: int, *, names: Sequence[str], goal: str
) -> tuple[float, float]:
    """Run both in turn, A/B/A/B, after one round that does not count, and print the median of the rounds' ratios.

    Each returns its seconds. -> their medians.
    """
    ours(), theirs()
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    ratios = sorted(a / b for a, b in pairs)
    mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(
        f"{title}: {names[0]} {mine:.3f} s, {names[1]} {other:.3f} s, ratio {statistics.median(ratios):.3f} "
        f"({ratios[0]:.3f} to {ratios[-1]:.3f}, {rounds} rounds); goal {goal}",
        flush=True,
    )
    return mine, other


def shares(gflops: float, seconds: Sequence[float], names: Sequence[str], at_most: float) -> None:
    """Print each side's share of the machine's limit for the same work."""
    parts = [f"{name} {gflops / s / at_most:.0%}" for name, s in zip(names, seconds, strict=True)]
    print(f"  share of this machine's limit at {gflops:.0f} GFLOP: {', '.join(parts)}", flush=True)
