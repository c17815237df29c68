"""The plain per-pixel baseline: MaskFormer's backbone and pixel decoder with a 1×1 classifier. Official names (Cheng et
al., 2021, appendix)."""

from torch import nn

from segcli.models import build_backbone
from segcli.models.layers.pixel_decoder import FpnPixelDecoder
from segcli.models.per_pixel.base import PixelDecoderModel, check_semantic, with_defaults


def build(
    *, task: str, num_classes: int, backbone: dict[str, object] | None = None, dim: int = 256
) -> PixelDecoderModel:
    """backbone: a ResNet-50 by default. dim: width of the pixel decoder."""
    check_semantic("per_pixel", task, num_classes)
    body = build_backbone(with_defaults(backbone, {"name": "resnet", "frozen_stages": 0}))
    predictor = _classifier(dim, num_classes)
    return PixelDecoderModel(body, FpnPixelDecoder(body.channels, dim, dim), predictor, 1.0)


def _classifier(inputs: int, classes: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, classes, 1)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
