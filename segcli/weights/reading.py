"""Read a state dict from a file. Reading never runs code."""

import argparse
import zipfile
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from segcli.core.errors import ModelError
from segcli.weights.detectron2_pickle import read_pickle
from segcli.weights.plain_tensors import plain_tensors, reason
from segcli.weights.state_digest import DIGEST, verified, weights_digest

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
            return _read_safetensors(path)
        refuse_damage(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # a DETR training keeps its flags: a plain object
            state = verified(torch.load(path, map_location="cpu", weights_only=True), str(path))
    except ModelError:
        raise
    except Exception as error:  # torch and safetensors raise many kinds; each means that this file can't be used
        raise ModelError(
            f"{path}: can't be read as weights: {reason(error)}", hint="only tensors are read, never pickled code"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    return plain_tensors(state, str(path))


def refuse_damage(path: Path) -> None:
    """Raise ModelError where a part of a torch file no longer has the checksum that was written with it: torch itself
    does not look. Files of older formats have none."""
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.CRC and entry.compress_type == zipfile.ZIP_STORED:  # 0: written without one
                    with archive.open(entry) as file:
                        while file.read(1 << 20):
                            pass
    except zipfile.BadZipFile as error:
        if zipfile.is_zipfile(path):
            raise ModelError(f"{path}: is damaged: {' '.join(str(error).split())}") from error
    except (OSError, RuntimeError, ValueError, EOFError):
        return  # whatever it is, torch says it


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with safetensors.safe_open(path, "pt") as file:
        written = (file.metadata() or {}).get(DIGEST)
    state = safetensors.torch.load_file(path)
    if written is not None and weights_digest(state) != written:
        raise ModelError(f"{path}: is damaged: its tensors are not those that were written")
    return state
