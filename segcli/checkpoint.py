"""Weights and training states on disk: written whole or not at all, read without running code."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from segcli.errors import ModelError, SegcliError
from segcli.weights.backbones import load_backbone, read_state


def write_atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write` with a temporary path beside `path`, flush it to disk, and rename it: never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise SegcliError(
            f"{path}: can't be written: {error}", hint="is the disk full? an earlier file of this name is untouched"
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def save_state(path: Path, state: dict[str, Any]) -> None:
    """A training state (tensors, numbers, strings, lists, dicts)."""
    write_atomic(path, lambda p: torch.save(state, p))


def load_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote. Raises ModelError where it is missing, truncated, or holds anything but plain data."""
    if not path.is_file():
        raise ModelError(f"{path}: no checkpoint", hint="was the run stopped before its first save?")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; each means that this file can't be used
        raise ModelError(f"{path}: not a readable checkpoint: {' '.join(str(error).split())[:200]}") from error


def save_weights(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Weights alone, as safetensors."""
    plain = {k: v.detach().contiguous().cpu() for k, v in state.items()}
    write_atomic(path, lambda p: safetensors.torch.save_file(plain, p, metadata))


def initialise(model: nn.Module, settings: dict[str, Any]) -> list[dict[str, str]]:
    """Load the pretrained backbone weights that a recipe's `model` section names. -> source and licence of each."""
    used = []
    for module in model.modules():
        name = getattr(module, "pretrained", None)
        if name is not None:
            used.append(load_backbone(module, name, settings["backbone"]))
    return used


def load_weights(model: nn.Module, file: str | Path, source: str = "auto") -> dict[str, list[str]]:
    """Load a weight file into a model, strictly: same keys, same shapes. -> {"loaded": […]}.

    Raises ModelError that lists what is missing, unexpected or misshapen.
    """
    state = read_state(Path(file))
    load_strict(model, state, str(file))
    return {"loaded": sorted(state)}


def load_strict(model: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Load `state`, or raise ModelError with every difference and change nothing."""
    own = model.state_dict()
    problems = []
    for title, keys in [
        ("missing", [k for k in own if k not in state]),
        ("unexpected", [k for k in state if k not in own]),
        ("of another shape", [k for k in own if k in state and own[k].shape != state[k].shape]),
    ]:
        if keys:
            shown = ", ".join(
                f"{k} {list(state[k].shape)} for {list(own[k].shape)}" if title == "of another shape" else k
                for k in keys[:4]
            )
            problems.append(f"{len(keys)} {title} ({shown}{', …' if len(keys) > 4 else ''})")
    if problems:
        raise ModelError(f"{where}: weights of another model: " + "; ".join(problems))
    model.load_state_dict(state)
