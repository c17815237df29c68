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
from segcli.types import Batch, Instances, Prediction, Target

FEW = 8  # objects or queries of which the page has pictures, best first


@dataclasses.dataclass(frozen=True)
class Scene:
    """image: uint8 RGB [H,W,3], the file's own pixels; batch: of this one image, with targets where its labels are
    known; inside: `model.inspect(batch)`; prediction: `model.predict(batch)`; score: of detections that views call
    found."""

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

    def detections(self) -> Detections:
        """An R-CNN's, best first: those with at least `score` or, if there is none, the best one. What heads add in
        `extra` is of all detections."""
        value = self.inside["detections"]
        assert isinstance(value, list)
        found: Detections = value[0]
        kept = max(1, int((found.scores >= self.score).sum()))
        return Detections(found.boxes[:kept].cpu(), found.labels[:kept].cpu(), found.scores[:kept].cpu(), found.extra)

    def objects(self) -> list[tuple[int, int, str]]:
        """(number, class, name) of the first FEW of `detections`."""
        found = self.detections()
        rows = zip(found.labels[:FEW].tolist(), found.scores.tolist(), strict=False)
        return [(n, label, f"{n + 1}: {self.name(label, score)}") for n, (label, score) in enumerate(rows)]

    def predicted(self, detection: int) -> tuple[Instances, int]:
        """The prediction's objects, and which of them a detection has become: the one with its box, since heads may
        change scores and so the order."""
        instances = self.prediction.instances
        assert instances is not None
        scale = torch.tensor([self.image.shape[1] / self.size[1], self.image.shape[0] / self.size[0]] * 2)
        box = self.detections().boxes[detection] * scale
        return instances, int((instances.boxes - box).abs().sum(1).argmin())

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


def batch_of(model: Model, pixels: np.ndarray, target: Target | None = None) -> Batch:
    """One image, uint8 RGB, as the model takes it, with its labels where they are given."""
    preprocess = model.preprocess
    tensor = preprocess.image(pixels)
    images, padding = preprocess.pad([tensor])
    size, content = (pixels.shape[0], pixels.shape[1]), (tensor.shape[1], tensor.shape[2])
    targets = None if target is None else [preprocess.target(target)]
    images = images.contiguous(memory_format=torch.channels_last)
    image_id = 0 if target is None else target.image_id
    return Batch(images, padding, [content], [size], [image_id], targets, [0]).to(model.device)
