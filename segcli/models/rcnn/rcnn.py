"""The R-CNN family: a pyramid, proposals, and heads. Faster R-CNN is the box head alone, Mask R-CNN adds the mask head.

torchvision's, number for number (tests/parity). The same design for little data and a CPU is rcnn_lite.py.
"""

from typing import Any

from torch import Tensor

from segcli.core.errors import UsageError
from segcli.core.plugins import call, find
from segcli.core.tasks import TASKS
from segcli.models import build_backbone
from segcli.models.interface import Model
from segcli.models.layers.pyramid import FPN
from segcli.models.rcnn.roi_heads import Detections, RoIHead, RoIHeads
from segcli.models.rcnn.rpn import RPN
from segcli.ops.preprocess import Preprocess
from segcli.types import Batch, Instances, Prediction

DOES = ("detection", "instance", "keypoints", "densepose", "mesh")


def build(
    *,
    task: str,
    num_things: int,
    num_keypoints: int = 0,
    backbone: dict[str, Any],
    heads: dict[str, dict[str, Any]],
    width: int = 256,
    fpn_norm: bool = False,
    rpn_convolutions: int = 1,
    proposals: tuple[int, int] = (2000, 1000),
    samples: int = 512,
    positive: float = 0.25,
    foreground: float = 0.5,
) -> "RCNN":
    """width: channels of the pyramid. fpn_norm, rpn_convolutions: the v2 models' batch norm and 2 layers. proposals:
    kept in training and at inference. samples: proposals an image that the heads learn from, of which at most the share
    `positive` are objects. foreground: IoU from which a proposal is an object's.
    """
    check_task("rcnn", task, num_things, heads)
    pyramid = FPN(build_backbone(backbone), width, fpn_norm)
    rpn = RPN(pyramid.channels, convolutions=rpn_convolutions, proposals=proposals)
    given = {"channels": pyramid.channels, "strides": pyramid.strides, "fine": None}
    built = build_heads(heads, task, num_things=num_things, num_keypoints=num_keypoints, **given)
    roi_heads = RoIHeads(built, foreground=foreground, samples=samples, positive=positive)
    return RCNN(pyramid, rpn, roi_heads, Preprocess(800, 1333, "torchvision", "nearest"))


def check_task(model: str, task: str, num_things: int, heads: dict[str, Any]) -> None:
    """Raises UsageError for a task that no R-CNN does, or that these heads or classes can't."""
    if task not in DOES:
        raise UsageError(f"model {model} does not do task {task!r}", hint="tasks: " + ", ".join(DOES))
    if not num_things:
        raise UsageError(f"model {model} needs thing classes, and the dataset declares none")
    if "keypoints" in TASKS[task].fields and not any("keypoint" in head for head in heads):
        raise UsageError("task keypoints needs the keypoint head", hint="model.heads: {box: {}, keypoint: {}}")


def build_heads(heads: dict[str, dict[str, Any]], task: str, **given: Any) -> dict[str, RoIHead]:
    """The heads of a recipe, by the names that their parameters bear. given: what a head may ask for, see
    docs/write_a_head.md; `fine`: the channels of a stride-4 map that comes before the pyramid's, None where there is
    none.
    """
    built: dict[str, RoIHead] = {}
    for name, settings in heads.items():
        head = call(find("head", name, "model.heads").build, settings or {}, f"model.heads.{name}", **given)
        if (slot := head.slot or name) in built:
            raise UsageError(f"model.heads has two {slot} heads", hint="leave one out")
        built[slot] = head
    if sum(hasattr(h, "detect") for h in built.values()) != 1:
        raise UsageError("model.heads needs exactly one head that detects", hint="heads: {box: {}, mask: {}}")
    if TASKS[task].masks and not any(h.masks for h in built.values()):
        raise UsageError("task instance needs a head that gives masks", hint="heads: {box: {}, mask: {}}")
    return built


class RCNN(Model):
    """backbone (pyramid) -> rpn (proposals) -> roi_heads."""

    def __init__(self, backbone: Any, rpn: Any, roi_heads: RoIHeads, preprocess: Preprocess):
        super().__init__()
        self.backbone, self.rpn, self.roi_heads = backbone, rpn, roi_heads
        self.preprocess = preprocess
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

    def levels(self, features: list[Tensor]) -> list[Tensor]:
        """The maps that proposals come from."""
        return features

    shares_counts = True

    def forward(self, batch: Batch, normalisers: dict[str, float] | None = None) -> dict[str, Tensor]:
        """Weighted losses of the proposals and of every head, whose counts the forward pass finds."""
        assert batch.targets is not None
        features = self.backbone(batch.images)
        proposals, _, raw = self.rpn.propose(batch, self.levels(features))
        losses = self.rpn.loss(raw, batch.targets, batch.seeds)
        losses.update(self.roi_heads(features, proposals, batch.targets, batch.seeds))
        return losses

    def predict(self, batch: Batch) -> list[Prediction]:
        """Detections on the original images' pixels, best first."""
        found = self._detect(batch)[0]
        return [self._finish(d, batch, i) for i, d in enumerate(found)]

    def _detect(self, batch: Batch) -> tuple[list[Detections], list[Tensor], dict[str, Tensor], list[Tensor]]:
        features = self.backbone(batch.images)
        proposals, scores, raw = self.rpn.propose(batch, self.levels(features))
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
        heads: Any = self.roi_heads.heads
        return {
            f"roi_heads.heads.{name}": proposals if hasattr(head, "detect") else detections
            for name, head in heads.items()
        }

    def network(self, images_BCHW: Tensor, proposals: int = 1000, detections: int = 100) -> None:
        """All layers at fixed shapes: so many regions are pooled for the heads (see `regions`), none is suppressed."""
        features = self.backbone(images_BCHW)
        self.rpn.count(self.levels(features))
        for head, number in zip(self.roi_heads.all(), self.regions(proposals, detections).values(), strict=True):
            head.count(features, number)
