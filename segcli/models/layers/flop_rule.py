"""Multiply-adds as papers count them: convolutions, linear layers, matrix products and attention."""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

Network = TypeVar("Network", bound=nn.Module)
aten = torch.ops.aten
FVCORE = {  # the tool behind the MaskFormer paper's tables (Cheng et al., 2021) also counts these, for each value made
    aten.native_group_norm: lambda x, *args, out_shape: 2 * 5 * numel(x),
    aten.native_layer_norm: lambda x, *args, out_shape: 2 * 5 * numel(x),
    aten.upsample_nearest2d: lambda x, *args, out_shape: 2 * numel(out_shape),
    aten.upsample_bilinear2d: lambda x, *args, out_shape: 2 * 4 * numel(out_shape),
}


def count(
    model: Network, run: Callable[[Network, Tensor], object], size: tuple[int, int], fvcore: bool = False
) -> float:
    """GFLOPs of `run(model, images)` on one image of `size` (height, width); 1 multiply-add = 1.

    Runs a copy on the meta device: nothing is computed and the model is left alone.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False).to("meta")  # the counter follows gradients, if any
    with FlopCounterMode(display=False, custom_mapping=FVCORE if fvcore else {}) as counter, torch.no_grad():
        run(model, torch.empty(1, 3, *size, device="meta"))
    return counter.get_total_flops() / 2e9


def numel(shape: torch.Size) -> int:
    return shape.numel()
