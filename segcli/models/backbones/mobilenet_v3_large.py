"""MobileNetV3-Large (Howard et al., 2019) with torchvision's parameter names, as its small detectors and segmentation
models have it."""

from functools import partial
from typing import Any

import torchvision
from torch import Tensor, nn

from segcli.models.layers.frozen_norm import FrozenNorm, apply_norms, hold_still

STAGES = (0, 2, 4, 7, 13, 16)  # the blocks that halve the map, the first and the last: C0 … C5
CHANNELS = (16, 24, 40, 80, 160, 960)
STRIDES = (2, 4, 8, 16, 32, 32)


def build(
    *,
    levels: tuple[int, ...] = (1, 2, 3, 5),
    norm: str = "frozen",
    frozen_stages: int = 3,
    dilated: bool = False,
) -> "MobileNetV3Large":
    """levels: which of the outputs C0 … C5 are the maps; torchvision's detectors read 4 and 5, its segmentation models
    2 and 5. norm: `frozen` (statistics and affine are constants) or `trainable`. frozen_stages: how many stages, the
    stem first, keep their weights; 6 or more: all. dilated: stage 4 dilates in place of its stride.
    """
    if norm not in ("frozen", "trainable"):
        raise ValueError(f"norm must be frozen or trainable, not {norm!r}")
    if not levels or list(levels) != sorted({*levels} & {*range(6)}):
        raise ValueError(f"levels must be some of 0 … 5 in order, not {list(levels)}")
    if frozen_stages < 0:
        raise ValueError(f"frozen_stages must be 0 or more, not {frozen_stages}")
    return MobileNetV3Large(levels, norm, frozen_stages, dilated)


class MobileNetV3Large(nn.Sequential):
    """The blocks 0 … 16, of which those behind the last map are left out."""

    def __init__(self, levels: tuple[int, ...], norm: str, frozen_stages: int, dilated: bool):
        norms: dict[str, Any] = {"frozen": FrozenNorm, "trainable": partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)}
        net = torchvision.models.mobilenet_v3_large(weights=None, norm_layer=norms[norm], dilated=dilated)
        self.read = [STAGES[level] for level in levels]
        super().__init__(*net.features[: self.read[-1] + 1])
        apply_norms(self)
        self.channels = [CHANNELS[level] for level in levels]
        self.strides = [min(STRIDES[level], 16 if dilated else 32) for level in levels]
        for block in list(self)[: (*STAGES, 17)[min(frozen_stages, 6)]]:
            block.requires_grad_(False)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        maps = []
        for at, block in enumerate(self):
            x_BCHW = block(x_BCHW)
            if at in self.read:
                maps.append(x_BCHW)
        return maps

    def train(self, mode: bool = True) -> "MobileNetV3Large":
        super().train(mode)
        hold_still(self)
        return self

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Load torchvision's classification weights; the classifier and what lies behind the last map are left out."""
        own = self.state_dict()
        given = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
        self.load_state_dict({k: own[k] if k.endswith("num_batches_tracked") else given[k] for k in own})
