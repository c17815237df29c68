"""R-CNN for little data: the same design, made to learn from a hundred images in minutes on a CPU.

Where the time of the standard one goes on two cores at 320 px: the stride-4 level of RPN, FPN and box head, and
256-wide mask layers. So this one has
- boxes on strides 8-32 at 128 channels; stride 4 only as a 64-channel map that the masks read (layers/pyramid.py);
- tens of proposals, ranked class by class, in place of a thousand (layers/dense_head.py);
- scores trained to be the box's IoU (heads/iou_box.py), masks with a dice loss (heads/lite_mask.py);
- group norm, and a trunk with folded batch norms whose first stages are frozen (backbones/efficientnet_lite0.py).
"""

from types import MappingProxyType

from torch import Tensor

from segcli.core.errors import UsageError
from segcli.models import build_backbone
from segcli.models.interface import Declared
from segcli.models.layers.dense_head import DenseProposals
from segcli.models.layers.pyramid import LitePyramid
from segcli.models.layers.task_check import check_task
from segcli.models.rcnn.rcnn import DOES, RCNN, SLOTS, build_heads
from segcli.models.rcnn.roi_heads import RoIHeads
from segcli.ops.preprocess import Preprocess

STANDARD = {slot: f"lite_{slot}" for slot in SLOTS} | {"box": "iou_box"}  # slot -> this model's head for it


def build(
    *,
    task: str,
    num_things: int,
    num_keypoints: int = 0,
    declared: Declared = MappingProxyType({}),
    backbone: dict[str, object],
    heads: dict[str, dict[str, object]],
    width: int = 128,
    fine: int = 64,
    proposals: tuple[int, int] = (32, 100),
    samples: int | None = None,
    positive: float = 0.25,
    foreground: float = 0.5,
) -> "RCNNLite":
    """width: channels of the pyramid. fine: channels of the stride-4 map. proposals: kept in training and at inference.
    samples: proposals an image that the heads learn from, of which at most the share `positive` are objects (null: all
    proposals). foreground: IoU from which a proposal is an object's.
    """
    check_task("rcnn_lite", DOES, task, num_things=num_things)
    for name in heads:
        if name in STANDARD:
            raise UsageError(f"model.heads.{name} is a head of model rcnn", hint=f"rcnn_lite has {STANDARD[name]}")
    pyramid = LitePyramid(build_backbone(backbone), width, fine)
    dense = DenseProposals(num_things, pyramid.channels, pyramid.strides[1:], proposals=proposals)
    given: dict[str, object] = {"num_things": num_things, "num_keypoints": num_keypoints, "declared": declared}
    given |= {"channels": pyramid.channels, "strides": pyramid.strides, "fine": fine}
    built = build_heads(heads, task, STANDARD, given)
    roi_heads = RoIHeads(built, foreground=foreground, samples=samples, positive=positive)
    preprocess = Preprocess(None, 320, "opencv", square=True)
    return RCNNLite(pyramid, dense, roi_heads, preprocess, kept=proposals[1])


class RCNNLite(RCNN):
    """The first map of its pyramid is the masks' own."""

    def levels(self, features: list[Tensor]) -> list[Tensor]:
        return features[1:]
