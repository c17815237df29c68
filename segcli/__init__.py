"""segcli: images and labels to trained, scored, compared segmentation models. Importing it does not import torch."""

import importlib
import os
from typing import Any

__version__ = "0.1.0"
__all__ = ["Dataset", "Recipe", "compare_runs", "evaluate", "load", "load_weights", "prepare", "train"]

# Between two operators, torch's threads wait for the next one in a loop that keeps their cores busy. On a machine that
# does anything else, that takes the time of the thread that is waited for. GNU's OpenMP library, which torch uses on
# Linux, turns 300,000 times before a thread sleeps; others don't know this variable. It is read when torch is imported,
# here, in child processes, and in a notebook where segcli comes first. See docs/train.md, "Threads that wait".
SPINS = "10000"
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = SPINS

_HOME = {
    "Dataset": "segcli.data.dataset",
    "Recipe": "segcli.core.recipe.recipe",
    "compare_runs": "segcli.compare.comparison",
    "evaluate": "segcli.commands.evaluate",
    "load": "segcli.commands.predictor",
    "load_weights": "segcli.engine.checkpoint",
    "prepare": "segcli.commands.prepare",
    "train": "segcli.commands.train",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'segcli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
