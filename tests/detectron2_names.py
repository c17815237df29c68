"""detectron2's names of a ResNet's parameters, to make files as it releases them."""

import re

from torch import Tensor

STEM = {"conv1": "conv1", "bn1": "conv1.norm"}
DEEP_STEM = {
    **{"conv1.0": "conv1", "conv1.1": "conv1.norm", "conv1.3": "conv2", "conv1.4": "conv2.norm"},
    **{"conv1.6": "conv3", "bn1": "conv3.norm"},
}


def to_detectron2(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with torchvision's names under detectron2's, which count no batches."""
    stem = DEEP_STEM if "conv1.0.weight" in state else STEM
    out = {}
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        if block := re.fullmatch(r"layer(\d)\.(\d+)\.(.+)", module):
            inner = re.sub(r"bn(\d)", r"conv\1.norm", block[3])
            inner = inner.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
            out[f"res{int(block[1]) + 1}.{block[2]}.{inner}.{leaf}"] = value
        else:
            out[f"stem.{stem[module]}.{leaf}"] = value
    return out
