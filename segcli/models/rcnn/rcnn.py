"""The R-CNN family: a pyramid, proposals, and heads. Faster R-CNN is the box head alone, Mask R-CNN adds the mask head.

Standard: torchvision's Mask R-CNN, number for number (tests/parity). Lite: the same design made to learn from a hundred
images in minutes on a CPU. Where the time of the standard one goes on two cores at 320 px: the stride-4 level of RPN,
FPN and box head, and 256-wide mask layers. So lite has
- boxes on strides 8-32 at 128 channels; stride 4 only as a 64-channel map that the masks read (layers/pyramid.py);
- tens of proposals, ranked class by class, in place of a thousand (models/layers/dense_head.py);
- scores trained to be the box's IoU (models/rcnn/iou_box.py), masks with a dice loss (models/rcnn/lite_mask.py);
- group norm, and a trunk with folded batch norms whose first stages are frozen (backbones/efficientnet_lite0.py).
"""

from typing import Any

from torch import Tensor, nn

from segcli.core.errors import UsageError
from segcli.core.plugins import call, find
from segcli.models import build_backbone
from segcli.models.layers.dense_head import DenseProposals
from segcli.models.layers.pyramid import FPN, LitePyramid
from segcli.models.rcnn.roi_heads import Detections, RoIHead, RoIHeads
from segcli.models.rcnn.rpn import RPN
from segcli.ops.preprocess import Preprocess
from segcli.types import Batch, Instances, Prediction

TASKS = ("detection", "instance", "keypoints", "densepose", "mesh")


def build(
    *,
    task: str,
    num_things: int,
    num_keypoints: int = 0,
    backbone: dict[str, Any],
    heads: dict[str, dict[str, Any]],
    variant: str = "standard",
    width: int | None = None,
    fine: int = 64,
    fpn_norm: bool = False,
    rpn_convolutions: int = 1,
    proposals: tuple[int, int] | None = None,
    samples: int | None = None,
    positive: float = 0.25,
    foreground: float = 0.5,
) -> "RCNN":
    """variant: `standard` or `lite` (see above). width: channels of the pyramid (256; lite 128). fine: channels of
    lite's stride-4 map. fpn_norm, rpn_convolutions: the v2 models' batch norm and 2 layers. proposals: kept in training
    and at inference (2000, 1000; lite 32, 100). samples: proposals an image that the heads learn from, of which at most
    the share `positive` are objects (512; lite takes all). foreground: IoU from which a proposal is an object's.
    """
    if task not in TASKS:
        raise UsageError(f"model rcnn does not do task {task!r}", hint="tasks: " + ", ".join(TASKS))
    if not num_things:
        raise UsageError("model rcnn needs thing classes, and the dataset declares none")
    if variant not in ("standard", "lite"):
        raise UsageError(f"model.variant must be standard or lite, not {variant!r}")
    if task == "keypoints" and "keypoint" not in heads:
        raise UsageError("task keypoints needs the keypoint head", hint="model.heads: {box: {}, keypoint: {}}")
    lite = variant == "lite"
    body = build_backbone(backbone)
    pyramid: Any = LitePyramid(body, width or 128, fine) if lite else FPN(body, width or 256, fpn_norm)
    proposer: Any
    if lite:
        proposer = DenseProposals(num_things, pyramid.channels, pyramid.strides[1:], proposals=proposals or (32, 100))
    else:
        proposer = RPN(pyramid.channels, convolutions=rpn_convolutions, proposals=proposals or (2000, 1000))
        samples = samples or 512
    given = {
        "num_things": num_things,
        "num_keypoints": num_keypoints,
        "channels": pyramid.channels,
        "strides": pyramid.strides,
        "variant": variant,
        "fine": fine,
    }
    built: dict[str, RoIHead] = {}
    for name, settings in heads.items():
        plugin = find("head", name, "model.heads")
        built[name] = call(plugin.build, settings or {}, f"model.heads.{name}", **given)
    if sum(hasattr(h, "detect") for h in built.values()) != 1:
        raise UsageError("model.heads needs exactly one head that detects", hint="heads: {box: {}, mask: {}}")
    if task == "instance" and not any(h.masks for h in built.values()):
        raise UsageError("task instance needs a head that gives masks", hint="heads: {box: {}, mask: {}}")
    roi_heads = RoIHeads(built, foreground=foreground, samples=samples, positive=positive)
    official = Preprocess(800, 1333, "torchvision", "nearest")
    preprocess = Preprocess(None, 320, "opencv", square=True) if lite else official
    return RCNN(pyramid, proposer, roi_heads, preprocess, lite)


class RCNN(nn.Module):
    """backbone (pyramid) -> rpn (proposals) -> roi_heads."""

    def __init__(self, backbone: Any, rpn: Any, roi_heads: RoIHeads, preprocess: Preprocess, lite: bool):
        super().__init__()
        self.backbone, self.rpn, self.roi_heads = backbone, rpn, roi_heads
        self.preprocess, self.lite = preprocess, lite
        self.max_detections = 100
        self.fields = {name: field for head in roi_heads.all() for name, field in head.needs.items()}
        self.metrics = tuple(head.metric for head in roi_heads.all() if head.metric)

    @property
    def class_layers(self) -> tuple[str, ...]:
        heads: Any = self.roi_heads.heads
        own = tuple(f"rpn.{part}" for part in getattr(self.rpn, "class_layers", ()))
        return own + tuple(
            f"roi_heads.heads.{name}.{part}" for name, head in heads.items() for part in head.class_layers
        )

    def _levels(self, features: list[Tensor]) -> list[Tensor]:
        return features[1:] if self.lite else features  # lite's first map is the masks' own

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted losses of the proposals and of every head."""
        assert batch.targets is not None
        features = self.backbone(batch.images)
        proposals, _, raw = self.rpn.propose(batch, self._levels(features))
        losses = self.rpn.loss(raw, batch.targets, batch.seeds)
        losses.update(self.roi_heads(features, proposals, batch.targets, batch.seeds))
        return losses

    def predict(self, batch: Batch) -> list[Prediction]:
        """Detections on the original images' pixels, best first."""
        found = self._detect(batch)[0]
        return [self._finish(d, batch, i) for i, d in enumerate(found)]

    def _detect(self, batch: Batch) -> tuple[list[Detections], list[Tensor], dict[str, Tensor], list[Tensor]]:
        features = self.backbone(batch.images)
        proposals, scores, raw = self.rpn.propose(batch, self._levels(features))
        found = self.roi_heads.predict(features, proposals, scores, batch.sizes, self.max_detections)
        return found, proposals, raw, features

    def _finish(self, found: Detections, batch: Batch, i: int) -> Prediction:
        size, original = batch.sizes[i], batch.original_sizes[i]
        values: dict[str, Any] = {}
        fields: dict[str, Any] = {}
        for head in self.roi_heads.all():
            own = head.finish(found, size, original)
            fields |= own.pop("fields", {})
            values |= own
        scale = found.boxes.new_tensor([original[1] / size[1], original[0] / size[0]] * 2)
        values.setdefault("scores", found.scores)
        instances = Instances(boxes=found.boxes * scale, labels=found.labels, fields=fields, **values).to("cpu")
        order = instances.scores.argsort(descending=True, stable=True)  # type: ignore[union-attr]
        return Prediction(batch.image_ids[i], original, instances[order])

    def inspect(self, batch: Batch) -> dict[str, Any]:
        """Proposals, detections with every mask channel, the pyramid: what `predict` computes on its way."""
        found, proposals, raw, features = self._detect(batch)
        return {"proposals": proposals, "proposal_outputs": raw, "features": features, "detections": found}

    def regions(self, proposals: int = 1000, detections: int = 100) -> dict[str, int]:
        """On how many regions `network` runs each head: `proposals` in the one that detects, `detections` in others."""
        limit = min(proposals, self.rpn.proposals[1]) if self.lite else proposals
        heads: Any = self.roi_heads.heads
        return {
            f"roi_heads.heads.{name}": limit if hasattr(head, "detect") else detections for name, head in heads.items()
        }

    def network(self, images_BCHW: Tensor, proposals: int = 1000, detections: int = 100) -> None:
        """All layers at fixed shapes: so many regions are pooled for the heads (see `regions`), none is suppressed."""
        features = self.backbone(images_BCHW)
        self.rpn.count(self._levels(features))
        for head, number in zip(self.roi_heads.all(), self.regions(proposals, detections).values(), strict=True):
            head.count(features, number)
