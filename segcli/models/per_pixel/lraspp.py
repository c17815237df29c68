"""Lite R-ASPP (Howard et al., 2019): a pixel classifier for MobileNets; torchvision's, whose weights load as they
are."""

from torch import Tensor
from torchvision.models.segmentation.lraspp import LRASPPHead

from segcli.models import build_backbone
from segcli.models.interface import Backbone
from segcli.models.per_pixel.base import PerPixel, check_semantic, with_defaults
from segcli.ops.preprocess import Preprocess

STRIDE_16 = {
    **{"name": "mobilenet_v3_large", "levels": [2, 5], "norm": "trainable"},
    **{"frozen_stages": 0, "dilated": True},
}


def build(*, task: str, num_classes: int, backbone: dict[str, object] | None = None, width: int = 128) -> "Lraspp":
    """backbone: MobileNetV3-Large with maps of stride 8 and 16 by default; of another one the last map and the last of
    stride 8 or finer. width: channels of the head.
    """
    check_semantic("lraspp", task, num_classes)
    return Lraspp(build_backbone(with_defaults(backbone, STRIDE_16)), num_classes, width)


class Lraspp(PerPixel):
    """The coarsest map, weighted by what the whole image shows, decides; a finer one adds detail."""

    class_layers = ("classifier.low_classifier.", "classifier.high_classifier.")
    auxiliary = 0.0

    def __init__(self, backbone: Backbone, classes: int, width: int):
        super().__init__()
        self.backbone = backbone
        self.low = max((i for i, stride in enumerate(backbone.strides) if stride <= 8), default=0)
        self.classifier = LRASPPHead(backbone.channels[self.low], backbone.channels[-1], classes, width)
        self.preprocess = Preprocess(520, 2080, "pil", "centre", divisor=1)

    def maps(self, features: list[Tensor], every: bool) -> list[Tensor]:
        return [self.classifier({"low": features[self.low], "high": features[-1]})]
