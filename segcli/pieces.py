"""A step's batch in the pieces that are computed one after the other, and how each is."""

import dataclasses
from typing import Any

import torch

from segcli import dist
from segcli.recipe import Recipe
from segcli.types import Batch


def split(batch: Batch, parts: int) -> list[Batch]:
    """Equal slices of a batch along the images, for gradient accumulation."""
    if parts == 1:
        return [batch]
    size = -(-len(batch.images) // parts)
    out = []
    for at in range(0, len(batch.images), size):
        cut = slice(at, at + size)
        pick = lambda v, c=cut: None if v is None else v[c]
        out.append(
            Batch(
                *(pick(getattr(batch, f.name)) for f in dataclasses.fields(Batch)),  # type: ignore[arg-type]
            )
        )
    return out


def shared_normalisers(model: Any, pieces: list[Batch]) -> list[dict[str, float]]:
    """What the parts of a batch, accumulated or of several ranks, divide their losses by: the mean of their own counts,
    so that the parts' mean loss is the whole batch's. [] where there is one part, or where the model's losses are means
    of counts that only they know (R-CNN's, which shares them over ranks itself, see `dist.share`).
    """
    if (len(pieces) == 1 and dist.world() == 1) or not hasattr(model, "normalisers"):
        return []
    counts = [model.normalisers(piece) for piece in pieces]
    return [dist.average({name: sum(c[name] for c in counts) / len(counts) for name in counts[0]})]


def layout(batch: Batch) -> Batch:
    return dataclasses.replace(batch, images=batch.images.contiguous(memory_format=torch.channels_last))


def bfloat16(recipe: Recipe, device: torch.device) -> bool:
    """Whether to compute in bfloat16: `auto` does on GPUs that have it (fp16 would need loss scaling)."""
    name = recipe.hardware.precision
    return name == "bf16" or (name == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported())


def add_gradients(recipe: Recipe, model: Any, batch: Batch, device: torch.device) -> None:
    """Add a whole step's gradients to those of `model`'s parameters, as the training loop does before it averages them
    over ranks. Every rank has to call it: losses share their counts."""
    pieces = split(batch, recipe.train.accumulate)
    shared = shared_normalisers(model, pieces)
    for piece in pieces:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16(recipe, device)):
            losses = model(layout(piece.to(device)), *shared)
        (torch.stack(list(losses.values())).sum() / len(pieces)).backward()
