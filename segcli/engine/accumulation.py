"""One batch's losses in parts: several processes and several pieces, one after another, give one big batch's gradient.

Each part's loss is divided by counts of the whole step. Some counts follow from the labels before the forward pass
(`model.normalisers`); others are known only during it (the number of positive proposals) and are shared through
`distributed.share` and `distributed.mean`. The second kind is needed before the first piece's backward pass, which
frees its graph. So with several pieces, a forward pass over all of them without gradients counts first: about a third
more work, in the memory of one piece. The alternative, one gradient per loss, scaled at the end, needs a copy of all
weights per loss.

`shares_counts` (models/interface.py) says whether a model has counts of the second kind.
"""

import dataclasses
import sys
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from segcli.core import distributed
from segcli.core.errors import UsageError
from segcli.core.recipe.recipe import Recipe
from segcli.engine.capacity import first_batch
from segcli.engine.compilation import compiler_errors, uncompiled
from segcli.models.interface import Model
from segcli.types import Batch


def step_losses(
    model: Model, batch: Batch, parts: int, device: torch.device, autocast: torch.autocast, *, first: bool = False
) -> Iterator[tuple[Batch, dict[str, Tensor]]]:
    """Yield each of the batch's `parts` pieces with its weighted losses. Their sum over pieces, averaged over ranks, is
    the loss of the whole step. Call backward before taking the next piece: only one piece's graph is held in memory."""
    pieces = split(same_canvas(batch), parts)
    shared = shared_normalisers(model, pieces)
    with first_batch("it can't be trained", first):
        counts_first = len(pieces) > 1 and model.shares_counts
        totals = count(model, pieces, shared, device, autocast) if counts_first else None
    for piece in pieces:
        piece = piece.to(device)
        known_counts = distributed.pieces(len(pieces), totals)
        with first_batch("it can't be trained", first), compiler_errors(), autocast, known_counts:
            losses = model(layout(piece), *shared)
        yield piece, {name: value / len(pieces) for name, value in losses.items()}


def say_what_differs(model: Model, accumulate: int) -> None:
    """Print which layers (batch norms in training mode) make a step in parts differ from a step of the whole batch."""
    norms = [name for name, m in model.named_modules() if isinstance(m, _BatchNorm) and m.training]
    if norms and accumulate * distributed.world() > 1:
        named = ", ".join(norms[:3]) + (", …" if len(norms) > 3 else "")
        print(
            f"note: {len(norms)} batch norms ({named}) take their statistics from each process's and each accumulated "
            "piece's own images: a step is not exactly that of one whole batch",
            file=sys.stderr,
        )


def same_canvas(batch: Batch) -> Batch:
    """Pad the batch to the largest canvas of all ranks, as one process would pad a batch of all their images."""
    if distributed.world() == 1:
        return batch
    height, width = batch.images.shape[2:]
    most = distributed.largest([height, width])
    margin = (0, most[1] - width, 0, most[0] - height)
    if not any(margin):
        return batch
    return dataclasses.replace(
        batch, images=F.pad(batch.images, margin), padding=F.pad(batch.padding, margin, value=True)
    )


def split(batch: Batch, parts: int) -> list[Batch]:
    """Equal slices of a batch along the images, for gradient accumulation."""
    if parts == 1:
        return [batch]
    size = -(-len(batch.images) // parts)
    out = []
    for at in range(0, len(batch.images), size):
        cut = slice(at, at + size)
        pick = lambda v, c=cut: None if v is None else v[c]
        out.append(Batch(*(pick(getattr(batch, f.name)) for f in dataclasses.fields(Batch))))  # type: ignore[arg-type]
    return out


def shared_normalisers(model: Model, pieces: list[Batch]) -> list[dict[str, float]]:
    """Loss normalisers, averaged over micro-batches and ranks, so that the mean of the parts' losses is the loss of the
    whole batch. [] if there is only one part, or if the model has no normalisers known from the labels."""
    if len(pieces) == 1 and distributed.world() == 1:
        return []
    counts = [found for piece in pieces if (found := model.normalisers(piece)) is not None]
    if not counts:
        return []
    return [distributed.average({name: sum(c[name] for c in counts) / len(counts) for name in counts[0]})]


def count(
    model: Model, pieces: list[Batch], shared: list[dict[str, float]], device: torch.device, autocast: torch.autocast
) -> list[Tensor] | None:
    """Counts that the model shares in its forward pass, summed over all pieces and ranks; None if it shares none.

    Has no side effect: the random state and the model's buffers (running statistics) are restored.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    found: list[list[Tensor]] = []
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        for piece in pieces:
            with autocast, uncompiled(), distributed.counting(len(pieces)) as own:
                model(layout(piece.to(device)), *shared)
            found.append(own)
            if len(own) != len(found[0]):
                raise UsageError(
                    f"train.accumulate: the model's losses call distributed.share or distributed.mean "
                    f"{len(found[0])} times for one piece of the batch and {len(own)} times for another",
                    hint="a head must call them for every batch, also for 0 items",
                )
            if not own:
                break
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    if not found[0]:
        return None
    return distributed.total([torch.stack(values).sum(0) for values in zip(*found, strict=True)])


def layout(batch: Batch) -> Batch:
    return dataclasses.replace(batch, images=batch.images.contiguous(memory_format=torch.channels_last))


def bfloat16(recipe: Recipe, device: torch.device) -> bool:
    """Whether to compute in bfloat16: `auto` means on GPUs that support it (fp16 would need loss scaling)."""
    name = recipe.hardware.precision
    return name == "bf16" or (name == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported())


def add_gradients(recipe: Recipe, model: Model, batch: Batch, device: torch.device) -> None:
    """Add a whole step's gradients to those of `model`'s parameters, as the training loop does before it averages them
    over ranks. Every rank has to call it: losses share their counts."""
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=bfloat16(recipe, device))
    for _, losses in step_losses(model, batch, recipe.train.accumulate, device, autocast):
        torch.stack(list(losses.values())).sum().backward()
