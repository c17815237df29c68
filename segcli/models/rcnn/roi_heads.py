"""The head loop of the R-CNN family: match proposals with labels once, then hand the samples to every head.

A head is one plugin file: a module with `loss(features, samples)` and `predict(features, detections)`. Heads never see
one another, and this file knows none of them; exactly one of them detects (it has `detect`), the rest describe what it
found. Adding a task to Mask R-CNN is adding a head (He et al., 2017, section 5).
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from segcli.models.layers.sampler import BalancedSampler, keyed_generator
from segcli.types import Target


@dataclasses.dataclass
class Samples:
    """Proposals drawn for training, one entry an image.

    boxes [n,4] on the canvas; labels [n] with 0 = background and c + 1 = class c; matched [n]: the index of the label
    that each belongs to (0 where the image has none); targets: the images' labels; seeds: see types.Batch.
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
        pick = lambda values: [v[k] for v, k in zip(values, keep, strict=True)]
        return Samples(pick(self.boxes), pick(self.labels), pick(self.matched), self.targets, self.seeds)

    def matched_boxes(self) -> list[Tensor]:
        """The labelled box [n,4] of every sample; zeros on an image without labels."""
        out = []
        for boxes, index, target in zip(self.boxes, self.matched, self.targets, strict=True):
            labelled = target.instances.boxes.to(boxes)
            out.append(labelled[index] if len(labelled) else torch.zeros_like(boxes))
        return out


@dataclasses.dataclass
class Detections:
    """What was found on one image, on the canvas: boxes [n,4], labels [n] (0..C-1), scores [n], and what heads add."""

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


class RoIHead(nn.Module):
    """Base of every head. `needs`: field name -> types.Field class that it learns from, beside boxes and masks; the
    field also says how it is drawn and stored. `metric`: the metric plugin that scores it, beside the task's own.
    `masks`: whether `finish` gives masks, which task instance needs of one head. `slot`: the name that its parameters
    bear in place of the head's own (roi_heads.heads.SLOT), so that heads of one kind read one another's weights.
    `class_layers`: the layers with outputs for each class, as beginnings of their parameters' names.
    """

    needs: dict[str, Any] = {}
    metric: str | None = None
    masks: bool = False
    slot: str | None = None
    class_layers: tuple[str, ...] = ("predictor.",)

    def loss(self, features: list[Tensor], samples: Samples) -> dict[str, Tensor]:
        """Weighted losses, scalars; zero but connected to every parameter where there is nothing to learn from."""
        raise AssertionError("a head defines loss")

    def predict(self, features: list[Tensor], detections: list[Detections]) -> None:
        """Add what this head says to `detections[i].extra`."""

    def finish(self, found: Detections, size: tuple[int, int], original: tuple[int, int]) -> dict[str, Any]:
        """Arguments for types.Instances on the original image (`masks=…`, `scores=…`, `fields=…`)."""
        return {}

    def count(self, features: list[Tensor], regions: int) -> None:
        """Pool `regions` regions (`Pooler.fixed`) and run the head's layers on them, for counting and timing."""


class RoIHeads(nn.Module):
    """heads: name -> RoIHead, the detecting one first."""

    def __init__(
        self, heads: dict[str, RoIHead], *, foreground: float, samples: int | None, positive: float, near: float = 0.0
    ):
        """foreground: IoU from which a proposal is an object's. samples: proposals an image (None: all of them)."""
        super().__init__()
        self.heads = nn.ModuleDict(heads)
        self._detecting = next(name for name, head in heads.items() if hasattr(head, "detect"))
        self.matcher = Matcher(foreground, foreground, allow_low_quality_matches=False)
        self.sampler = None if samples is None else BalancedSampler(samples, positive, salt=2)

    def all(self) -> list[RoIHead]:
        return list(self.heads.values())  # type: ignore[arg-type]

    def select(self, proposals: list[Tensor], targets: list[Target], seeds: list[int]) -> Samples:
        """Add the labelled boxes to the proposals, match by IoU, draw. Crowd regions teach nothing: proposals that
        lie in one are left out rather than called background.
        """
        out = Samples([], [], [], targets, seeds)
        for boxes, target in zip(proposals, targets, strict=True):
            crowd = target.instances.crowd
            real = torch.ones(len(target.instances), dtype=torch.bool, device=boxes.device) if crowd is None else ~crowd
            index = torch.where(real)[0]
            labelled = target.instances.boxes[index].to(boxes)
            boxes = torch.cat([boxes, labelled])
            label = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
            matched = torch.zeros_like(label)
            if len(labelled):
                at = self.matcher(box_iou(labelled, boxes))
                matched = index[at.clamp(min=0)]
                label = torch.where(at >= 0, target.instances.labels[matched] + 1, label)
            if crowd is not None and crowd.any():
                inside = _covered(boxes, target.instances.boxes[crowd].to(boxes)) > 0.5
                label = torch.where(inside & (label == 0), -1, label)
            out.boxes.append(boxes)
            out.labels.append(label)
            out.matched.append(matched)
        if self.sampler is not None:
            self.sampler.seeds = seeds
            drawn = [torch.where(p | n)[0] for p, n in zip(*self.sampler(out.labels), strict=True)]
        else:
            drawn = [torch.where(label >= 0)[0] for label in out.labels]
        for values in (out.boxes, out.labels, out.matched):
            values[:] = [v[k] for v, k in zip(values, drawn, strict=True)]
        return out

    def forward(
        self, features: list[Tensor], proposals: list[Tensor], targets: list[Target], seeds: list[int]
    ) -> dict[str, Tensor]:
        """Losses of all heads. features: the pyramid; proposals: [n,4] an image on the canvas."""
        with torch.no_grad():
            samples = self.select(proposals, targets, seeds)
        losses: dict[str, Tensor] = {}
        for head in self.all():
            losses.update(head.loss(features, samples))
        return losses

    def predict(
        self,
        features: list[Tensor],
        proposals: list[Tensor],
        scores: list[Tensor],
        sizes: list[tuple[int, int]],
        limit: int,
    ) -> list[Detections]:
        """At most `limit` detections an image. scores: the proposals' own [n]."""
        detector: Any = self.heads[self._detecting]
        detections = detector.detect(features, proposals, scores, sizes, limit)
        for head in self.all():
            head.predict(features, detections)
        return detections


def _covered(boxes: Tensor, regions: Tensor) -> Tensor:
    """Largest share of each box [n,4] that lies in one of the regions [m,4] -> [n]."""
    low = torch.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6).prod(-1)
    return (overlap / area[:, None]).amax(1)
