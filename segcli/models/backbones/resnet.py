"""ResNet-18/34/50/101 (He et al., 2015) with torchvision's parameter names."""

from collections.abc import Callable
from functools import partial

import torchvision
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

CHANNELS = {18: 64, 34: 64, 50: 256, 101: 256}


def build(
    *,
    depth: int = 50,
    norm: str = "frozen",
    norm_eps: float = 1e-5,
    frozen_stages: int = 2,
    dilate_last: bool = False,
) -> "ResNet":
    """depth: 18, 34, 50 or 101. norm: `frozen` (statistics and affine are constants, as detectors use it on small
    batches) or `trainable`. norm_eps: torchvision's official detection weights need 0.0. frozen_stages: how many of
    stem, layer1..layer4 keep their weights (2 = stem and layer1). dilate_last: stride 16 in layer4 (the DC5 variants).
    """
    if depth not in CHANNELS:
        raise ValueError(f"ResNet depth must be one of {sorted(CHANNELS)}, not {depth}")
    return ResNet(depth, norm, norm_eps, frozen_stages, dilate_last)


class ResNet(nn.Module):
    """Feature maps of layer1..layer4: strides 4, 8, 16, 32 (16 with dilate_last)."""

    def __init__(self, depth: int, norm: str, norm_eps: float, frozen_stages: int, dilate_last: bool):
        super().__init__()
        norms: dict[str, Callable[..., nn.Module]] = {
            "frozen": partial(FrozenBatchNorm2d, eps=norm_eps),
            "trainable": partial(nn.BatchNorm2d, eps=norm_eps),
        }
        if norm not in norms:
            raise ValueError(f"norm must be frozen or trainable, not {norm!r}")
        build_resnet = getattr(torchvision.models, f"resnet{depth}")
        dilate = [False, False, dilate_last] if depth >= 50 else None
        if dilate_last and dilate is None:
            raise ValueError("dilate_last needs bottleneck blocks: depth 50 or 101")
        net = build_resnet(weights=None, norm_layer=norms[norm], replace_stride_with_dilation=dilate)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        self.channels = [CHANNELS[depth] * 2**i for i in range(4)]
        self.strides = [4, 8, 16, 16 if dilate_last else 32]
        stages = [nn.ModuleList([self.conv1, self.bn1]), self.layer1, self.layer2, self.layer3, self.layer4]
        for stage in stages[:frozen_stages]:
            stage.requires_grad_(False)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x_BCHW))))
        features = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            features.append(x)
        return features

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Load torchvision's classification weights; only the classifier `fc.*` may be left over."""
        state = {k: v for k, v in state.items() if not k.startswith("fc.") and not k.endswith("num_batches_tracked")}
        counters = {k: v for k, v in self.state_dict().items() if k.endswith("num_batches_tracked")}
        self.load_state_dict({**state, **counters})
