"""The R-CNN family: a pyramid, proposals, and heads. Faster R-CNN is the box head alone, Mask R-CNN adds the mask head.

torchvision's, number for number (tests/parity). The same design for little data and a CPU is rcnn_lite.py.
"""

from types import MappingProxyType
from typing import Protocol

from torch import Tensor, nn

from segcli.core.errors import UsageError
from segcli.core.plugins import call, find
from segcli.core.tasks import TASKS
from segcli.models import build_backbone
from segcli.models.interface import Declared, DetectingHead, Detections, Model, RoIHead
from segcli.models.layers.pyramid import FPN
from segcli.models.layers.task_check import check_task
from segcli.models.rcnn.pooler import Pooling
from segcli.models.rcnn.roi_heads import RoIHeads, refuse_unfit
from segcli.models.rcnn.rpn import RPN, RPNSettings
from segcli.ops import dense_masks
from segcli.ops.preprocess import Preprocess
from segcli.ops.preprocess_graph import Framed
from segcli.types import Batch, Field, Instances, Prediction, Rle, Target

DOES = tuple(name for name, task in TASKS.items() if task.objects)  # heads say which of them a model has
SLOTS = ("box", "mask", "keypoint", "densepose", "mesh")
STANDARD = {slot: slot for slot in SLOTS}  # slot -> the head that this model has there


def build(
    *,
    task: str,
    num_things: int,
    num_keypoints: int = 0,
    declared: Declared = MappingProxyType({}),
    backbone: dict[str, object],
    heads: dict[str, dict[str, object]],
    width: int = 256,
    fpn_norm: bool = False,
    rpn: RPNSettings,
    proposals: tuple[int, int] = (2000, 1000),
    samples: int = 512,
    positive: float = 0.25,
    foreground: float = 0.5,
) -> "RCNN":
    """width: channels of the pyramid. fpn_norm: the v2 models' batch norm there. proposals: kept an image, in training
    and at inference. samples: proposals an image that the heads learn from, of which at most the share `positive` are
    objects. foreground: IoU from which a proposal is an object's.
    """
    check_task("rcnn", DOES, task, num_things=num_things)
    pyramid = FPN(build_backbone(backbone), width, fpn_norm)
    strides = pyramid.strides
    network = RPN(pyramid.channels, strides, rpn, proposals=proposals)
    given: dict[str, object] = {"num_things": num_things, "num_keypoints": num_keypoints, "declared": declared}
    if len(strides) < 5:  # heads read four maps at most, and never the pooled one
        strides = strides[:-1]
    given |= {"channels": pyramid.channels, "strides": strides, "fine": None}
    built = build_heads(heads, task, STANDARD, given)
    roi_heads = RoIHeads(built, foreground=foreground, samples=samples, positive=positive)
    return RCNN(pyramid, network, roi_heads, Preprocess(800, 1333, "torchvision", "nearest"), kept=proposals[1])


def build_heads(
    heads: dict[str, dict[str, object]], task: str, standard: dict[str, str], given: dict[str, object]
) -> dict[str, RoIHead]:
    """The heads of a recipe, by the names that their parameters bear.

    standard: slot -> the name of the model's own head for it, for the hints. given: the arguments that a head may ask
    for, see docs/write_a_head.md; `fine`: the channels of a stride-4 map before the pyramid's, None without one. Raises
    UsageError for heads that exclude one another, or that can't do the task.
    """
    advice = lambda *slots: "model.heads: {" + ", ".join(f"{standard[slot]}: {{}}" for slot in slots) + "}"
    built: dict[str, RoIHead] = {}
    for name, settings in heads.items():
        head = call(find("head", name, "model.heads").build, settings, f"model.heads.{name}", **given)
        if not isinstance(head, RoIHead) or type(head).loss is RoIHead.loss:
            raise UsageError(f"model.heads.{name}: a {type(head).__name__} is no RoIHead that defines loss")
        if (slot := head.slot or name) in built:
            raise UsageError(f"model.heads has two {slot} heads", hint="leave one out")
        built[slot] = head
    if sum(isinstance(head, DetectingHead) for head in built.values()) != 1:
        raise UsageError("model.heads needs exactly one head that detects", hint=advice("box", "mask"))
    if TASKS[task].masks and not any(head.masks for head in built.values()):
        raise UsageError(f"task {task} needs a head that gives masks", hint=advice("box", "mask"))
    for field in TASKS[task].fields:
        if not any(field in head.needs for head in built.values()):
            slot = field if field in standard else field.removesuffix("s")
            hint = advice("box", slot) if slot in standard else "docs/write_a_head.md shows how one is added"
            raise UsageError(f"task {task} needs a head that learns {field}", hint=hint)
        if not any(field in head.needs and head.metric for head in built.values()):
            raise UsageError(f"task {task}: no head that learns {field} names a metric, so nothing would score it")
    return built


class ProposalNetwork(Protocol):
    """What makes the proposals: rpn.py's RPN, or layers/dense_head.py's DenseProposals."""

    class_layers: tuple[str, ...]

    def propose(
        self, batch: Batch, features: list[Tensor], /
    ) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]: ...
    def candidates(self, raw: dict[str, Tensor], /) -> list[tuple[Tensor, Tensor]]: ...
    def deploy(self, framed: Framed, features: list[Tensor], /) -> tuple[Tensor, Tensor]: ...
    def loss(self, raw: dict[str, Tensor], targets: list[Target], seeds: list[int], /) -> dict[str, Tensor]: ...
    def count(self, features: list[Tensor], /) -> None: ...


class RCNN(Model):
    """backbone (pyramid) -> rpn (proposals) -> roi_heads. kept: proposals of an image at inference."""

    images_needed = 1_000  # by this project's own runs on small data (docs/little_data.md)
    shares_counts = True
    rpn: ProposalNetwork

    def __init__(
        self, backbone: nn.Module, rpn: ProposalNetwork, roi_heads: RoIHeads, preprocess: Preprocess, *, kept: int
    ):
        super().__init__()
        self.kept = kept
        self.backbone, self.rpn, self.roi_heads = backbone, rpn, roi_heads
        self.preprocess = preprocess
        self.fields = {name: field for head in roi_heads.all() for name, field in head.needs.items()}
        self.metrics = tuple(head.metric for head in roi_heads.all() if head.metric)

    @property
    def class_layers(self) -> tuple[str, ...]:
        own = tuple(f"rpn.{part}" for part in self.rpn.class_layers)
        heads = self.roi_heads.named()
        return own + tuple(f"roi_heads.heads.{name}.{part}" for name, h in heads.items() for part in h.class_layers)

    def levels(self, features: list[Tensor]) -> list[Tensor]:
        """The maps that proposals come from."""
        return features

    def forward(self, batch: Batch, normalisers: dict[str, float] | None = None) -> dict[str, Tensor]:
        """Weighted losses of the proposals and of every head, divided by counts of the forward pass."""
        assert batch.targets is not None
        features = self.backbone(batch.images)
        proposals, _, raw = self.rpn.propose(batch, self.levels(features))
        losses = self.rpn.loss(raw, batch.targets, batch.seeds)
        losses.update(self.roi_heads(features, proposals, batch.targets, batch.seeds))
        return losses

    def predict(self, batch: Batch) -> list[Prediction]:
        """Detections on the original images' pixels, best first."""
        return self._finished(self._detect(batch)[-1], batch)

    def _detect(
        self, batch: Batch
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], dict[str, Tensor], list[Detections]]:
        features = self.backbone(batch.images)
        proposals, scores, raw = self.rpn.propose(batch, self.levels(features))
        found = self.roi_heads.predict(features, proposals, scores, batch.sizes, self.max_detections)
        return features, proposals, scores, raw, found

    def _finished(self, found: list[Detections], batch: Batch) -> list[Prediction]:
        return [self._finish(one, batch, i) for i, one in enumerate(found)]

    def _finish(self, found: Detections, batch: Batch, i: int) -> Prediction:
        size, original = batch.sizes[i], batch.original_sizes[i]
        scores, fields = found.scores, dict[str, Field]()
        masks: list[Rle] | None = None
        for name, head in self.roi_heads.named().items():
            own = head.finish(found, size, original)
            refuse_unfit(name, own, len(found.boxes), original)
            fields |= own.get("fields", {})
            scores, masks = own.get("scores", scores), own.get("masks", masks)
        scale = found.boxes.new_tensor([original[1] / size[1], original[0] / size[0]] * 2)
        instances = Instances(found.boxes * scale, found.labels, scores, masks=masks, fields=fields).to("cpu")
        return Prediction(batch.image_ids[i], original, instances[scores.cpu().argsort(descending=True, stable=True)])

    def deploy(self, framed: Framed) -> dict[str, Tensor]:
        features = self.backbone(framed.image)
        proposals, scores = self.rpn.deploy(framed, self.levels(features))
        [found] = self.roi_heads.predict(features, [proposals], [scores], [framed.content], self.max_detections)
        sides = [o / c for o, c in zip(framed.original, framed.content, strict=True)]
        out = {"boxes": dense_masks.scaled(found.boxes, sides), "labels": found.labels, "scores": found.scores}
        for head in self.roi_heads.all():
            out |= head.deploy(found, framed)
        order = dense_masks.ranked(out["scores"])
        return {name: value[order] for name, value in out.items()}

    def inspect(self, batch: Batch) -> dict[str, object]:
        """What `predict` computes on its way.

        features: the pyramid, and its strides; proposals: [n,4] an image, their scores [n] or [n,C], and the raw
        outputs that they were chosen from (`rpn.candidates` reads them); detections: `Detections` an image, and under
        its own name an entry an image of what heads add in `extra`, such as mask_channels [n,C,28,28] and keypoint_maps
        [n,K,56,56]; pooling_heads: name -> head, of those that pool regions; predictions: those of `predict`.
        """
        features, proposals, scores, raw, found = self._detect(batch)
        return {
            **{key: [one.extra[key] for one in found] for key in found[0].extra},
            "features": features,
            "strides": self.backbone.strides,
            "proposal_outputs": raw,
            "proposals": proposals,
            "proposal_scores": scores,
            "detections": found,
            "predictions": self._finished(found, batch),
            "pooling_heads": {name: head for name, head in self.roi_heads.named().items() if isinstance(head, Pooling)},
        }

    def regions(self, proposals: int = 1000, detections: int = 100) -> dict[str, int]:
        """On how many regions `network` runs each head: `proposals` in the one that detects, or as many as the model
        keeps, in others `detections`, or as many as the head describes."""
        described = lambda head: min(detections, head.described or detections)
        return {
            f"roi_heads.heads.{name}": min(proposals, self.kept) if isinstance(head, DetectingHead) else described(head)
            for name, head in self.roi_heads.named().items()
        }

    def network(self, images_BCHW: Tensor, proposals: int = 1000, detections: int = 100) -> None:
        """All layers at fixed shapes: so many regions are pooled for the heads (see `regions`), none is suppressed."""
        features = self.backbone(images_BCHW)
        self.rpn.count(self.levels(features))
        for head, number in zip(self.roi_heads.all(), self.regions(proposals, detections).values(), strict=True):
            head.count(features, number)
