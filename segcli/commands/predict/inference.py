"""The model on every image: batches of whole images, or one image at a time in tiles."""

import dataclasses
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from segcli.commands.predict.reading import READERS, Read, batches, read
from segcli.commands.predict.tiles import predict_tiles, whole_view
from segcli.commands.predict.views import both_views
from segcli.commands.predictor import Predictor, above
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError
from segcli.engine.object_size import enlargement, too_large, too_small
from segcli.sources.tile import Tiling
from segcli.types import Panoptic, Prediction, ignore_label


@dataclasses.dataclass
class How:
    """score: detections below it are left out. labels: those of the wanted classes; None: of all. tiling: of images
    larger than a tile; None: all are predicted whole. tta: also look at the mirror image."""

    score: float
    labels: list[int] | None = None
    tiling: Tiling | None = None
    tta: bool = False

    def keep(self, prediction: Prediction, info: DatasetInfo) -> Prediction:
        """What is wanted of a prediction: a label map has nothing (the ignored label) elsewhere."""
        if prediction.instances is not None:
            prediction = above(prediction, self.score)
        if self.labels is None:
            return prediction
        objects, semantic, panoptic = prediction.instances, prediction.semantic, prediction.panoptic
        if objects is not None:
            objects = objects[torch.isin(objects.labels, objects.labels.new_tensor(self.labels))]
        if semantic is not None:
            semantic = np.where(np.isin(semantic, self.labels), semantic, ignore_label(len(info.names)))
        if panoptic is not None:
            segments = [s for s in panoptic.segments if s.label in self.labels]
            panoptic = Panoptic(np.where(np.isin(panoptic.ids, [s.id for s in segments]), panoptic.ids, 0), segments)
        return dataclasses.replace(prediction, instances=objects, semantic=semantic, panoptic=panoptic)


def predict_each(
    predictor: Predictor, files: Iterable[tuple[int, Path]], failed: list[tuple[Path, str]], how: How
) -> Iterator[tuple[Read, Prediction, float | None]]:
    """(image, prediction, pixels that an object of the usual size has left where that is few) of all `files`
    (position, path), in order; what can't be read goes to `failed`. Image ids are positions + 1."""
    if how.tiling is not None:
        yield from _in_tiles(predictor, files, failed, how.tiling, how)
        return
    with ThreadPoolExecutor(READERS) as readers:
        for ready in batches(predictor, files, readers, failed):
            tensors = [one.tensor() for one in ready]
            sizes, ids = [one.size for one in ready], [one.position + 1 for one in ready]
            found = _predict(predictor, tensors, sizes, ids, how.tta)
            for one, tensor, prediction in zip(ready, tensors, found, strict=True):
                resized = (tensor.shape[1], tensor.shape[2])
                yield one, how.keep(prediction, predictor.info), too_small(predictor.object_pixels, one.size, resized)


def predict_images(predictor: Predictor, images: list[np.ndarray], how: How) -> list[Prediction]:
    """What is wanted of RGB uint8 images [H,W,3] that are in memory, each as a whole."""
    tensors = [predictor.model.preprocess.image(image) for image in images]
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    found = _predict(predictor, tensors, sizes, [0] * len(images), how.tta)
    return [how.keep(one, predictor.info) for one in found]


def _predict(
    predictor: Predictor, tensors: list[Tensor], sizes: list[tuple[int, int]], ids: list[int], tta: bool
) -> list[Prediction]:
    found = predictor.predict(tensors, sizes, ids)
    if not tta:
        return found
    mirrored = predictor.predict([tensor.flip(-1) for tensor in tensors], sizes, ids)
    return [both_views(one, other) for one, other in zip(found, mirrored, strict=True)]


def _in_tiles(
    predictor: Predictor,
    files: Iterable[tuple[int, Path]],
    failed: list[tuple[Path, str]],
    tiling: Tiling,
    how: How,
) -> Iterator[tuple[Read, Prediction, float | None]]:
    """One at a time: two large images may not fit into memory."""
    preprocess = predictor.model.preprocess

    def infer(images: list[np.ndarray]) -> list[Prediction]:
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        tensors = [preprocess.image(image) for image in images]
        return _predict(predictor, tensors, sizes, [0] * len(images), how.tta)

    for position, file in files:
        try:
            one = read(predictor, file, position)
        except DataError as error:
            failed.append((file, str(error)))
            continue
        tile = min(tiling.size, one.size[0]), min(tiling.size, one.size[1])
        prediction = predict_tiles(
            one.image,
            infer,
            tiling,
            predictor.info,
            position + 1,
            how.score,
            batch=predictor.batch_size,
            too_large=too_large(
                predictor.largest_in_input,
                enlargement(tile, preprocess.output_size(*tile)),
                enlargement(one.size, preprocess.output_size(*whole_view(one.size))),
            ),
        )
        yield (
            one,
            how.keep(prediction, predictor.info),
            too_small(predictor.object_pixels, tile, preprocess.output_size(*tile)),
        )
