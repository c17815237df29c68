"""Counting a network on the meta device, where tensors have no values and the library asks for some."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class MetaTruth(TorchDispatchMode):
    """Inside, a condition on tensors without values is true: shapes agree, and nothing is padded."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            [asked] = args
            if isinstance(asked, Tensor) and asked.is_meta and asked.dtype == torch.bool:
                return True
        return func(*args, **(kwargs or {}))
