"""Several processes that train one model: who this one is, what they average, and how they are started.

One process a device, all with the same weights; each reads its own part of every batch, and gradients are averaged
before each step. Without a process group every function here is the identity, so callers need no second way.
"""

import contextlib
import dataclasses
import datetime
import json
import logging
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as group
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from segcli.core.errors import DataError, ModelError, SegcliError, UsageError

T = TypeVar("T")
PATIENCE = datetime.timedelta(days=1)  # the others wait while rank 0 prepares data or scores
CLOSING = 60  # seconds that processes have to finish a step and save, after Ctrl-C or the failure of another
BUCKET = 25_000_000  # numbers that are averaged in one message
INTERRUPTED = 130


def rank() -> int:
    """This process's number, 0 first; rank 0 alone writes files, prints and scores."""
    return group.get_rank() if group.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return group.get_world_size() if group.is_initialized() else 1


def launched() -> bool:
    """Whether this process was started as one of several, by `launch` or by torchrun."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def _number(variable: str) -> int:
    text = os.environ[variable]
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise UsageError(f"the environment variable {variable} is {text!r:.80}, no number", hint="torchrun sets it")
    return int(text)


@contextlib.contextmanager
def joined(processes: int, device: torch.device) -> Iterator[torch.device]:
    """Join the others where this process is one of several (gloo on CPUs, NCCL on CUDA). -> this process's own device.

    A process group that is there already is used and left as it is.
    Raises UsageError where torchrun started another number of processes than the recipe's `processes`.
    """
    started = _number("WORLD_SIZE") if launched() else 1
    if started != processes:
        raise UsageError(
            f"hardware.devices times hardware.nodes is {processes}, and {started} processes were started",
            hint=f"torchrun's --nnodes times --nproc-per-node must be {processes}",
        )
    if processes == 1:
        yield device
        return
    local = _number("LOCAL_RANK") if "LOCAL_RANK" in os.environ else 0
    if device.type == "cuda":
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if group.is_initialized():
        yield device
        return
    group.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    yield device
    group.destroy_process_group()  # not after an error: the others would fail of it before it is reported


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Rank 0 runs the block alone, the others after it: they find done what it did."""
    if rank() and world() > 1:
        group.barrier()
    yield
    if not rank() and world() > 1:
        group.barrier()


def from_main(value: T) -> T:
    """Rank 0's value (anything that can be pickled), on every rank."""
    if world() == 1:
        return value
    box = [value]
    group.broadcast_object_list(box)
    return box[0]


def number_from_main(value: float) -> float:
    """Rank 0's number, bit for bit the same on every rank; quicker than `from_main`, for every step."""
    if world() == 1:
        return value
    box = torch.tensor([0.0 if rank() else value], dtype=torch.float64, device=_device())
    group.all_reduce(box)
    return float(box.item())


def average(numbers: dict[str, float]) -> dict[str, float]:
    """Each number's mean over the ranks, which must give the same keys."""
    if world() == 1:
        return numbers
    keys = sorted(numbers)
    total = torch.tensor([numbers[key] for key in keys], dtype=torch.float64, device=_device())
    group.all_reduce(total)
    return dict(zip(keys, (total / world()).tolist(), strict=True))


def largest(numbers: list[int]) -> list[int]:
    """Each number's maximum over the ranks."""
    if world() == 1:
        return numbers
    box = torch.tensor(numbers, device=_device())
    group.all_reduce(box, group.ReduceOp.MAX)
    return box.tolist()


def parts() -> int:
    """How many parts the step's batch has: ranks times accumulated pieces. A loss that is divided by a count's mean
    over the parts, but by 1 where the whole step has none, writes max(count, 1 / distributed.parts())."""
    return world() * _step.pieces


def mean(value: Tensor, least: float = 0.0) -> Tensor:
    """A count's mean over the parts of a step, for losses whose counts are known only on the way; takes no gradient.
    least: what the sum over the parts is at least."""
    return _sum(value.detach()).clamp(min=least) / parts()


def share(count: int) -> Tensor | float:
    """What turns a mean over this part's `count` items into its share of the mean over all parts' items: the count over
    the parts' mean count. Every part must call it, also for nothing. 1.0 where there is one part."""
    if parts() == 1:
        return 1.0
    own = torch.tensor(float(count), device=_device() if world() > 1 else "cpu")
    return own / mean(own).clamp(min=1e-9)


def total(values: list[Tensor]) -> list[Tensor]:
    """Each number's sum over the ranks, which must give as many."""
    if world() == 1:
        return values
    stacked = torch.stack(values)
    group.all_reduce(stacked)
    return list(stacked)


@contextlib.contextmanager
def pieces(number: int, totals: list[Tensor] | None = None) -> Iterator[None]:
    """In the block, the batch is one of `number` accumulated pieces; totals: what `mean` and `share` would sum over all
    parts of the step, in the order in which they are called."""
    global _step
    before, _step = _step, _Step(number, totals)
    try:
        yield
    finally:
        _step = before


@contextlib.contextmanager
def counting(number: int) -> Iterator[list[Tensor]]:
    """In the block, `mean` and `share` note this piece's own counts in the list that it gives, and sum nothing."""
    global _step
    own: list[Tensor] = []
    before, _step = _step, _Step(number, None, own)
    try:
        yield own
    finally:
        _step = before


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank."""
    return flag if world() == 1 else average({"flag": float(flag)})["flag"] > 0


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the ranks; a missing one counts as zero."""
    if world() == 1:
        return
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    for bucket in _buckets(gradients):
        flat = _flatten_dense_tensors(bucket)
        group.all_reduce(flat)
        flat /= world()
        for gradient, value in zip(bucket, _unflatten_dense_tensors(flat, bucket), strict=True):
            gradient.copy_(value)


def same_weights(model: nn.Module) -> None:
    """Give every rank rank 0's parameters and buffers."""
    if world() > 1:
        for tensor in model.state_dict().values():
            group.broadcast(tensor, 0)


def reseed(seed: int, step: int) -> None:
    """Ranks above 0 draw dropout anew from (seed, step, rank); rank 0's stream is the one that checkpoints hold."""
    if rank():
        torch.manual_seed(((seed * 1_000_003 + step) * 4096 + rank()) % 2**63)


def launch(function: Callable[..., T], arguments: Sequence[object], *, devices: int, nodes: int, device: str) -> T:
    """Run `function(*arguments)` in one process for each of this machine's devices. -> what rank 0 returned.

    The first that fails ends the others, and its error is raised here. Raises UsageError where several machines are
    wanted, each of which has to be started by torchrun, or more devices than there are; KeyboardInterrupt.
    """
    if nodes > 1:
        raise UsageError(
            f"hardware.nodes is {nodes}: start this command on every machine with torchrun",
            hint=f"torchrun --nnodes {nodes} --nproc-per-node {devices} --rdzv-backend c10d --rdzv-endpoint HOST:29500 "
            "-m segcli.cli.app train …",
        )
    if device not in ("cpu", "cuda"):
        raise UsageError(f"hardware.device {device} can't be used with several devices: cpu or cuda")
    if device == "cuda" and devices > torch.cuda.device_count():
        raise UsageError(f"hardware.devices is {devices}, and torch sees {torch.cuda.device_count()} CUDA devices here")
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in list(logging.root.manager.loggerDict):  # each has a level of its own; they tell of failures at length
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="segcli-ranks-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=devices,
            run_id=f"segcli-{os.getpid()}",
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            shutdown_timeout=CLOSING,
        )
        try:
            return elastic_launch(config, _one_rank)(function, arguments, folder, device)[0]
        except SignalException:
            raise KeyboardInterrupt from None
        except ChildFailedError as failed:
            error = _first_error(Path(folder))
            if error is None:
                number, failure = failed.get_first_failure()
                error = SegcliError(
                    f"process {number} of {devices} ended without a word: {failure.message}",
                    hint="the system ends processes when memory runs out",
                )
            raise error from error.__cause__


def _one_rank(function: Callable[..., T], arguments: Sequence[object], folder: str, device: str) -> T:
    """Run in each process: an error is left in `folder` for the one that launched, and ends the process."""
    number = int(os.environ["RANK"])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the training loop saves when asked, there is nothing to save
    if number:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (what rank 0 says is enough)
    if device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ["LOCAL_WORLD_SIZE"])))
    try:
        return function(*arguments)
    except BaseException as error:
        code = INTERRUPTED if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)
        report = {
            "time": time.time(),
            "code": code,
            "message": str(error) if isinstance(error, SegcliError) else f"{type(error).__name__}: {error}",
            "hint": getattr(error, "hint", None),
            "traceback": traceback.format_exc(),
        }
        Path(folder, f"{number}.json").write_text(json.dumps(report), encoding="utf-8")
        sys.stderr.flush()
        os._exit(code)  # at once: an orderly end would wait for the others, who wait for this one


def _first_error(folder: Path) -> BaseException | None:
    """The error of the process that failed first; the others' are its consequence."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    if not reports:
        return None
    first = min(reports, key=lambda report: report["time"])
    if first["code"] == INTERRUPTED:
        return KeyboardInterrupt()
    kinds = {kind.exit_code: kind for kind in (SegcliError, UsageError, DataError, ModelError)}
    error = kinds.get(first["code"], SegcliError)(first["message"], hint=first["hint"])
    error.__cause__ = RuntimeError(first["traceback"])  # what --debug shows
    return error


@dataclasses.dataclass
class _Step:
    """pieces: that a rank accumulates; totals: see `pieces`; own: see `counting`; at: how many calls there were."""

    pieces: int = 1
    totals: list[Tensor] | None = None
    own: list[Tensor] | None = None
    at: int = 0


_step = _Step()


def _sum(value: Tensor) -> Tensor:
    """A number's sum over the parts of the step."""
    if _step.own is not None:
        _step.own.append(value.to(torch.promote_types(value.dtype, torch.float32)))
        return value
    if _step.totals is not None:
        _step.at += 1
        return _step.totals[_step.at - 1].to(value)
    assert _step.pieces == 1, "with several pieces, what is shared has been counted before"
    if world() == 1:
        return value
    everyone = value.clone()
    group.all_reduce(everyone)
    return everyone


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if group.get_backend() == "nccl" else torch.device("cpu")


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in order, in lists of one type and at most BUCKET numbers (one tensor may have more)."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and (tensor.dtype != bucket[0].dtype or sum(t.numel() for t in bucket) + tensor.numel() > BUCKET):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
