"""torchvision's R-CNN names -> ours. One rule: `roi_heads.X_head` and `roi_heads.X_predictor` belong to the head X."""

import re
from collections.abc import Callable

from torch import Tensor

RENAMES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    # modules that the files of 2019 name differently; torchvision renames them while loading
    (r"^backbone\.fpn\.(inner|layer)_blocks\.(\d)\.(weight|bias)$", r"backbone.fpn.\1_blocks.\2.0.\3"),
    (r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),
    (r"^roi_heads\.mask_head\.mask_fcn(\d)\.", lambda m: f"roi_heads.mask_head.{int(m[1]) - 1}.0."),
    # the rule
    (r"^roi_heads\.([a-z]+)_(head|predictor)\.", r"roi_heads.heads.\1.\2."),
]


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A Faster, Mask or Keypoint R-CNN state dict under this project's names; body, FPN and RPN are named alike."""
    out = {}
    for key, value in state.items():
        for pattern, new in RENAMES:
            key = re.sub(pattern, new, key)
        out[key] = value
    return out
