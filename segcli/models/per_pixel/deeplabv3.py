"""DeepLabV3 (Chen et al., 2017): FCN's network with atrous spatial pyramid pooling as its head; torchvision's, whose
weights load as they are."""

from torch import nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead

from segcli.models import build_backbone
from segcli.models.per_pixel.base import check_semantic, with_defaults
from segcli.models.per_pixel.fcn import STRIDE_8, Fcn


def build(*, task: str, num_classes: int, backbone: dict[str, object] | None = None, auxiliary: float = 0.5) -> Fcn:
    """backbone: a ResNet-50 with trainable norms and stride 8 by default. auxiliary: weight of the loss on a second,
    plain head on the last but one map; 0 leaves it out.
    """
    check_semantic("deeplabv3", task, num_classes)
    body = build_backbone(with_defaults(backbone, STRIDE_8), maps=2 if auxiliary else 1)
    second: nn.Module | None = FCNHead(body.channels[-2], num_classes) if auxiliary else None
    return Fcn(body, DeepLabHead(body.channels[-1], num_classes), second, auxiliary)
