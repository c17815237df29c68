"""FCN (Long et al., 2015): torchvision's, whose weights load as they are."""

from torch import Tensor
from torchvision.models.segmentation.fcn import FCNHead

from segcli.models import build_backbone
from segcli.models.interface import Backbone
from segcli.models.per_pixel.base import PerPixel, check_semantic, with_defaults
from segcli.ops.preprocess import Preprocess


def build(*, task: str, num_classes: int, backbone: dict[str, object] | None = None, auxiliary: float = 0.5) -> "Fcn":
    """backbone: a ResNet-50 with trainable norms and stride 8 by default. auxiliary: weight of the loss on the second
    head; 0 leaves it out.
    """
    check_semantic("fcn", task, num_classes)
    given = {"name": "resnet", "norm": "trainable", "frozen_stages": 0, "dilate_last": 2}
    return Fcn(build_backbone(with_defaults(backbone, given), maps=2 if auxiliary else 1), num_classes, auxiliary)


class Fcn(PerPixel):
    """Two 3×3 heads, on the last and on the last but one feature map; the second one is for training alone."""

    class_layers = ("classifier.4.", "aux_classifier.4.")

    def __init__(self, backbone: Backbone, classes: int, auxiliary: float):
        super().__init__()
        self.backbone = backbone
        self.classifier = FCNHead(backbone.channels[-1], classes)
        self.aux_classifier = FCNHead(backbone.channels[-2], classes) if auxiliary else None
        self.auxiliary = auxiliary
        self.preprocess = Preprocess(520, 2080, "pil", "centre", divisor=1)

    def maps(self, images_BCHW: Tensor, every: bool) -> list[Tensor]:
        features = self.backbone(images_BCHW)
        maps = [self.classifier(features[-1])]
        if every and self.aux_classifier is not None:
            maps.append(self.aux_classifier(features[-2]))
        return maps
