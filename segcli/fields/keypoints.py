"""Keypoints of objects, as COCO has them: read, drawn, and moved as images are augmented."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import cv2
import numpy as np
import torch
from torch import Tensor

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import UsageError
from segcli.types import Colour, Index, Instances, Labels, Origin, Placed, Store

SURE = 0.3  # predicted keypoints below this confidence are drawn hollow, like hidden ones


@dataclasses.dataclass
class Keypoints:
    """K keypoints of each of N objects; objects of a class with fewer have unlabelled ones at the end.

    points [N,K,3] float32: x, y in pixels, and in labels COCO's visibility (0 = not labelled, 1 = hidden, 2 = visible),
    in predictions a confidence, 0..1. mirror [N,K]: the keypoint that stands at place k of a mirror image; None in
    predictions. upright: see dataset_info.Category.
    """

    points: Tensor
    mirror: Tensor | None = None
    upright: bool = False

    @classmethod
    def reads(cls) -> tuple[str, ...]:
        return ("keypoints",)

    @classmethod
    def read(cls, annotations: Labels, origin: Origin) -> "Keypoints":
        """COCO's `keypoints`, [x, y, v] times K; an annotation without them has none labelled."""
        info = origin.info
        categories = {c.source_id: c for c in info.categories}
        points = torch.zeros(len(annotations), info.num_keypoints, 3)
        mirror = torch.arange(info.num_keypoints).repeat(len(annotations), 1)
        for i, annotation in enumerate(annotations):
            if given := cast(list[float] | None, annotation.get("keypoints")):  # `problems` has checked it
                points[i, : len(given) // 3] = torch.tensor(given, dtype=torch.float32).reshape(-1, 3)
            for a, b in categories[cast(int, annotation["category_id"])].flip_pairs:
                mirror[i, a], mirror[i, b] = b, a
        return cls(points, mirror, any(c.upright for c in info.categories))

    @classmethod
    def problems(cls, annotations: Labels, origin: Origin) -> Iterator[str]:
        """One sentence for each problem of an image's labels."""
        declared = {c.source_id: len(c.keypoints) for c in origin.info.categories}
        for annotation in annotations:
            given, name = annotation.get("keypoints") or [], f"annotation {annotation.get('id')}"
            count = declared[cast(int, annotation["category_id"])]
            if not isinstance(given, list) or not all(type(v) in (int, float) and math.isfinite(v) for v in given):
                yield f"{name}: keypoints are not a list of finite numbers"
            elif given and len(given) != 3 * count:
                yield f"{name}: {len(given)} numbers for {count} keypoints of its class, which need {3 * count}"
            elif not {*given[2::3]} <= {0, 1, 2}:
                yield f"{name}: a keypoint's visibility is {min({*given[2::3]} - {0, 1, 2})}, not 0, 1 or 2"

    @classmethod
    def labelled(cls, annotations: Labels) -> bool:
        return any(any(cast(list[float], a.get("keypoints") or [])[2::3]) for a in annotations)

    @classmethod
    def of(cls, instances: Instances) -> "Keypoints":
        """The keypoints of instances that have them."""
        field = instances.fields["keypoints"]
        assert isinstance(field, cls), "the field keypoints holds keypoints"
        return field

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: Index) -> "Keypoints":
        mirror = None if self.mirror is None else self.mirror[index]
        return dataclasses.replace(self, points=self.points[index], mirror=mirror)

    def flip(self, width: float) -> "Keypoints":
        """Mirror left to right; left and right keypoints change places."""
        assert self.mirror is not None, "predictions are not augmented"
        x, y, v = self.points.unbind(-1)
        flipped = torch.stack([torch.where(v > 0, width - x, x), y, v], -1)
        return self._with(flipped.gather(1, self.mirror[..., None].expand_as(flipped)))

    def crop(self, x: float, y: float, width: float, height: float) -> "Keypoints":
        """Keypoints outside become unlabelled."""
        points = self.points - self.points.new_tensor([x, y, 0])
        inside = (points[..., :2] >= 0).all(-1) & (points[..., 0] <= width) & (points[..., 1] <= height)
        return self._with(points * (inside & (points[..., 2] > 0))[..., None])

    def scale(self, x: float, y: float) -> "Keypoints":
        return self._with(self.points * self.points.new_tensor([x, y, 1]))

    def rotate(self, matrix: np.ndarray) -> "Keypoints":
        """matrix [2,3] maps a point (x, y, 1). Raises UsageError where names depend on what is up."""
        if self.upright:
            raise UsageError(
                "data.augment: this dataset names keypoints by where they lie in an image, and a rotation renames them",
                hint="leave rot90, flip_vertical and rotate away",
            )
        turn = torch.from_numpy(np.asarray(matrix, np.float32)).to(self.points)
        moved = self.points[..., :2] @ turn[:, :2].T + turn[:, 2]
        return self._with(torch.cat([moved * (self.points[..., 2:] > 0), self.points[..., 2:]], -1))

    def to(self, device: torch.device | str) -> "Keypoints":
        mirror = None if self.mirror is None else self.mirror.to(device)
        return dataclasses.replace(self, points=self.points.to(device), mirror=mirror)

    @classmethod
    def moved(cls, annotation: Mapping[str, object], placed: Placed) -> dict[str, object]:
        """COCO's triples on another image; a point that is not on it counts as not labelled."""
        values = annotation["keypoints"]
        if not isinstance(values, list) or len(values) % 3 or not all(type(v) in (int, float) for v in values):
            raise ValueError("keypoints are no list of x, y and visibility")
        (sx, sy), (dx, dy), (h, w) = placed.scale, placed.shift, placed.size
        out: list[float] = []
        for x, y, seen in zip(values[0::3], values[1::3], values[2::3], strict=True):
            at = sx * x - dx, sy * y - dy
            out += [*at, seen] if seen and 0 <= at[0] <= w and 0 <= at[1] <= h else [0, 0, 0]
        return {"keypoints": out, "num_keypoints": sum(bool(v) for v in out[2::3])}

    def perfect(self) -> "tuple[Keypoints, Tensor]":
        return self, (self.points[..., 2] > 0).any(1)

    def write(self, labels: Sequence[int], store: Store) -> list[dict[str, object]]:
        """Keys of COCO results: `keypoints`, [x, y, confidence] times as many as the class has."""
        counts = [len(store.info.categories[label].keypoints) for label in labels]
        rows = self.points.double().cpu().numpy().round(4)
        return [{"keypoints": row[:n].ravel().tolist()} for row, n in zip(rows, counts, strict=True)]

    def draw(
        self, canvas: np.ndarray, found: Instances, info: DatasetInfo, factor: float, colours: Sequence[Colour]
    ) -> None:
        """Skeletons over uint8 RGB [H,W,3], in place: visible keypoints filled, hidden and unsure ones hollow."""
        wide = max(1, round(math.sqrt(canvas.shape[0] * canvas.shape[1]) / 400))
        solid = 2.0 if found.scores is None else SURE
        for label, row, colour in zip(found.labels.tolist(), self.points.cpu().numpy(), colours, strict=True):
            category = info.categories[label]
            points = row[: len(category.keypoints)]
            at = [tuple(p) for p in np.rint(16 * (points[:, :2] * factor - 0.5)).astype(int).tolist()]
            for a, b in category.skeleton:
                if points[a, 2] > 0 and points[b, 2] > 0:
                    for ink, width in (((0, 0, 0), wide + 2), (colour, wide)):
                        cv2.line(canvas, at[a], at[b], ink, width, cv2.LINE_AA, 4)
            for place, value in zip(at, points[:, 2], strict=True):
                if value > 0:
                    cv2.circle(canvas, place, 16 * (2 * wide + 1), (0, 0, 0), -1, cv2.LINE_AA, 4)
                    inner = colour if value >= solid else (255, 255, 255)
                    cv2.circle(canvas, place, 16 * 2 * wide, inner, -1, cv2.LINE_AA, 4)

    def _with(self, points: Tensor) -> "Keypoints":
        return dataclasses.replace(self, points=points)


def build() -> type[Keypoints]:
    return Keypoints
