"""FCN (Long et al., 2015): torchvision's, whose weights load as they are."""

from torch import Tensor, nn
from torchvision.models.segmentation.fcn import FCNHead

from segcli.models import build_backbone
from segcli.models.interface import Backbone
from segcli.models.per_pixel.base import PerPixel, check_semantic, with_defaults
from segcli.ops.preprocess import Preprocess

STRIDE_8: dict[str, object] = {"name": "resnet", "norm": "trainable", "frozen_stages": 0, "dilate_last": 2}


def build(*, task: str, num_classes: int, backbone: dict[str, object] | None = None, auxiliary: float = 0.5) -> "Fcn":
    """backbone: a ResNet-50 with trainable norms and stride 8 by default. auxiliary: weight of the loss on the second
    head; 0 leaves it out.
    """
    check_semantic("fcn", task, num_classes)
    body = build_backbone(with_defaults(backbone, STRIDE_8), maps=2 if auxiliary else 1)
    classifier = FCNHead(body.channels[-1], num_classes)
    second = FCNHead(body.channels[-2], num_classes) if auxiliary else None
    return Fcn(body, classifier, second, auxiliary)


class Fcn(PerPixel):
    """Two heads, on the last and on the last but one feature map; the second one is for training alone. The last layer
    of each, at position 4, has the classes."""

    class_layers = ("classifier.4.", "aux_classifier.4.")

    def __init__(self, backbone: Backbone, classifier: nn.Module, aux_classifier: nn.Module | None, auxiliary: float):
        super().__init__()
        self.backbone = backbone
        self.classifier, self.aux_classifier = classifier, aux_classifier
        self.auxiliary = auxiliary
        self.preprocess = Preprocess(520, 2080, "pil", "centre", divisor=1)

    def maps(self, features: list[Tensor], every: bool) -> list[Tensor]:
        maps = [self.classifier(features[-1])]
        if every and self.aux_classifier is not None:
            maps.append(self.aux_classifier(features[-2]))
        return maps
