"""The graph as PyTorch's own exported program, which torch.export.load reads without segcli."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram

from segcli.models.exported.description import KEY, Description


def write(program: ExportedProgram, path: Path, description: Description) -> None:
    """The description lies in the archive as extra/segcli.json. Its digest is of the weights."""
    weights = hashlib.sha256()
    for name, tensor in sorted(program.state_dict.items()):
        weights.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    text = description.sealed(weights.digest()).model_dump_json()
    torch.export.save(program, path, extra_files={f"{KEY}.json": text})


def load(path: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A program as a function from a uint8 image to its outputs. PyTorch's loader unpickles: for own files alone."""
    program = torch.export.load(path).module()
    return lambda image: {name: value.numpy() for name, value in program(torch.from_numpy(image.copy())).items()}
