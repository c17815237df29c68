"""The DensePose head (Güler et al., 2018): of every pixel of a person, which chart of the body's surface, and where in
it.

Like detectron2's of today: regions are pooled from one stride-4 map that all levels of the pyramid are summed into
(Kirillov et al., 2019, Panoptic feature pyramid networks, section 3), 28×28, and read at 112×112. The one of the paper
is legacy_densepose.py, a small one lite_densepose.py.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_iou

from segcli.core import distributed
from segcli.fields.densepose import DensePose, Surface, surface
from segcli.models.interface import Declared, Detections, Finished, RoIHead, Samples
from segcli.models.rcnn.pooler import Pooler

DESCRIBED = 20  # detections of an image, the best; as many as the DensePose challenge scores


def build(
    *,
    declared: Declared,
    channels: int,
    strides: list[int],
    pooler: str = "roi_align",
    width: int = 512,
    convolutions: int = 8,
) -> RoIHead:
    """width, convolutions: the 3×3 layers at 28×28 before the transposed ones."""
    charts = surface(declared.get("densepose", {}))
    decoder = PyramidSum(channels, strides[:4])
    pool = Pooler(28, strides[:1], method=pooler)
    predictor = ChartPredictor(width, 2, charts.charts)
    return DensePoseHead(plain_layers(decoder.channels, width, convolutions), predictor, pool, charts, decoder)


def plain_layers(channels: int, width: int, convolutions: int) -> nn.Sequential:
    """3×3 convolutions with ReLU, as DensePose initialises them."""
    sizes = [channels] + [width] * convolutions
    pairs = itertools.pairwise(sizes)
    layers = nn.Sequential(*(layer for a, b in pairs for layer in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU())))
    _initialise(layers)
    return layers


class PyramidSum(nn.Module):
    """Maps of strides 4, 8, 16, 32 -> one of stride 4: 3×3 layers and bilinear ×2 as often as a map needs, and a
    sum."""

    def __init__(self, channels: int, strides: list[int], width: int = 256):
        super().__init__()
        self.channels = width
        self.levels = nn.ModuleList()
        for stride in strides:
            doublings = (stride // strides[0]).bit_length() - 1
            sizes = [channels] + [width] * max(1, doublings)
            steps: list[nn.Module] = []
            for a, b in itertools.pairwise(sizes):
                steps += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]
                steps += [nn.Upsample(scale_factor=2, mode="bilinear")] if doublings else []
            self.levels.append(nn.Sequential(*steps))
        self.predictor = nn.Conv2d(width, width, 1)
        _initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """[B,C,H/s,W/s] of each stride -> [B,256,H/4,W/4]."""
        size = features[0].shape[-2:]
        maps = [level(x)[..., : size[0], : size[1]] for level, x in zip(self.levels, features, strict=False)]
        return self.predictor(sum(F.pad(m, (0, size[1] - m.shape[-1], 0, size[0] - m.shape[-2])) for m in maps))


class ChartPredictor(nn.Module):
    """Four transposed convolutions, each doubling the map: coarse parts (background first), charts (background first),
    and u and v of every chart. Official names."""

    def __init__(self, width: int, coarse: int, charts: int):
        super().__init__()
        double = lambda outputs: nn.ConvTranspose2d(width, outputs, 4, 2, 1)
        self.sizes = [coarse] + [charts + 1] * 3
        self.ann_index_lowres, self.index_uv_lowres, self.u_lowres, self.v_lowres = map(double, self.sizes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """[K,width,S,S] -> [K, coarse + 3 (charts + 1), 2S, 2S]."""
        layers = (self.ann_index_lowres, self.index_uv_lowres, self.u_lowres, self.v_lowres)
        return torch.cat([layer(x) for layer in layers], 1)


class DensePoseHead(RoIHead):
    """Pooled region -> 3×3 layers -> maps at twice the size -> bilinear ×2.

    Coarse parts say what is the person at all, charts which part of the surface; both are cross-entropies. u and v,
    0..1, are regressed at labelled points in the channel of their chart. Class-agnostic.
    """

    needs = {"densepose": DensePose}
    metric = "densepose"
    described = DESCRIBED

    samples: int | None = None
    """Positive samples an image that it learns from; None: all."""
    overlap = 0.7
    """IoU with the labelled box from which it learns from a sample."""
    weights = (5.0, 1.0, 0.02)
    """Of coarse parts, of charts, of u and v each. The reference sums u, v over the points of a device, of 2 images
    each, at weight 0.01; here it is their sum an image, whatever the batch."""
    beta = 1.0
    """Of the smooth L1 distance of u, v."""
    shift = 0.0
    """Where in a cell of the map its value holds: 0 at the corner, as in the reference; 0.5 in the middle."""

    def __init__(
        self,
        head: nn.Module,
        predictor: ChartPredictor,
        pooler: Pooler,
        charts: Surface,
        decoder: nn.Module | None = None,
    ):
        super().__init__()
        self.decoder, self.head, self.predictor, self.pooler = decoder, head, predictor, pooler
        self.surface = charts

    def maps(self, features: list[Tensor]) -> list[Tensor]:
        """What regions are pooled from."""
        return features if self.decoder is None else [self.decoder(features)]

    def _run(self, features: list[Tensor], boxes: list[Tensor]) -> Tensor:
        return self.predictor(self.head(self.pooler(self.maps(features), boxes)))

    def loss(self, features: list[Tensor], samples: Samples) -> dict[str, Tensor]:
        """Of positive samples near their labelled box: coarse parts at every cell, charts and (u, v) at labelled
        points."""
        near = self._learned(samples)
        maps = F.interpolate(self._run(features, near.boxes), scale_factor=2, mode="bilinear")
        coarse, charts_uv = maps.split([self.predictor.sizes[0], sum(self.predictor.sizes[1:])], 1)
        labelled, parts = self._coarse_targets(near, coarse.shape[-1])
        owner, place, rows = _points(near)
        read = read_at(charts_uv, owner, place, self.shift).unflatten(1, (3, -1))
        chart = rows[:, 0].long()
        share, share_coarse = distributed.share(len(owner)), distributed.share(len(parts))
        share_images = distributed.share(len(near.boxes))
        names = ("loss_densepose_coarse", "loss_densepose_chart", "loss_densepose_u", "loss_densepose_v")
        losses = dict.fromkeys(names, maps.sum() * 0)
        coarse_weight, chart_weight, uv_weight = self.weights
        if len(parts):
            losses[names[0]] = coarse_weight * F.cross_entropy(coarse[labelled], parts) * share_coarse
        if len(owner):
            losses[names[1]] = chart_weight * F.cross_entropy(read[:, 0], chart) * share
            for k, name in enumerate(names[2:], 1):
                value = read[:, k].gather(1, chart[:, None])[:, 0]
                off = F.smooth_l1_loss(value, rows[:, k], beta=self.beta, reduction="none")
                losses[name] = uv_weight * self._mean(off, share, len(near.boxes), share_images)
        return losses

    def _mean(self, off: Tensor, share: Tensor | float, images: int, share_images: Tensor | float) -> Tensor:
        return off.sum() / images * share_images

    def _learned(self, samples: Samples) -> Samples:
        """Positives of objects with labelled points whose box overlaps theirs enough."""
        positive = samples.positives(self.samples)
        kept = []
        for i, truth in enumerate(positive.matched_boxes()):
            points, boxes = DensePose.of(positive.targets[i].instances).points, positive.boxes[i]
            labelled = [len(points[k]) > 0 for k in positive.matched[i].tolist()]
            near = box_iou(boxes, truth).diagonal() >= self.overlap
            kept.append(torch.tensor(labelled, dtype=torch.bool, device=boxes.device) & near)
        return positive.only(kept)

    def _coarse_targets(self, near: Samples, side: int) -> tuple[Tensor, Tensor]:
        """Which samples have labelled coarse parts, int64 [L], and the parts at their cells, int64 [L,side,side]."""
        cell = (torch.arange(side) + self.shift) / side
        grid = torch.stack([cell.expand(side, side), cell[:, None].expand(side, side)], -1).view(-1, 2)
        index, parts, first = [], [], 0
        for boxes, matched, target in zip(near.boxes, near.matched, near.targets, strict=True):
            field = DensePose.of(target.instances)
            for k, (box, i) in enumerate(zip(boxes, matched.tolist(), strict=True)):
                if field.coarse[i] is not None:
                    at = box[:2] + grid.to(box) * (box[2:] - box[:2])
                    index.append(first + k)
                    parts.append(field.coarse_at(i, at).view(side, side))
            first += len(boxes)
        device = near.boxes[0].device if near.boxes else torch.device("cpu")
        found = torch.stack(parts).to(device) if parts else torch.zeros(0, side, side, dtype=torch.int64, device=device)
        return torch.tensor(index, device=device, dtype=torch.int64), found.clamp(max=self.predictor.sizes[0] - 1)

    def predict(self, features: list[Tensor], detections: list[Detections]) -> None:
        """Adds `densepose` [min(n, 20), coarse + 3 (charts + 1), 2S, 2S]: of the best detections, which come first."""
        best = [d.boxes[: self.described] for d in detections]
        maps = self._run(features, best)
        for found, own in zip(detections, maps.split([len(b) for b in best]), strict=True):
            found.extra["densepose"] = own

    def finish(self, found: Detections, size: tuple[int, int], original: tuple[int, int]) -> Finished:
        """Maps on the original image's pixels: the likeliest chart where the likeliest coarse part is not
        background."""
        scale = found.boxes.new_tensor([original[1] / size[1], original[0] / size[0]] * 2)
        boxes = found.boxes * scale
        maps = [self._on_pixels(own, box) for own, box in zip(found.extra["densepose"], boxes, strict=False)]
        maps += [torch.zeros(3, 1, 1, dtype=torch.uint8)] * (len(boxes) - len(maps))
        return {"fields": {"densepose": DensePose.predicted(maps, boxes, self.surface)}}

    def _on_pixels(self, maps: Tensor, box: Tensor) -> Tensor:
        """[coarse + 3 (charts + 1), S, S] -> uint8 [3,h,w]: chart (0 = background), u and v in 255ths."""
        width, height = (box[2:] - box[:2]).round().int().clamp(min=1).tolist()
        double = F.interpolate(maps[None].float(), scale_factor=2, mode="bilinear")
        resize = lambda x: F.interpolate(x, (height, width), mode="bilinear")[0]
        coarse, charts, u, v = double.split(self.predictor.sizes, 1)
        chart = resize(charts).argmax(0) * (resize(coarse).argmax(0) > 0)
        out = torch.zeros(3, height, width, dtype=torch.uint8, device=maps.device)
        out[0] = chart
        for c in chart.unique().tolist():
            if c:  # one channel at a time: all of them at this size could be gigabytes
                value = (resize(torch.cat([u[:, c : c + 1], v[:, c : c + 1]], 1)).clamp(0, 1) * 255).round().byte()
                out[1:] = torch.where(chart == c, value, out[1:])
        return out

    def count(self, features: list[Tensor], regions: int) -> None:
        self.predictor(self.head(self.pooler.fixed(self.maps(features), regions)))


def read_at(maps: Tensor, owner: Tensor, place: Tensor, shift: float) -> Tensor:
    """Bilinear values [P,C] of maps [K,C,S,S]: of map `owner` [P] at `place` [P,2], (x, y) from 0 to 1. shift: where in
    its cell a value holds."""
    side = maps.shape[-1]
    at = (place * side - shift).clamp(0, side - 1)
    low = at.floor().clamp(max=max(side - 2, 0))
    (a, b), (x, y) = (at - low)[..., None].unbind(1), low.long().unbind(1)
    cells = maps.permute(0, 2, 3, 1)
    value = lambda dy, dx: cells[owner, (y + dy).clamp(max=side - 1), (x + dx).clamp(max=side - 1)]
    return (value(0, 0) * (1 - a) + value(0, 1) * a) * (1 - b) + (value(1, 0) * (1 - a) + value(1, 1) * a) * b


def _points(near: Samples) -> tuple[Tensor, Tensor, Tensor]:
    """Labelled points inside their sample: whose they are [P], where in its box [P,2], chart, u and v [P,3]."""
    owner, place, rows, first = [], [], [], 0
    for boxes, matched, target in zip(near.boxes, near.matched, near.targets, strict=True):
        field = DensePose.of(target.instances)
        for k, (box, i) in enumerate(zip(boxes, matched.tolist(), strict=True)):
            points = field.points[i].to(box)
            at = (points[:, :2] - box[:2]) / (box[2:] - box[:2]).clamp(min=1e-3)
            inside = ((at >= 0) & (at < 1)).all(1)
            owner.append(torch.full((int(inside.sum()),), first + k, device=box.device))
            place.append(at[inside])
            rows.append(points[inside, 2:])
        first += len(boxes)
    if not owner:
        device = near.boxes[0].device if near.boxes else torch.device("cpu")
        zeros = lambda *shape: torch.zeros(shape, device=device)
        return zeros(0).long(), zeros(0, 2), zeros(0, 3)
    return torch.cat(owner), torch.cat(place), torch.cat(rows)


def _initialise(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")
