"""segcli: images and labels to trained, scored, compared segmentation models. Importing it does not import torch."""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["Recipe", "evaluate", "load", "load_weights", "train"]

_HOME = {
    "Recipe": "segcli.recipe",
    "evaluate": "segcli.evaluation",
    "load": "segcli.prediction",
    "load_weights": "segcli.checkpoint",
    "train": "segcli.training",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'segcli' has no attribute {name!r}")
