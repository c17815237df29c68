"""What models, their backbones and the heads of R-CNNs have: nothing outside this room asks what kind one is."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol, Self, TypedDict, runtime_checkable

import torch
from torch import Tensor, nn

from segcli.core.errors import UsageError
from segcli.models.layers.frozen_norm import hold_still
from segcli.models.layers.sampler import keyed_generator
from segcli.ops.preprocess import Preprocess
from segcli.ops.preprocess_graph import Framed
from segcli.types import Batch, Field, Prediction, Rle, Target


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """How a family is fine-tuned by its paper or its library: what holds for keys of `train.optimizer` that a recipe
    leaves out. backbone: factor on `lr` for the backbone; the others are such keys, None where nothing is said."""

    lr: float | None = None
    backbone: float | None = None
    layer_decay: float | None = None
    weight_decay: float | None = None
    norm_weight_decay: float | None = None
    lr_scales: Mapping[str, float] = dataclasses.field(default_factory=dict)


Declared = Mapping[str, Mapping[str, object]]  # field name -> what a dataset declares for it


class Model(nn.Module):
    """Base of every model. The attributes are what the rest of segcli reads; a family overrides those that differ.

    preprocess: how images become its input. fields: name -> the class of the per-instance data that its targets need.
    max_detections: predictions of an image. class_layers: beginnings of the names of those parameters that another
    number of classes replaces. metrics: plugins that score its fields, beside the task's own. queries: the most objects
    that it can find on an image; None: no such limit. shares_counts: its losses call `distributed.share` or
    `distributed.mean` on the way, so that an accumulated step counts first (engine/accumulation.py). images_needed:
    training images, repetitions included, before such a model scores above 0; None: not known. lite: the model that
    does the same with less data; None: there is none. fine_tuning: its family's; None: the recipe's own defaults hold.
    loaded: names of the parameters whose values a file gave; the others began at random. first_rates: whether its run
    has the groups of parameters of earlier versions (engine/fine_tuning.py). first_divisor: the sides' divisor of its
    canvas under input rule 1 (engine/input_rule.py); None: the present one.
    """

    preprocess: Preprocess
    fields: dict[str, type[Field]] = {}
    max_detections: int = 100
    metrics: tuple[str, ...] = ()
    queries: int | None = None
    shares_counts: bool = False
    images_needed: int | None = None
    lite: str | None = None
    fine_tuning: FineTuning | None = None
    loaded: frozenset[str] = frozenset()
    first_rates: bool = False
    first_divisor: int | None = None

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        hold_still(self)
        return self

    @property
    def backbone_parts(self) -> tuple[str, ...]:
        """Beginnings of the names of the backbone's parameters: of the modules called `backbone`, or of the `body` in
        them where a pyramid is built around it; () without one."""
        paths = [name.split(".") for name, _ in self.named_modules()]
        bodies = [path for path in paths if "backbone" in path and path[-1] == "body"]
        return tuple(".".join(path) + "." for path in bodies or [path for path in paths if path[-1] == "backbone"])

    @property
    def class_layers(self) -> tuple[str, ...]:
        return ()

    @property
    def device(self) -> torch.device:
        """Where its weights are; of a model without any (an exported file), the CPU."""
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    def forward(self, batch: Batch, normalisers: dict[str, float] | None = None) -> dict[str, Tensor]:
        """Weighted losses, scalars. Every trainable parameter gets a gradient on every batch, empty images included.

        normalisers: counts averaged over ranks and accumulation steps; None: this batch's own.
        """
        raise AssertionError("a model defines this")

    def normalisers(self, batch: Batch) -> dict[str, float] | None:
        """The counts that losses are divided by, where the labels alone decide them; None where only the forward pass
        does."""
        return None

    def predict(self, batch: Batch) -> list[Prediction]:
        """Predictions on the original images' pixels."""
        raise AssertionError("a model defines this")

    def deploy(self, framed: Framed) -> dict[str, Tensor]:
        """What `predict` gives of one image, in tensors alone and without a Python branch on a value, for exported
        files; names and shapes: see docs/export.md. Raises UsageError where a model has no such form."""
        raise UsageError(f"{type(self).__name__} can't be exported: it defines no deploy")

    def inspect(self, batch: Batch) -> dict[str, object]:
        """The intermediate tensors of `predict`, for views, and predictions: what `predict` gives, of the same pass."""
        raise AssertionError("a model defines this")

    def trunk(self) -> nn.Module | None:
        """The part that turns images [B,3,H,W] into feature maps, a pyramid included: all that its shapes depend on is
        the images' size. By default the module named `backbone`; None: the model has none."""
        return dict(self.named_children()).get("backbone")

    def network(self, images_BCHW: Tensor) -> object:
        """The inference network at fixed shapes, for counting and timing."""
        raise AssertionError("a model defines this")

    def regions(self) -> dict[str, int]:
        """Part's name -> the number of an image's regions that `network` runs it on; {} where none runs by region."""
        return {}

    def paper_gflops(self) -> float | None:
        """Multiply-adds / 1e9 as the paper's tables count them; None for a family whose papers have no rule."""
        return None


@runtime_checkable
class Backbone(Protocol):
    """A module that turns images [B,3,H,W] into one map [B,C,⌈H/s⌉,⌈W/s⌉] for each of its strides s, fine to coarse.

    pretrained: the name of its weights in the recipe, or None; settings: its recipe section. `build_backbone` sets
    both, and `checkpoint.initialise` loads the weights.
    """

    channels: list[int]
    strides: list[int]
    pretrained: str | None
    settings: dict[str, object]

    def __call__(self, x_BCHW: Tensor, /) -> list[Tensor]: ...

    def load_pretrained(self, state: dict[str, Tensor], /) -> None:
        """Load a classification network's weights. Raises KeyError, RuntimeError or ValueError where they don't fit."""


@runtime_checkable
class Started(Protocol):
    """A model that begins with a checkpoint of the library `transformers`: where that is, of which of its classes, and
    the library's module that its tensors belong to."""

    begins_with: str
    architecture: str
    net: nn.Module
    labels: int
    loaded: frozenset[str]

    @property
    def class_layers(self) -> tuple[str, ...]: ...


@runtime_checkable
class Prunable(Protocol):
    """A backbone whose finer maps have parameters of their own, which get no gradient where nothing reads the maps."""

    def keep_coarsest(self, maps: int, /) -> None:
        """Leave out all maps but the last `maps`, or freeze their parameters."""


@dataclasses.dataclass
class Samples:
    """Proposals drawn for training, one entry an image.

    boxes [n,4] on the canvas; labels [n] with 0 = background and c + 1 = class c; matched [n]: the index of the
    target's object that each belongs to (0 where the image has none); seeds: see types.Batch.
    """

    boxes: list[Tensor]
    labels: list[Tensor]
    matched: list[Tensor]
    targets: list[Target]
    seeds: list[int]

    def positives(self, limit: int | None = None) -> "Samples":
        """Only the samples of an object; with `limit`, at most so many an image, drawn by its seed."""
        keep = []
        for label, seed in zip(self.labels, self.seeds, strict=True):
            at = torch.where(label > 0)[0]
            if limit is not None and len(at) > limit:
                order = torch.randperm(len(at), generator=keyed_generator(seed, 3))
                at = at[order[:limit].sort().values.to(at.device)]
            keep.append(at)
        return self.only(keep)

    def only(self, keep: list[Tensor]) -> "Samples":
        """Those at `keep`, indices or bools an image."""
        pick = lambda values: [v[k] for v, k in zip(values, keep, strict=True)]
        return Samples(pick(self.boxes), pick(self.labels), pick(self.matched), self.targets, self.seeds)

    def matched_boxes(self) -> list[Tensor]:
        """The ground-truth box [n,4] of every sample; zeros on an image without objects."""
        out = []
        for boxes, index, target in zip(self.boxes, self.matched, self.targets, strict=True):
            labelled = target.instances.boxes.to(boxes)
            out.append(labelled[index] if len(labelled) else torch.zeros_like(boxes))
        return out


@dataclasses.dataclass
class Detections:
    """Detections of one image on the canvas: boxes [n,4], labels [n] (0..C-1), scores [n]; extra: what heads add."""

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    extra: dict[str, Tensor] = dataclasses.field(default_factory=dict)


class Finished(TypedDict, total=False):
    """What a head gives to types.Instances, on the original image's pixels."""

    masks: list[Rle]
    scores: Tensor
    fields: dict[str, Field]


class RoIHead(nn.Module):
    """Base of every head. `needs`: field name -> class of the field that it learns from, beside boxes and masks; the
    field also says how it is drawn and stored. `metric`: the metric plugin that scores it, beside the task's own.
    `masks`: whether `finish` gives masks, which task instance needs of one head. `slot`: the name that its parameters
    bear in place of the head's own (roi_heads.heads.SLOT), so that heads of one kind read one another's weights.
    `described`: how many detections of an image it says something of, the best; None: all.
    `class_layers`: the layers with outputs for each class, as beginnings of their parameters' names.
    """

    needs: dict[str, type[Field]] = {}
    metric: str | None = None
    masks: bool = False
    slot: str | None = None
    described: int | None = None
    class_layers: tuple[str, ...] = ("predictor.",)

    def loss(self, features: list[Tensor], samples: Samples) -> dict[str, Tensor]:
        """Weighted losses, scalars; zero but connected to every parameter where there is nothing to learn from."""
        raise AssertionError("a head defines loss")

    def predict(self, features: list[Tensor], detections: list[Detections]) -> None:
        """Add this head's predictions to `detections[i].extra`."""

    def finish(self, found: Detections, size: tuple[int, int], original: tuple[int, int]) -> Finished:
        """One image's predictions on the original image. size, original: (h, w) on the canvas and of the file."""
        return {}

    def deploy(self, found: Detections, framed: Framed) -> dict[str, Tensor]:
        """`finish` of one image as tensors, see `Model.deploy`: masks bool [n,H,W], scores [n], keypoints [n,K,3]."""
        if type(self).finish is not RoIHead.finish:
            raise UsageError(
                f"the head {type(self).__name__} can't be exported: it defines no deploy",
                hint="deploy gives what finish gives, as tensors (docs/write_a_head.md)",
            )
        return {}

    def count(self, features: list[Tensor], regions: int) -> None:
        """Pool `regions` regions (`Pooler.fixed`) and run the head's layers on them, for counting and timing."""


@runtime_checkable
class Suppressing(Protocol):
    """A module that suppresses, class by class, detections that overlap a better one by more than `nms` (IoU; None:
    none is suppressed)."""

    nms: float | None


@runtime_checkable
class DetectingHead(Protocol):
    """A RoIHead that classifies and refines proposals; an R-CNN has one."""

    def detect(
        self,
        features: list[Tensor],
        proposals: list[Tensor],
        scores: list[Tensor],
        sizes: Sequence[tuple[int | Tensor, int | Tensor]],
        limit: int,
    ) -> list[Detections]:
        """At most `limit` detections an image, best first. proposals: [n,4] an image on the canvas, scores: their own
        [n] or [n,C], sizes: (h, w) of the images' contents on the canvas, numbers or scalars."""
