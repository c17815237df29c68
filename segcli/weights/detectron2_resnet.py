"""ResNet's parameter names: detectron2's (`stem.conv1.norm.weight`, `res2.0.shortcut.weight`) and torchvision's.

One to one, for the 7×7 stem and for the three 3×3 convolutions of the "c" variants, which here
bear the names that timm gives them (`conv1.0`, `conv1.1`, `conv1.3`, `conv1.4`, `conv1.6`, `bn1`).
"""

import re

from torch import Tensor

from segcli.core.errors import ModelError

DEEP_STEM = {"conv1": ("conv1.0", "conv1.1"), "conv2": ("conv1.3", "conv1.4"), "conv3": ("conv1.6", "bn1")}
PLAIN_STEM = {"conv1": ("conv1", "bn1")}


def to_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A detectron2 ResNet's state dict under torchvision's names. Raises ModelError for other keys."""
    stem = DEEP_STEM if "stem.conv2.weight" in state else PLAIN_STEM
    names = {**_stem_names(stem), **_block_names(state)}
    unknown = []
    out = {}
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        if module in names:
            out[f"{names[module]}.{leaf}"] = value
        elif leaf != "num_batches_tracked":
            unknown.append(key)
    if unknown:
        raise ModelError(f"{len(unknown)} keys are not of a detectron2 ResNet: {', '.join(unknown[:10])}")
    return out


def _stem_names(stem: dict[str, tuple[str, str]]) -> dict[str, str]:
    """detectron2 module name -> torchvision module name."""
    names = {}
    for theirs, (conv, norm) in stem.items():
        names[f"stem.{theirs}"] = conv
        names[f"stem.{theirs}.norm"] = norm
    return names


def _block_names(state: dict[str, Tensor]) -> dict[str, str]:
    """The same for every block that `state` has."""
    names = {}
    for stage, block in sorted({(int(m[1]), int(m[2])) for key in state if (m := re.match(r"res(\d)\.(\d+)\.", key))}):
        theirs, ours = f"res{stage}.{block}", f"layer{stage - 1}.{block}"
        for i in (1, 2, 3):
            names[f"{theirs}.conv{i}"] = f"{ours}.conv{i}"
            names[f"{theirs}.conv{i}.norm"] = f"{ours}.bn{i}"
        names[f"{theirs}.shortcut"] = f"{ours}.downsample.0"
        names[f"{theirs}.shortcut.norm"] = f"{ours}.downsample.1"
    return names
