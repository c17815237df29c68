"""The head loop of the R-CNN family: match proposals with labels once, then hand the samples to every head.

A head is one plugin file, with a `RoIHead` (models/interface.py). Heads never see one another, and this file knows none
of them; exactly one detects (a `DetectingHead`), the others describe its detections. Adding a task to Mask R-CNN is
adding a head (He et al., 2017, section 5).
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from segcli.core.errors import UsageError
from segcli.models.interface import DetectingHead, Detections, Finished, RoIHead, Samples
from segcli.models.layers.sampler import BalancedSampler
from segcli.types import Target


class RoIHeads(nn.Module):
    """heads: name -> RoIHead, one of them a DetectingHead."""

    def __init__(
        self, heads: dict[str, RoIHead], *, foreground: float, samples: int | None, positive: float, near: float = 0.0
    ):
        """foreground: IoU from which a proposal is an object's. samples: proposals an image (None: all of them)."""
        super().__init__()
        self.heads = nn.ModuleDict(heads)
        self.matcher = Matcher(foreground, foreground, allow_low_quality_matches=False)
        self.sampler = None if samples is None else BalancedSampler(samples, positive, salt=2)

    def named(self) -> dict[str, RoIHead]:
        return cast(dict[str, RoIHead], dict(self.heads.items()))

    def all(self) -> list[RoIHead]:
        return list(self.named().values())

    def select(self, proposals: list[Tensor], targets: list[Target], seeds: list[int]) -> Samples:
        """Add the ground-truth boxes to the proposals, match by IoU, sample. Proposals inside a crowd region are left
        out rather than labelled background.
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
        for name, head in self.named().items():
            own = head.loss(features, samples)
            if taken := losses.keys() & own.keys():
                raise UsageError(
                    f"model.heads.{name}: another head has the loss {min(taken)!r} already",
                    hint="losses bear the name of their head, such as loss_NAME",
                )
            losses |= own
        return losses

    def predict(
        self,
        features: list[Tensor],
        proposals: list[Tensor],
        scores: list[Tensor],
        sizes: Sequence[tuple[int | Tensor, int | Tensor]],
        limit: int,
    ) -> list[Detections]:
        """At most `limit` detections an image. scores: the proposals' own [n]."""
        [detector] = [head for head in self.all() if isinstance(head, DetectingHead)]
        detections = detector.detect(features, proposals, scores, sizes, limit)
        for head in self.all():
            head.predict(features, detections)
        return detections


def refuse_unfit(name: str, own: Finished, count: int, size: tuple[int, int]) -> None:
    """Raise UsageError where what the head `name` gives one image is not for its `count` detections, or its masks are
    not of the image's size (H, W)."""
    if unknown := own.keys() - Finished.__annotations__.keys():
        known = ", ".join(Finished.__annotations__)
        raise UsageError(f"model.heads.{name}: finish gives {min(unknown)!r}", hint=f"it may give {known}")
    parts = {key: own[key] for key in ("masks", "scores") if key in own} | own.get("fields", {})
    for key, value in parts.items():
        if len(value) != count:
            raise UsageError(f"model.heads.{name}: finish gives {len(value)} {key} for {count} detections")
    for mask in own.get("masks", []):
        given = tuple(mask["size"]) if isinstance(mask, dict) else tuple(mask.shape)
        if given != tuple(size):
            shown = " × ".join(map(str, given))
            raise UsageError(
                f"model.heads.{name}: finish gives masks of {shown} pixels, and the image has {size[0]} × {size[1]}",
                hint="its arguments size and original are those on the canvas and of the file",
            )


def _covered(boxes: Tensor, regions: Tensor) -> Tensor:
    """Largest share of each box [n,4] that lies in one of the regions [m,4] -> [n]."""
    low = torch.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6).prod(-1)
    return (overlap / area[:, None]).amax(1)
