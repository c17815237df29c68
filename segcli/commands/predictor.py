"""`segcli.load`: a trained model as a function from images to predictions, for scripts and notebooks."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import UsageError
from segcli.core.formatting import count
from segcli.core.recipe.recipe import Recipe
from segcli.data.image import read_image, read_pillow
from segcli.drawing.overlays import draw
from segcli.engine.opening import open_model, prepare_layout
from segcli.engine.run_folder import RunFolder
from segcli.models.interface import Model
from segcli.predictions.coco_results import coco_results
from segcli.types import Batch, Instances, Prediction

if TYPE_CHECKING:
    import pandas

Picture = str | Path | np.ndarray | Image.Image


def load(source: str | Path, weights: str | None = None, *, device: str | None = None) -> "Predictor":
    """A run folder, or a recipe with weights, as a function from images to predictions.

    Raises ModelError where weights are missing or belong to another model.
    """
    opened = open_model(source, weights=weights, device=device)
    pixels = largest = None
    if opened.path:
        known = RunFolder(opened.path).environment()
        pixels, largest = known.get("object_pixels"), known.get("largest_in_input")
    return Predictor(opened.model, opened.recipe, opened.info, object_pixels=pixels, largest_in_input=largest)


@dataclasses.dataclass(repr=False, kw_only=True)
class Result(Prediction):
    """A prediction that knows its image and its classes. picture: what was given to the predictor."""

    picture: Picture
    info: DatasetInfo

    def __repr__(self) -> str:
        height, width = self.size
        if self.panoptic is not None:
            what = count(len(self.panoptic.segments), "segment")
        elif self.instances is not None:
            best = [
                f"{self.info.names[label]} {score:.2f}"
                for label, score in zip(self.instances.labels[:3].tolist(), self._scores()[:3].tolist(), strict=True)
            ]
            more = ", …" if len(self.instances) > len(best) else ""
            what = count(len(self.instances), "object") + (f" ({', '.join(best)}{more})" if best else "")
        else:
            what = "a label map"
        return f"<Prediction: {what} on {width} × {height} pixels>"

    def _scores(self) -> Tensor:
        assert self.instances is not None
        assert self.instances.scores is not None, "predictions have scores"
        return self.instances.scores

    def draw(self, score: float = 0.0) -> Image.Image:
        """The image under what is predicted with at least `score`; a small one is enlarged."""
        return Image.fromarray(draw(_pixels(self.picture, self.info, 0), self, self.info, score=score))

    def to_coco(self) -> list[dict[str, object]]:
        """COCO results: {"image_id", "category_id" (of the source), "score", "bbox" xywh, "segmentation" RLE}, one an
        object. Raises UsageError for a model without objects."""
        self._objects()
        return [dict(entry) for entry in coco_results(self, self.info)]

    def to_dataframe(self) -> "pandas.DataFrame":
        """A row an object: label, score, x1, y1, x2, y2 in pixels (half-open), and with masks their area in pixels.

        Raises UsageError for a model without objects, or where pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise UsageError("a data frame needs pandas", hint="pip install pandas; or .to_coco()") from error
        instances = self._objects()
        table = pandas.DataFrame(instances.boxes.numpy(), columns=["x1", "y1", "x2", "y2"])
        table.insert(0, "label", [self.info.names[label] for label in instances.labels.tolist()])
        table.insert(1, "score", self._scores().numpy())
        if instances.masks is not None:
            table["area"] = [int(instances.mask(i).sum()) for i in range(len(instances))]
        return table

    def _objects(self) -> Instances:
        if self.instances is None:
            raise UsageError("this model predicts maps and no objects", hint=".semantic, .panoptic or .draw()")
        return self.instances


class Predictor:
    """`predictor([image, ...])` -> one Result an image, on its own pixels; `predictor(image)` -> one Result.

    An image is a path, a PIL image or an RGB uint8 array [H,W,3] (not OpenCV's BGR). Attributes: model, recipe, info
    (the classes that labels count in), object_pixels (median √area of the training objects), largest_in_input (the
    √area that nearly all of them had at most in the model's input), both None where not known.
    """

    def __init__(
        self,
        model: Model,
        recipe: Recipe,
        info: DatasetInfo,
        *,
        object_pixels: float | None = None,
        largest_in_input: float | None = None,
    ):
        self.model: Model = prepare_layout(model).eval()
        self.recipe, self.info = recipe, info
        self.object_pixels, self.largest_in_input = object_pixels, largest_in_input
        self.batch_size = recipe.eval.batch_size

    def __repr__(self) -> str:
        classes = ", ".join(self.info.names[:4]) + (", …" if len(self.info.names) > 4 else "")
        return (
            f"<Predictor {self.recipe.name}: {self.recipe.model['name']}, task {self.recipe.task}, classes {classes}>"
        )

    @overload
    def __call__(self, images: Picture, *, score: float = 0.0) -> Result: ...  # type: ignore[overload-overlap]  # str
    @overload
    def __call__(self, images: Sequence[Picture], *, score: float = 0.0) -> list[Result]: ...
    def __call__(self, images: Picture | Sequence[Picture], *, score: float = 0.0) -> Result | list[Result]:
        """Predictions in the order of `images`; image_id is the position. score: objects below it are left out.

        Raises DataError for a file that can't be read, UsageError for an array that is not uint8 [H,W,3].
        """
        if isinstance(images, (str, Path, np.ndarray, Image.Image)):
            return self([images], score=score)[0]
        out: list[Result] = []
        for start in range(0, len(images), self.batch_size):
            given = images[start : start + self.batch_size]
            pixels = [_pixels(picture, self.info, start + i) for i, picture in enumerate(given)]
            tensors = [self.model.preprocess.image(p) for p in pixels]
            ids = list(range(start, start + len(given)))
            found = self.predict(tensors, [(p.shape[0], p.shape[1]) for p in pixels], ids)
            for prediction, picture in zip(found, given, strict=True):
                out.append(Result(**vars(above(prediction, score)), picture=picture, info=self.info))
        return out

    def predict(self, tensors: list[Tensor], sizes: list[tuple[int, int]], image_ids: list[int]) -> list[Prediction]:
        """Preprocessed images [3,h,w] each, their original sizes (H, W) and ids -> predictions on original pixels."""
        images, padding = self.model.preprocess.pad(tensors)
        images = images.contiguous(memory_format=torch.channels_last)
        content = [(t.shape[1], t.shape[2]) for t in tensors]
        with torch.inference_mode():
            return self.model.predict(Batch(images, padding, content, sizes, image_ids).to(self.model.device))


def above(prediction: Prediction, score: float) -> Prediction:
    """The prediction without the objects of a lower score; maps stay as they are."""
    found = prediction.instances
    if found is None or found.scores is None:
        return prediction
    return dataclasses.replace(prediction, instances=found[found.scores >= score])


def _pixels(picture: Picture, info: DatasetInfo, position: int) -> np.ndarray:
    """RGB uint8 [H,W,3] of an image, as a trained model of these classes reads it."""
    if isinstance(picture, Image.Image):
        try:
            return read_pillow(picture, info.value_range)
        except ValueError as error:
            raise UsageError(f"image {position}: {error}") from error
    if not isinstance(picture, np.ndarray):
        return read_image(picture, info.value_range)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        hint = "give the file's path, or what PIL.Image.open gives: both are read as the run's dataset was"
        raise UsageError(f"image {position} is {picture.dtype} {list(picture.shape)}, not RGB uint8 [H,W,3]", hint=hint)
    return picture
