"""Refuse recipes that this machine's memory can't hold, before anything is allocated or written.

Uses lower bounds only: what they refuse would end in an allocator error, a killed process, or hours of swapping. Close
cases are left to `segcli train --dry-run`, which measures.
"""

import contextlib
import copy
import os
import sys
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from segcli.core.errors import SegcliError, UsageError
from segcli.core.recipe.recipe import Recipe
from segcli.data.augment.stages import chosen
from segcli.engine import machine
from segcli.models.interface import Model

FLOAT = 4  # bytes
SURE = 0.5  # share of the counted activations that is certainly needed: bf16 halves them
LIKELY = 40  # activations are counted only if this many times a batch's pixels would not fit
THREADS = 4  # per CPU: more of them wait for each other, and the system may refuse to start them
FEW_THREADS = 64  # harmless on any machine


def refuse_batch(
    recipe: Recipe, model: Model, sizes: Iterable[tuple[int, int]], images: int, *, training: bool
) -> None:
    """Raise UsageError if memory can't hold `images` images of the smallest of `sizes` (height, width): their pixels
    and, in training, the activations that the backbone's backward pass needs."""
    canvas = smallest_canvas(recipe, model, sizes, training)
    device = model.device
    free = machine.free_memory(device)
    if canvas is None or free is None:
        return
    free = 1e6 * free + (machine.free_swap() if device.type == "cpu" else 0)
    height, width = canvas
    # off the CPU a training step's pieces come to the device one at a time
    held = images // recipe.train.accumulate if training and device.type != "cpu" else images
    need = float(held * 3 * height * width * FLOAT)
    if training and free / LIKELY < need < free:
        with contextlib.suppress(RuntimeError, AssertionError, ValueError, TypeError):  # such a model is not refused
            kept = kept_activations(model, (height, width), lambda copied: copied.trunk())
            need += SURE * (images // recipe.train.accumulate) * kept
    if need <= free:
        return
    key = "train.batch_size" if training else "eval.batch_size"
    raise UsageError(
        f"{key} and data.size: {images:,} images of {height:,} x {width:,} pixels need more than "
        f"{max(1, int(need / 1e9)):,} GB of memory at a time, and {free / 1e9:,.1f} GB are free",
        hint=f"a smaller {key} or data.size needs less",
    )


def smallest_canvas(
    recipe: Recipe, model: Model, sizes: Iterable[tuple[int, int]], training: bool
) -> tuple[int, int] | None:
    """Smallest (height, width) of the model's input; None if augmentation decides it."""
    if training and {"crop", "short_side"} & chosen(recipe.data.augment).keys():
        return None
    rule = model.preprocess
    found = [rule.canvas([rule.output_size(*size)]) for size in set(sizes)]
    return min(found, key=lambda size: size[0] * size[1], default=None)


def kept_activations(
    model: Model,
    size: tuple[int, int],
    part: Callable[[Model], Callable[[Tensor], object] | None] = lambda model: model.network,
) -> int:
    """Bytes of activations saved for the backward pass of `model.network` (or of another `part` that takes images) for
    one image of `size` (height, width): counted on the meta device, each storage once, without weights. 0 without that
    part."""
    copied = copy.deepcopy(model).to("meta").train()
    forward = part(copied)
    if forward is None:
        return 0
    kept: dict[int, torch.UntypedStorage] = {}  # kept alive, so that no address is reused

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept.setdefault(storage._cdata, storage)
        return tensor

    own = {t.untyped_storage()._cdata for t in [*copied.parameters(), *copied.buffers()]}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward(torch.empty(1, 3, *size, device="meta"))
    return sum(storage.nbytes() for key, storage in kept.items() if key not in own)


def refuse_weights(build: Callable[[], torch.nn.Module], where: str) -> None:
    """Raise UsageError if the weights of the model that `build` returns exceed memory: it is built on the meta device
    first. A model that can't be built there is not refused."""
    free = machine.free_memory("cpu")
    try:
        with torch.device("meta"):
            model = build()
    except RuntimeError:
        return
    need = sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])
    if free is not None and need > 1e6 * free:
        raise UsageError(
            f"{where}: its weights need {need / 1e9:,.0f} GB of memory, and {free / 1e3:,.1f} GB are free",
            hint="are the numbers of the recipe's model section as they should be?",
        )


def use_threads(threads: int | None) -> None:
    """Set the number of CPU threads to `threads` (None: torch's default), or to the most that are useful, with a
    message: the system refuses to start thousands of threads and ends the process."""
    if threads is None:
        return
    most = max(FEW_THREADS, THREADS * (os.cpu_count() or 1))
    if threads > most:
        print(f"note: hardware.threads is {threads}: {most} are used on this machine's CPUs", file=sys.stderr)
    torch.set_num_threads(min(threads, most))


@contextlib.contextmanager
def first_batch(what: str, first: bool = True) -> Iterator[None]:
    """Wraps a model's `first` forward pass, in which settings that do not fit together show: torch's errors become one
    UsageError. Out-of-memory errors and segcli's own errors pass through."""
    try:
        yield
    except (RuntimeError, TypeError, IndexError, ZeroDivisionError, AssertionError, ValueError) as error:
        if not first or isinstance(error, SegcliError) or machine.out_of_memory(error):
            raise
        raise UsageError(
            f"model: {what} with these settings: {(str(error).splitlines() or ['no reason given'])[0]:.300}",
            hint="do the numbers of the recipe's model section (and data.size) fit together?",
        ) from error
