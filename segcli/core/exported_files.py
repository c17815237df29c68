"""How files of exported models are called, and what lies beside them."""

from pathlib import Path
from typing import Literal

Target = Literal["onnx", "openvino", "torch"]
SUFFIXES: dict[str, Target] = {".onnx": "onnx", ".xml": "openvino", ".pt2": "torch"}


def is_exported(path: str | Path) -> bool:
    """Whether a name is one of an exported model's file."""
    return Path(path).suffix.lower() in SUFFIXES


def suffix(target: Target) -> str:
    return next(suffix for suffix, name in SUFFIXES.items() if name == target)


def results(path: Path) -> Path:
    """The run folder beside a file that holds its scores and predictions, as a run's own does."""
    return path.with_name(path.name + ".run")


def script(path: Path) -> Path:
    """The program beside a file that runs it without segcli."""
    return path.with_name(path.name + ".py")
