"""ResNet-18/34/50/101 (He et al., 2015) with torchvision's parameter names."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torchvision
from torch import Tensor, nn

from segcli.models.layers.frozen_norm import FrozenNorm, apply_norms, hold_still

CHANNELS = {18: 64, 34: 64, 50: 256, 101: 256}


def build(
    *,
    depth: int = 50,
    norm: str = "frozen",
    norm_eps: float = 1e-5,
    frozen_stages: int = 2,
    dilate_last: int = 0,
    stem: Literal["7x7", "3x3"] = "7x7",
    multi_grid: tuple[int, int, int] = (1, 1, 1),
    stride_in: Literal["3x3", "1x1"] = "3x3",
) -> "ResNet":
    """depth: 18, 34, 50 or 101. norm: `frozen` (statistics and affine are constants, as detectors use it on small
    batches) or `trainable`. norm_eps: torchvision's official detection weights need 0.0. frozen_stages: how many of
    stem, layer1..layer4 keep their weights (2 = stem and layer1). dilate_last: how many of the last stages dilate in
    place of their stride (1: DETR's DC5; 2: FCN). stem: `7x7`, or three 3x3 convolutions with 128 channels and
    multi_grid (1, 2, 4), the dilations of layer4's blocks: together the R101c of DeepLab and MaskFormer. stride_in:
    which convolution of a bottleneck strides; `1x1` in the weights of detectron2 that began from MSRA's.
    """
    if depth not in CHANNELS:
        raise ValueError(f"ResNet depth must be one of {sorted(CHANNELS)}, not {depth}")
    return ResNet(depth, norm, norm_eps, frozen_stages, dilate_last, stem == "3x3", multi_grid, stride_in == "1x1")


class ResNet(nn.Module):
    """Feature maps of layer1..layer4: strides 4, 8, 16, 32 (8 for stages that dilate, or 16)."""

    def __init__(
        self,
        depth: int,
        norm: str = "frozen",
        norm_eps: float = 1e-5,
        frozen_stages: int = 2,
        dilate_last: int = 0,
        deep_stem: bool = False,
        multi_grid: tuple[int, int, int] = (1, 1, 1),
        stride_first: bool = False,
    ):
        super().__init__()
        norms: dict[str, Callable[..., nn.Module]] = {
            "frozen": partial(FrozenNorm, eps=norm_eps),
            "trainable": partial(nn.BatchNorm2d, eps=norm_eps),
        }
        if norm not in norms:
            raise ValueError(f"norm must be frozen or trainable, not {norm!r}")
        build_resnet = getattr(torchvision.models, f"resnet{depth}")
        if (dilate_last or multi_grid != (1, 1, 1)) and depth < 50:
            raise ValueError("dilate_last and multi_grid need bottleneck blocks: depth 50 or 101")
        if not 0 <= dilate_last <= 2:
            raise ValueError(f"dilate_last must be 0, 1 or 2, not {dilate_last}")
        dilate = [False, dilate_last > 1, dilate_last > 0] if dilate_last else None
        net = build_resnet(weights=None, norm_layer=norms[norm], replace_stride_with_dilation=dilate)
        self.conv1: Any
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        if deep_stem:
            self._deepen(norms[norm])
        if stride_first:
            if depth < 50:
                raise ValueError("stride_in: 1x1 needs bottleneck blocks: depth 50 or 101")
            for layer in (self.layer2, self.layer3, self.layer4):
                layer[0].conv1.stride, layer[0].conv2.stride = layer[0].conv2.stride, layer[0].conv1.stride
        for block, rate in zip(self.layer4, multi_grid, strict=False):
            if rate > 1:
                block.conv2.dilation = block.conv2.padding = (rate * block.conv2.dilation[0],) * 2
        apply_norms(self)
        self.channels = [CHANNELS[depth] * 2**i for i in range(4)]
        self.strides = [4, 8, 8 if dilate_last > 1 else 16, [32, 16, 8][dilate_last]]
        stages = [nn.ModuleList([self.conv1, self.bn1]), self.layer1, self.layer2, self.layer3, self.layer4]
        for stage in stages[:frozen_stages]:
            stage.requires_grad_(False)

    def _deepen(self, norm: Callable[..., nn.Module]) -> None:
        """Three 3x3 convolutions in place of the 7x7 one, named as timm's deep stems; 128 channels enter layer1."""
        conv = lambda inputs, outputs, stride: nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        relu = lambda: nn.ReLU(inplace=True)
        self.conv1 = nn.Sequential(
            conv(3, 64, 2), norm(64), relu(), conv(64, 64, 1), norm(64), relu(), conv(64, 128, 1)
        )
        self.bn1 = norm(128)
        first = self.layer1[0]
        first.conv1 = nn.Conv2d(128, first.conv1.out_channels, 1, bias=False)
        first.downsample[0] = nn.Conv2d(128, first.downsample[0].out_channels, 1, bias=False)
        for module in [*self.conv1, first.conv1, first.downsample[0]]:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x_BCHW))))
        features = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            features.append(x)
        return features

    def train(self, mode: bool = True) -> "ResNet":
        super().train(mode)
        hold_still(self)
        return self

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Load torchvision's classification weights; only the classifier `fc.*` may be left over."""
        state = {k: v for k, v in state.items() if not k.startswith("fc.") and not k.endswith("num_batches_tracked")}
        counters = {k: v for k, v in self.state_dict().items() if k.endswith("num_batches_tracked")}
        self.load_state_dict({**state, **counters})
