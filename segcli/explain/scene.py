"""One image, the model, and all that the model computed on its way to the prediction: what views draw from."""

import dataclasses
import functools
import math

import cv2
import numpy as np
import torch
from torch import Tensor

from segcli.core.dataset_info import DatasetInfo
from segcli.models.interface import Detections, Model
from segcli.types import Batch, Instances, Prediction

FEW = 8  # objects or queries of which the page has pictures, best first


@dataclasses.dataclass(frozen=True)
class Scene:
    """image: uint8 RGB [H,W,3], the file's own pixels; batch: of this one image, with targets where its labels are
    known; inside: `model.inspect(batch)`; prediction: what it predicts, of the same pass; score: of detections
    that views call found."""

    image: np.ndarray
    model: Model
    batch: Batch
    inside: dict[str, object]
    prediction: Prediction
    info: DatasetInfo
    score: float = 0.5

    @functools.cached_property
    def canvas(self) -> np.ndarray:
        """uint8 RGB [h,w,3]: the image as the model sees it, without padding. Boxes and maps of `inside` lie on it."""
        height, width = self.size
        return cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA)

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the image on the model's canvas, padding left out."""
        return self.batch.sizes[0]

    def content(self, maps: Tensor) -> Tensor:
        """Maps [...,h,w] over the canvas -> the cells that the image covers, at least by a part."""
        height, width = maps.shape[-2:]
        rows, columns = (
            max(1, -(-shown * cells // whole))
            for shown, cells, whole in zip(self.size, (height, width), self.batch.images.shape[2:], strict=True)
        )
        return maps[..., :rows, :columns]

    def covered(self, maps: Tensor) -> tuple[float, float]:
        """(h, w) in canvas pixels of the area that the cells of `content(maps)` cover: a little more than the image."""
        rows, columns = self.content(maps).shape[-2:]
        down, across = (
            self.step(cells, whole) for cells, whole in zip(maps.shape[-2:], self.batch.images.shape[2:], strict=True)
        )
        return rows * down, columns * across

    @staticmethod
    def step(cells: int, whole: int) -> float:
        """Pixels of one of the `cells` of a canvas side: the power of two that strides are, whose last cell may reach
        beyond the canvas."""
        stride = 2.0 ** round(math.log2(whole / cells))
        return stride if -(-whole // stride) == cells else whole / cells

    def tensor(self, key: str) -> Tensor:
        value = self.inside[key]
        assert isinstance(value, Tensor), key
        return value.float().cpu() if value.is_floating_point() else value.cpu()

    def tensors(self, key: str) -> list[Tensor]:
        """The first image's own, of a list with an entry a map."""
        value = self.inside[key]
        assert isinstance(value, list), key
        return [one[0].float().cpu() for one in value]

    def of_image(self, key: str) -> Tensor:
        """The image's entry of a list with one an image."""
        value = self.inside[key]
        assert isinstance(value, list), key
        return value[0].float().cpu()

    @functools.cached_property
    def _places(self) -> Tensor:
        """Which of the prediction's objects each of an R-CNN's detections has become, [n]: the one of its class and
        with its box, since heads may change scores and so the order."""
        value, instances = self.inside["detections"], self.prediction.instances
        assert isinstance(value, list)
        assert instances is not None
        found: Detections = value[0]
        scale = torch.tensor([self.image.shape[1] / self.size[1], self.image.shape[0] / self.size[0]] * 2)
        if not len(found.boxes):
            return torch.zeros(0, dtype=torch.int64)
        away = torch.cdist(found.boxes.cpu() * scale, instances.boxes, p=1)
        return (away + 1e9 * (found.labels.cpu()[:, None] != instances.labels)).argmin(1)

    def detections(self) -> Detections:
        """All of an R-CNN's, in the order of what heads add in `extra`, with the scores that `predict` gives them."""
        value, instances = self.inside["detections"], self.prediction.instances
        assert isinstance(value, list)
        assert instances is not None
        assert instances.scores is not None
        found: Detections = value[0]
        return Detections(found.boxes.cpu(), found.labels.cpu(), instances.scores[self._places], found.extra)

    def shown(self) -> Tensor:
        """The numbers of the `detections` with at least `score`, best first; of the best one if there is none."""
        scores = self.detections().scores
        kept = max(1, int((scores >= self.score).sum()))
        return scores.argsort(descending=True, stable=True)[:kept]

    def objects(self, described: int | None = None) -> list[tuple[int, int, str]]:
        """(number, class, name) of the first FEW that are `shown`; described: of so many detections a head speaks."""
        found, numbers = self.detections(), self.shown().tolist()
        rows = [
            (n, int(found.labels[n]), float(found.scores[n])) for n in numbers if described is None or n < described
        ]
        return [(n, label, f"{k}: {self.name(label, score)}") for k, (n, label, score) in enumerate(rows[:FEW], 1)]

    def predicted(self, detection: int) -> tuple[Instances, int]:
        """The prediction's objects, and which of them a detection has become."""
        assert self.prediction.instances is not None
        return self.prediction.instances, int(self._places[detection])

    def queries(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of a model with queries: (their numbers, best first, [Q]; the score [Q] and the class [Q] of each in that
        order). "No object" is no class."""
        p_QC = self.tensor("class_probabilities")[0]
        scores, labels = (p_QC[:, :-1] if self.inside["no_object"] else p_QC).max(-1)
        order = scores.argsort(descending=True, stable=True)
        return order, scores[order], labels[order]

    def sure(self, most: int = FEW) -> tuple[Tensor, Tensor, Tensor]:
        """Those of `queries` with at least `score`, at most so many; the best one where there is none."""
        order, scores, labels = self.queries()
        count = min(most, max(1, int((scores >= self.score).sum())))
        return order[:count], scores[:count], labels[:count]

    def query_names(self, queries: Tensor, scores: Tensor, labels: Tensor) -> list[str]:
        rows = zip(queries.tolist(), labels.tolist(), scores.tolist(), strict=True)
        return [f"query {query + 1}: {self.name(label, score)}" for query, label, score in rows]

    def name(self, label: int, score: float | None = None) -> str:
        """A class and, in percent, its score; "no object" above the classes."""
        name = self.info.names[label] if label < len(self.info.names) else "no object"
        return name if score is None else f"{name} {100 * score:.0f} %"
