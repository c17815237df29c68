"""`segcli predict`: a model on files and folders. Decoding, the forward pass, and drawing and writing overlap."""

import dataclasses
import itertools
import json
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

import numpy as np
from torch import Tensor
from tqdm import tqdm

from segcli.commands.predictor import Predictor, above
from segcli.core import folders
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, UsageError
from segcli.core.files import read_json, remove_parts
from segcli.core.plugins import nearest
from segcli.data.image import dark_values, read_image
from segcli.data.inputs import find_images, output_names, passed_over
from segcli.drawing.overlays import draw
from segcli.engine.object_size import too_small
from segcli.predictions.coco_results import (
    JsonStream,
    coco_annotation,
    coco_categories,
    coco_results,
    label_map,
    write_image,
    write_png,
)
from segcli.sources.unread import note_files
from segcli.types import Prediction

SAVE = ("overlay", "coco", "png")
READERS, WRITERS = 2, 2  # threads; OpenCV and pycocotools release the interpreter while they work
LARGEST_JPEG = 65000  # pixels a side; beyond, overlays are PNG


class Meaning(TypedDict, total=False):
    """What a number in a mask file means; label maps have no scores."""

    label: str
    score: float


Legend = dict[str, Meaning]  # by number


@dataclasses.dataclass
class PredictReport:
    """images: how many were predicted; failed: (file, reason) of those that could not be read; detections: objects or
    segments with enough score; seconds: in all; dark: (file, least value, highest value) of those of more than 8 bits
    that the model saw nearly black, since its dataset recorded no range of values; shrunk: (file, pixels) of those in
    which an object of the training set's median size has fewer than 16 pixels left; left: a sentence on the files of
    the given folders and patterns that are no images, if there are any."""

    images: int
    failed: list[tuple[Path, str]]
    detections: int
    seconds: float
    dark: list[tuple[Path, float, float]] = dataclasses.field(default_factory=list)
    shrunk: list[tuple[Path, float]] = dataclasses.field(default_factory=list)
    left: str | None = None


@dataclasses.dataclass
class _Read:
    """One image on its way: what the reader threads make of a file."""

    position: int
    image: np.ndarray
    tensor: Tensor
    dark: tuple[float, float] | None


def predict_files(
    predictor: Predictor,
    inputs: Iterable[str | Path],
    out: str | Path,
    *,
    score: float = 0.5,
    save: Sequence[str] = SAVE,
    progress: bool = True,
) -> PredictReport:
    """Predict files, folders and patterns (see data/inputs.py) and write below `out`, NAME being the file's stem:

    - overlay: overlays/NAME.jpg, to be looked at (small images enlarged; .png beyond 65,000 pixels a side);
    - coco: predictions.json, which pycocotools.COCO opens, with "annotations" (COCO results with ids and areas: RLE
      masks, source category ids), "images" (id, file_name as given, output = NAME, height, width) and "categories";
    - png: masks/NAME.png, where the model gives masks: 16-bit object numbers, 0 = none, better ones on top; for
      the semantic task labels, of 8 bits for up to 254 classes, of 16 for more; and masks/legend.json: NAME.png ->
      number -> {"label", "score"}.

    Only detections with at least `score` are kept. A file that can't be read is reported and skipped; memory does not
    grow with the number of images. Raises DataError, before any work, where an input names nothing, and where a file
    that would be written is an input, or is there and not of an earlier call.
    """
    begun = time.perf_counter()
    out = Path(out)
    refuse(out, save)
    inputs = list(inputs)
    files = find_images(inputs)
    names = output_names(files)
    folders.claim(out, _outputs(names, save), files, lambda: _of_before(out))
    remove_parts(out, out / "masks", out / "overlays")
    report = PredictReport(0, [], 0, 0.0, left=note_files(map(str, passed_over(inputs, files))))
    images: list[dict[str, object]] = []
    writing: deque[tuple[int, Prediction, Future[Legend | None]]] = deque()
    bar = tqdm(total=len(files), desc="predicting", unit="image", disable=not progress, file=sys.stderr)
    coco = JsonStream(out / "predictions.json", '{"annotations": [', needed="coco" in save)
    legend = JsonStream(out / "masks" / "legend.json", "{", "}", needed=False)

    def finish(limit: int) -> None:
        """Take images from the writers, in order, until at most `limit` are under way there."""
        while len(writing) > limit:
            position, prediction, job = writing.popleft()
            meaning = job.result()
            if meaning is not None:
                legend.add(meaning, f"{names[position]}.png")
            if "coco" in save:
                height, width = prediction.size
                file_name, output = str(files[position]), names[position]
                images.append(
                    {"id": position + 1, "file_name": file_name, "output": output, "height": height, "width": width}
                )
                for entry in coco_results(prediction, predictor.info) if prediction.instances is not None else []:
                    coco.add(coco_annotation(entry, coco.count + 1))
            report.images += 1
            report.detections += _count(prediction)
            bar.update(report.images + len(report.failed) - bar.n)

    # the threads end first, then the files are closed, or discarded after an error
    with bar, coco, legend, ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(WRITERS) as writers:
        for ready in _batches(predictor, files, readers, report.failed):
            sizes = [(r.image.shape[0], r.image.shape[1]) for r in ready]
            found = predictor.predict([r.tensor for r in ready], sizes, [r.position + 1 for r in ready])
            for item, prediction in zip(ready, found, strict=True):
                kept, name = above(prediction, score), names[item.position]
                if item.dark is not None:
                    report.dark.append((files[item.position], *item.dark))
                resized = (item.tensor.shape[1], item.tensor.shape[2])
                left = too_small(predictor.object_pixels, prediction.size, resized)
                if left is not None:
                    report.shrunk.append((files[item.position], left))
                job = writers.submit(_write, kept, item.image, predictor.info, out, name, save)
                writing.append((item.position, kept, job))
            finish(2 * WRITERS)
        finish(0)
        coco.tail = '],\n"images": ' + json.dumps(images, ensure_ascii=False)
        coco.tail += ',\n"categories": ' + json.dumps(coco_categories(predictor.info), ensure_ascii=False) + "}"
    folders.note_written(out)
    report.seconds = time.perf_counter() - begun
    return report


def refuse(out: Path, save: Sequence[str]) -> None:
    """Raise UsageError for a kind of file that is not written, and for a folder that is a run's or a dataset's."""
    for choice in save:
        if choice not in SAVE:
            raise UsageError(f"--save {choice} is unknown", hint=nearest(choice, list(SAVE)))
    for name, kind in (("recipe.yaml", "a run folder"), ("info.json", "a prepared dataset")):
        if (out / name).is_file():
            raise UsageError(f"{out} is {kind}: predictions would lie among its files", hint="choose another --out")


def is_finished(out: Path) -> bool:
    """Whether an earlier call has ended there; one that was interrupted goes on with the same command."""
    return folders.is_written(out) or (out / "predictions.json").is_file()


def _of_before(out: Path) -> list[str]:
    """What an earlier call wrote that noted nothing (on another machine, say): what its predictions.json speaks of."""
    try:
        found = read_json(out / "predictions.json")
        names = [str(image["output"]) for image in found["images"] if found["annotations"] is not None]
    except (DataError, KeyError, TypeError):
        return []
    return _outputs(names, SAVE)


def _outputs(names: Sequence[str], save: Sequence[str]) -> list[str]:
    """The files that `predict_files` may write below its folder."""
    out = ["predictions.json"] if "coco" in save else []
    if "overlay" in save:  # which of the two, an image's size decides
        out += [f"overlays/{name}{suffix}" for name in names for suffix in (".jpg", ".png")]
    return out + (["masks/legend.json", *(f"masks/{name}.png" for name in names)] if "png" in save else [])


def _batches(
    predictor: Predictor, files: list[Path], readers: ThreadPoolExecutor, failed: list[tuple[Path, str]]
) -> Iterator[list[_Read]]:
    """Images read ahead, a few at a time and in order; what can't be read goes to `failed`."""
    upcoming = iter(enumerate(files))
    reading: deque[Future[_Read]] = deque()
    ready: list[_Read] = []
    done = 0
    while True:
        for position, file in itertools.islice(upcoming, predictor.batch_size + READERS - len(reading)):
            reading.append(readers.submit(_read, predictor, file, position))
        if not reading:
            break
        try:
            ready.append(reading.popleft().result())
        except DataError as error:
            failed.append((files[done], str(error)))
        done += 1
        if len(ready) == predictor.batch_size:
            yield ready
            ready = []
    if ready:
        yield ready


def _read(predictor: Predictor, file: Path, position: int) -> _Read:
    given = predictor.info.value_range
    image = read_image(file, given)
    dark = dark_values(file, image) if given is None else None
    return _Read(position, image, predictor.model.preprocess.image(image), dark)


def _write(
    prediction: Prediction, image: np.ndarray, info: DatasetInfo, out: Path, name: str, save: Sequence[str]
) -> Legend | None:
    """One image's pictures. -> its legend, where a mask file was written."""
    if "overlay" in save:
        suffix = ".jpg" if max(image.shape[:2]) <= LARGEST_JPEG else ".png"
        write_image(out / "overlays" / (name + suffix), draw(image, prediction, info))
    numbered = number_masks(prediction, info) if "png" in save else None
    if numbered is None:
        return None
    pixels, meaning = numbered
    write_png(out / "masks" / f"{name}.png", pixels)
    return meaning


def number_masks(prediction: Prediction, info: DatasetInfo) -> tuple[np.ndarray, Legend] | None:
    """One number a pixel [H,W] and what each number means; None where a prediction has neither masks nor a map.

    Instances: uint16, their position + 1, better ones over worse ones. Panoptic: uint16, segment ids. Semantic: labels.
    """
    if prediction.panoptic is not None:
        segments = prediction.panoptic.segments
        meaning = {str(s.id): Meaning(label=info.names[s.label], score=round(s.score, 4)) for s in segments}
        return prediction.panoptic.ids.astype(np.uint16), meaning
    if prediction.semantic is not None:
        present = np.unique(prediction.semantic).tolist()
        return label_map(prediction.semantic, len(info.names)), {
            str(v): Meaning(label=info.names[v]) for v in present if v < len(info.names)
        }
    found = prediction.instances
    if found is None or found.masks is None:
        return None
    assert found.scores is not None
    pixels = np.zeros(prediction.size, np.uint16)
    for i in reversed(range(len(found))):
        pixels[found.mask(i)] = i + 1
    entries = zip(found.labels.tolist(), found.scores.tolist(), strict=True)
    return pixels, {str(i): Meaning(label=info.names[v], score=round(s, 4)) for i, (v, s) in enumerate(entries, 1)}


def _count(prediction: Prediction) -> int:
    if prediction.panoptic is not None:
        return len(prediction.panoptic.segments)
    return 0 if prediction.instances is None else len(prediction.instances)
