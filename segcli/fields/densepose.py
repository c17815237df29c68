"""DensePose: where on the surface of a body pixels lie (Güler et al., 2018), as chart (I) and coordinates (U, V).

Annotations are DensePose-COCO's: `dp_x`, `dp_y` of labelled points, 0 to 256 over the annotated box; `dp_I` their
charts from 1, `dp_U`, `dp_V` their places on it, 0 to 1; `dp_masks`, one RLE of 256 × 256 a coarse part, [] for one
that is unseen.
What a dataset declares of its charts: `body_surface.py`.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import cv2
import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import UsageError
from segcli.fields.body_surface import Surface, surface
from segcli.fields.geodesics import geodesics
from segcli.fields.side_files import read_arrays
from segcli.types import Colour, Index, Instances, Labels, Origin, Placed, Store

GRID = 256  # of labels over the annotated box
POINTS = ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")


@dataclasses.dataclass
class DensePose:
    """N objects. Labels: points, N of float32 [P,5] (x, y in pixels, chart from 1, u, v; [0,5] without a label);
    coarse, N of uint8 [256,256] (part from 1, 0 = background) or None; place [N,2,3]: where a point (x, y, 1) of that
    grid, 0 to 256, lies in the image. Predictions: maps, N of uint8 [3,h,w] (chart, 255 u, 255 v) over `boxes` [N,4].
    """

    points: list[Tensor]
    coarse: list[Tensor | None]
    place: Tensor
    surface: Surface
    maps: list[Tensor] | None = None
    boxes: Tensor | None = None

    @classmethod
    def reads(cls) -> tuple[str, ...]:
        return ("dp_I", "dp_masks")

    @classmethod
    def predicted(cls, maps: list[Tensor], boxes: Tensor, surface: Surface) -> "DensePose":
        """What a head finds; see the class."""
        n = len(maps)
        return cls([torch.zeros(0, 5)] * n, [None] * n, torch.eye(3)[:2].repeat(n, 1, 1), surface, maps, boxes)

    @classmethod
    def read(cls, annotations: Labels, origin: Origin) -> "DensePose":
        own = surface(origin.info.declared.get("densepose", {}), origin)
        if any("densepose_index" in a for a in annotations):
            return _stored(annotations, origin, own)
        points, coarse, place = [], [], torch.eye(3)[:2].repeat(len(annotations), 1, 1)
        for i, annotation in enumerate(annotations):
            x, y, w, h = cast("list[float]", annotation.get("bbox", [0, 0, GRID, GRID]))
            place[i] = torch.tensor([[w / GRID, 0, x], [0, h / GRID, y]])
            rows = torch.zeros(0, 5)
            if annotation.get("dp_I"):
                values = [cast("list[float]", annotation[key]) for key in POINTS]
                rows = torch.tensor(values, dtype=torch.float32).T.contiguous()
                rows[:, :2] = rows[:, :2] * torch.tensor([w, h]) / GRID + torch.tensor([x, y])
            points.append(rows[rows[:, 2] > 0])
            coarse.append(_coarse(annotation.get("dp_masks")))
        return cls(points, coarse, place, own)

    @classmethod
    def problems(cls, annotations: Labels, origin: Origin) -> Iterator[str]:
        """One sentence for each problem of an image's labels."""
        own = surface(origin.info.declared.get("densepose", {}), origin)
        if own.geodesics is not None:
            geodesics(own.geodesics, own.charts)  # raises for a file of another body
        for annotation in annotations:
            name = f"annotation {annotation.get('id')}"
            given = {key: annotation[key] for key in POINTS if annotation.get(key) is not None}
            lists = [value for value in given.values() if isinstance(value, list)]
            if given and (len(lists) < len(POINTS) or len({len(value) for value in lists}) > 1):
                yield f"{name}: {', '.join(POINTS)} must be lists of one length, all together"
                continue
            if not all(type(v) in (int, float) and math.isfinite(v) for value in lists for v in value):
                yield f"{name}: a point of DensePose is not a finite number"
                continue
            if given:
                x, y, charts, u, v = lists
                strange = next((c for c in charts if c != int(c) or not 0 <= c <= own.charts), None)
                if strange is not None:
                    yield f"{name}: dp_I is {strange:g}, and the dataset declares the charts 1 to {own.charts}"
                elif any(not 0 <= value <= 1 for value in (*u, *v)):
                    yield f"{name}: dp_U and dp_V must be 0 to 1"
                elif any(not 0 <= value <= GRID for value in (*x, *y)):
                    yield f"{name}: dp_x and dp_y must be 0 to {GRID}, of the annotated box"
            if annotation.get("dp_masks"):
                try:
                    part = _coarse(annotation["dp_masks"])
                except ValueError as error:
                    yield f"{name}: {error}"
                    continue
                if part is not None and int(part.max()) > own.coarse:
                    yield f"{name}: dp_masks has part {int(part.max())}, and the dataset declares {own.coarse}"
            box = cast("list[float] | None", annotation.get("bbox"))
            if (given or annotation.get("dp_masks")) and (not box or min(box[2:]) <= 0):
                yield f"{name}: has DensePose labels and no bbox with an area, over which they are counted"

    @classmethod
    def labelled(cls, annotations: Labels) -> bool:
        return any(isinstance(a.get("dp_I"), list) and a["dp_I"] for a in annotations)

    @classmethod
    def of(cls, instances: Instances) -> "DensePose":
        """The labels or maps of instances that have them."""
        field = instances.fields["densepose"]
        assert isinstance(field, cls), "the field densepose holds DensePose"
        return field

    def at(self, i: int, xy: Tensor) -> Tensor:
        """What prediction i says at pixels [P,2]: chart, u, v [P,3]; 0 outside of its box and on the background."""
        assert self.maps is not None, "only predictions have maps"
        assert self.boxes is not None, "predictions have boxes"
        own, box = self.maps[i], self.boxes[i]
        size = torch.tensor([own.shape[2], own.shape[1]])
        cell = ((xy - box[:2]) / (box[2:] - box[:2]).clamp(min=1e-6) * size).floor().long()
        inside = ((cell >= 0) & (cell < size)).all(1)
        column, row = cell.clamp(min=0).minimum(size - 1).T
        found = own[:, row, column].T.float() / torch.tensor([1.0, 255, 255])
        return found * (inside & (found[:, 0] > 0))[:, None]

    def coarse_at(self, i: int, xy: Tensor) -> Tensor:
        """The labelled coarse part int64 [P] at pixels [P,2]; 0 outside of its grid, or without a label."""
        own = self.coarse[i]
        if own is None:
            return torch.zeros(len(xy), dtype=torch.int64, device=xy.device)
        there = self.place[i].to(xy)
        cell = ((xy - there[:, 2]) @ torch.linalg.inv(there[:, :2]).T).floor().long()
        inside = ((cell >= 0) & (cell < GRID)).all(1)
        column, row = cell.clamp(0, GRID - 1).T
        return own.to(xy.device)[row, column].long() * inside

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: Index) -> "DensePose":
        keep = torch.arange(len(self))[index].reshape(-1).tolist()
        return DensePose(
            [self.points[i] for i in keep],
            [self.coarse[i] for i in keep],
            self.place[keep],
            self.surface,
            None if self.maps is None else [self.maps[i] for i in keep],
            None if self.boxes is None else self.boxes[keep],
        )

    def flip(self, width: float) -> "DensePose":
        """Mirror left to right: charts, coarse parts and u, v by the surface's tables; without them UsageError."""
        points = []
        for own in self.points:
            x = width - own[:, :1]
            points.append(torch.cat([x, own[:, 1:2], self.surface.flipped(own[:, 2:])], 1) if len(own) else own)
        table, coarse = self.surface.mirror_coarse, self.coarse
        if any(own is not None for own in coarse):
            if table is None:
                raise UsageError(
                    "data.augment.flip: the dataset declares no mirror_coarse of its DensePose parts",
                    hint="--set data.augment.flip=0, or declare it (docs/densepose.md)",
                )
            mirror = torch.tensor(table, dtype=torch.uint8)
            coarse = [None if own is None else mirror.to(own.device)[own.long()] for own in coarse]
        place = self.place * self.place.new_tensor([[-1.0], [1]])
        place[:, 0, 2] += width
        return dataclasses.replace(self, points=points, coarse=coarse, place=place)

    def crop(self, x: float, y: float, width: float, height: float) -> "DensePose":
        """Points outside are no labels any more."""
        points = []
        for own in self.points:
            at = own - own.new_tensor([x, y, 0, 0, 0])
            points.append(at[(at[:, 0] >= 0) & (at[:, 1] >= 0) & (at[:, 0] <= width) & (at[:, 1] <= height)])
        place = self.place.clone()
        place[:, :, 2] -= place.new_tensor([x, y])
        return dataclasses.replace(self, points=points, place=place)

    def scale(self, x: float, y: float) -> "DensePose":
        points = [own * own.new_tensor([x, y, 1, 1, 1]) for own in self.points]
        return dataclasses.replace(self, points=points, place=self.place * self.place.new_tensor([[x], [y]]))

    def rotate(self, matrix: np.ndarray) -> "DensePose":
        """matrix [2,3] maps a point (x, y, 1); where on the body a pixel lies does not change."""
        turn = torch.from_numpy(np.asarray(matrix, np.float32)).to(self.place)
        points = [torch.cat([own[:, :2] @ turn[:, :2].T + turn[:, 2], own[:, 2:]], 1) for own in self.points]
        place = turn[:, :2] @ self.place
        place[:, :, 2] += turn[:, 2]
        return dataclasses.replace(self, points=points, place=place)

    def to(self, device: torch.device | str) -> "DensePose":
        return dataclasses.replace(
            self,
            points=[own.to(device) for own in self.points],
            coarse=[None if own is None else own.to(device) for own in self.coarse],
            place=self.place.to(device),
            maps=None if self.maps is None else [own.to(device) for own in self.maps],
            boxes=None if self.boxes is None else self.boxes.to(device),
        )

    @classmethod
    def moved(cls, annotation: Mapping[str, object], placed: Placed) -> dict[str, object]:
        """Points and parts over the annotation's new box; those outside of it go."""
        old, new = cast("list[float] | None", annotation.get("bbox")), placed.box
        if not old or len(new) != 4 or min(*old[2:], *new[2:]) <= 0:
            raise ValueError("DensePose labels need a bbox with an area, over which they are counted")
        if annotation.get("dp_I") and not all(isinstance(annotation.get(key), list) for key in POINTS):
            raise ValueError(f"{', '.join(POINTS)} must be lists of one length, all together")
        turn = np.zeros((2, 2))  # for x and y: factor and shift from the old box's grid to the new one's
        for k, (scale, shift) in enumerate(zip(placed.scale, placed.shift, strict=True)):
            turn[k] = scale * old[2 + k] / new[2 + k], (scale * old[k] - shift - new[k]) * GRID / new[2 + k]
        out: dict[str, object] = {}
        if annotation.get("dp_I"):
            rows = np.array([annotation[key] for key in POINTS], float)
            rows[:2] = rows[:2] * turn[:, :1] + turn[:, 1:]
            kept = rows[:, ((rows[:2] >= 0) & (rows[:2] <= GRID)).all(0)]
            out |= {key: row.tolist() for key, row in zip(POINTS, kept, strict=True)}
        if (part := _coarse(annotation.get("dp_masks"))) is not None:
            matrix = np.column_stack([np.diag(turn[:, 0]), turn[:, 1]])
            matrix[:, 2] += matrix[:, :2].sum(1) / 2 - 0.5  # OpenCV counts from the first pixel's centre
            out["dp_masks"] = encoded(cv2.warpAffine(part.numpy(), matrix, (GRID, GRID), flags=cv2.INTER_NEAREST))
        return out

    def perfect(self) -> tuple["DensePose", Tensor]:
        """Maps of 512 × 512 over the points' box that say at each point what its label says."""
        side, maps, boxes = 512, [], torch.zeros(len(self), 4)
        for i, own in enumerate(self.points):
            one = torch.zeros(3, side, side, dtype=torch.uint8)
            if len(own):
                low, high = own[:, :2].min(0).values - 0.5, own[:, :2].max(0).values + 0.5
                boxes[i] = torch.cat([low, high])
                column, row = ((own[:, :2] - low) / (high - low) * side).floor().long().clamp(0, side - 1).T
                one[:, row, column] = (own[:, 2:].T * torch.tensor([[1.0], [255], [255]])).round().to(torch.uint8)
            maps.append(one)
        return DensePose.predicted(maps, boxes, self.surface), torch.tensor([len(own) > 0 for own in self.points])

    def write(self, labels: Sequence[int], store: Store) -> list[dict[str, object]]:
        if self.maps is None or not self.maps:
            return [{} for _ in range(len(self))]
        flat = np.concatenate([own.cpu().numpy().ravel() for own in self.maps])
        name = store.file("densepose", {"maps": flat, "shapes": np.array([own.shape for own in self.maps], np.int64)})
        return [{"densepose_file": name, "densepose_index": i} for i in range(len(self))]

    def draw(
        self, canvas: np.ndarray, found: Instances, info: DatasetInfo, factor: float, colours: Sequence[Colour]
    ) -> None:
        """Charts in colours of their own, brighter along u and v, over uint8 RGB [H,W,3], in place: maps of
        predictions, points of labels."""
        palette = chart_colours(self.surface.charts)
        for i in range(len(self)):
            if self.maps is not None and self.boxes is not None:
                _paint(canvas, self.maps[i].cpu().numpy(), (self.boxes[i] * factor).tolist(), palette)
            for x, y, chart, u, v in self.points[i].tolist():
                colour = _shade(palette[int(chart)], np.array(u), np.array(v)).tolist()
                cv2.circle(
                    canvas, (round(x * factor - 0.5), round(y * factor - 0.5)), max(1, round(factor)), colour, -1
                )


def chart_colours(charts: int) -> np.ndarray:
    """uint8 [charts + 1, 3]: hues that neighbours do not share."""
    hues = (np.arange(charts + 1) * 0.618034 % 1 * 180).astype(np.uint8)
    hsv = np.stack([hues, np.full_like(hues, 200), np.full_like(hues, 250)], 1)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]


def _shade(colour: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return colour * (0.35 + 0.4 * u + 0.25 * v)[..., None]


def _paint(canvas: np.ndarray, own: np.ndarray, box: list[float], palette: np.ndarray) -> None:
    """own uint8 [3,h,w] over a box of the canvas."""
    x1, y1, x2, y2 = (round(value) for value in box)
    top, left, bottom, right = max(y1, 0), max(x1, 0), min(y2, canvas.shape[0]), min(x2, canvas.shape[1])
    if bottom <= top or right <= left:
        return
    row = ((np.arange(top, bottom) + 0.5 - y1) / (y2 - y1) * own.shape[1]).astype(int).clip(0, own.shape[1] - 1)
    column = ((np.arange(left, right) + 0.5 - x1) / (x2 - x1) * own.shape[2]).astype(int).clip(0, own.shape[2] - 1)
    chart, u, v = own[:, row][:, :, column]
    on = chart > 0
    ink = _shade(palette[chart.clip(0, len(palette) - 1)], u / 255, v / 255)
    view = canvas[top:bottom, left:right]
    view[on] = (0.25 * view[on] + 0.75 * ink[on]).astype(np.uint8)


def _coarse(masks: object) -> Tensor | None:
    """uint8 [256,256] of DensePose-COCO's `dp_masks`. Raises ValueError for malformed ones."""
    masks = [masks] if isinstance(masks, dict) else masks  # of data without parts: the whole body
    if not masks:
        return None
    if not isinstance(masks, list) or len(masks) > 254:
        raise ValueError("dp_masks is no list of at most 254 RLEs")
    out = np.zeros((GRID, GRID), np.uint8)
    for part, rle in enumerate(masks, 1):
        if not rle:
            continue
        try:
            if list(rle["size"]) != [GRID, GRID]:
                raise ValueError(f"a part has the size {rle['size']}, not {GRID} × {GRID}")
            if isinstance(rle["counts"], list):
                rle = coco_mask.frPyObjects(rle, GRID, GRID)
            out[coco_mask.decode(rle) > 0] = part
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            why = f"there is no {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"dp_masks can't be decoded: {why}") from error
    return torch.from_numpy(out)


def encoded(parts: np.ndarray, count: int = 14) -> list[object]:
    """uint8 [256,256] -> `dp_masks` of at least `count` parts."""
    out: list[object] = []
    for part in range(1, max(count, int(parts.max())) + 1):
        mask = np.asfortranarray((parts == part).astype(np.uint8))
        rle = coco_mask.encode(mask)
        out.append({"size": [GRID, GRID], "counts": rle["counts"].decode()} if mask.any() else [])
    return out


def _stored(annotations: Labels, origin: Origin, own: Surface) -> DensePose:
    """What `write` has stored."""
    name = next(a["densepose_file"] for a in annotations if "densepose_file" in a)
    flat, rows = read_arrays(origin.file(name), "maps", "shapes")
    shapes = rows.tolist()
    parts = torch.from_numpy(flat).split([math.prod(shape) for shape in shapes])
    keep = [cast(int, a["densepose_index"]) for a in annotations]
    boxes = torch.tensor([cast("list[float]", a["bbox"]) for a in annotations], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return DensePose.predicted([parts[i].reshape(shapes[i]) for i in keep], boxes, own)


def build() -> type[DensePose]:
    return DensePose
