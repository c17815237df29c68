"""Multiply-adds as the tool behind the MaskFormer paper's tables counts them (fvcore; Cheng et al., 2021, table 1).

Convolution, linear, matrix product and attention count as everywhere; a group or layer norm counts 5 for each value,
nearest upsampling 1 and bilinear upsampling 4 for each value it makes.
"""

import copy
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten


def count(model: nn.Module, size: tuple[int, int]) -> float:
    """GFLOPs of `model.network` on one image of `size` (height, width); 1 multiply-add = 1.

    Runs a copy on the meta device: nothing is computed and the model is left alone.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False).to("meta")
    rules = {
        aten.native_group_norm: lambda x, *args, out_shape: 2 * 5 * numel(x),
        aten.native_layer_norm: lambda x, *args, out_shape: 2 * 5 * numel(x),
        aten.upsample_nearest2d: lambda x, *args, out_shape: 2 * numel(out_shape),
        aten.upsample_bilinear2d: lambda x, *args, out_shape: 2 * 4 * numel(out_shape),
    }
    with FlopCounterMode(display=False, custom_mapping=rules) as counter, torch.no_grad():
        network: Any = model.network
        network(torch.empty(1, 3, *size, device="meta"))
    return counter.get_total_flops() / 2e9


def numel(shape: torch.Size) -> int:
    return shape.numel()
