"""Read a state dict from a file. Reading never runs code."""

import argparse
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from segcli.errors import ModelError
from segcli.weights.detectron2_pickle import read_pickle
from segcli.weights.plain_tensors import plain_tensors, reason

WRAPPERS = ("ema", "model", "state_dict")  # where training states keep the weights; the averaged ones come first


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from .safetensors, .pt/.pth/.bin (tensors and plain containers only) or detectron2's .pkl.

    Raises ModelError where there is no such file, or where it is truncated, or holds anything else.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such weight file")
    if path.suffix == ".pkl":
        return read_pickle(path)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # a DETR training keeps its flags: a plain object
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds; each means that this file can't be used
        raise ModelError(
            f"{path}: can't be read as weights: {reason(error)}", hint="only tensors are read, never pickled code"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    return plain_tensors(state, str(path))
