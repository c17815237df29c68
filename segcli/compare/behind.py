"""What lies behind a run's scores, for the report: confusion matrix, precision and recall, kinds of error,
calibration, AP by size and by crowding, and the objects behind each cell of the matrix."""

import base64
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from segcli.compare.disagreement import LOOK_AT, open_run
from segcli.compare.row import Row
from segcli.core.errors import SegcliError
from segcli.core.run_files import Behind, read_diagnostics
from segcli.core.tasks import MATCHED
from segcli.data.dataset import Dataset
from segcli.metrics.errors import ERRORS, SEEN
from segcli.metrics.instance import InstanceScores
from segcli.predictions.store import StoredPredictions
from segcli.types import Instances, Prediction, Target

CELLS, EACH = 60, 4  # cells of a matrix that have pictures, those with most objects, and how many each
SIDE = 150  # pixels of the longer side of a picture
OVERLAP = 0.5  # IoU from which a detection is an object's
Json = dict[str, Any]
Cell = tuple[int, int]  # labelled and predicted class; the number of classes stands for none


@dataclasses.dataclass
class Example:
    """weight: by which the examples of a cell are ordered. labelled, predicted: boxes xyxy in pixels of the image."""

    image: int
    weight: float
    labelled: list[float] | None
    predicted: list[float] | None


def behind(row: Row) -> tuple[Json | None, list[str]]:
    """(what lies behind the scores of a run, None where nothing is stored; notes on what could not be shown)."""
    stored = read_diagnostics(Path(row.path or ""), row.split)
    if stored is None or "classes" not in stored:
        return None, []
    if "tide" in stored and not stored.get("kinds"):
        return None, [f"{row.name}: what lies behind its scores was not counted: segcli eval {row.path} does it"]
    kinds = stored.get("kinds") or {"semantic": Behind(confusion=stored.get("confusion"))}
    shown: Json = {
        "classes": stored["classes"],
        "kinds": [{"key": key, "title": MATCHED.get(key, "pixels"), **one} for key, one in kinds.items()],
        "errors": ERRORS,
        "sizes": _sizes(row, list(kinds)),
        "crowding": [],
        "examples": {},
    }
    try:
        dataset, predictions = open_run(row)
        if "semantic" not in kinds:
            shown["crowding"] = _crowding(dataset, predictions, list(kinds)[-1])
        shown["examples"], shown["looked_at"] = _examples(dataset, predictions, len(stored["classes"]) - 1)
    except SegcliError as error:
        return shown, [f"{row.name}: without the images behind its scores: {error}"]
    return shown, []


def _sizes(row: Row, kinds: list[str]) -> list[list[object]]:
    """[what, AP of small, medium and large objects] of each kind."""
    named = [(MATCHED.get(kind, kind), [row.metrics.get(f"{kind}_AP{size}") for size in "sml"]) for kind in kinds]
    return [[f"{title} AP", *values] for title, values in named if any(value is not None for value in values)]


def _crowding(dataset: Dataset, predictions: StoredPredictions, kind: str) -> list[list[object]]:
    """[objects an image, images, AP] of images with few, some and many objects: thirds of those with any."""
    chosen = range(0, len(dataset), -(-len(dataset) // LOOK_AT))
    counts = {i: len(dataset.encoded_target(i).instances) for i in chosen}
    known = [n for n in counts.values() if n]
    if not known:
        return []
    edges = sorted({0, *(int(v) for v in np.quantile(known, (1 / 3, 2 / 3))), max(known)})
    rows: list[list[object]] = []
    for low, high in itertools.pairwise(edges):
        own = [i for i, n in counts.items() if low < n <= high]
        scores = InstanceScores(dataset.info, (kind,))
        for i in own:
            target, annotations = dataset.annotated_target(i)
            scores.update([predictions.read(i)], [target], [annotations])
        name = f"{low + 1} to {high}" if low + 1 < high else f"{high}"
        rows.append([name, len(own), scores.compute().get(f"{kind}_AP")])
    return rows


def _examples(dataset: Dataset, predictions: StoredPredictions, classes: int) -> tuple[Json, int]:
    """({"labelled,predicted": [[picture, file, text], ...]}, images looked at)."""
    chosen = range(0, len(dataset), -(-len(dataset) // LOOK_AT))
    cells: dict[Cell, list[Example]] = {}
    counts: dict[Cell, float] = {}
    for i in chosen:
        target, prediction = dataset.encoded_target(i), predictions.read(i)
        pairs = _pixels if prediction.semantic is not None else _objects
        for cell, example in pairs(i, target, prediction, classes):
            counts[cell] = counts.get(cell, 0) + example.weight
            kept = cells.setdefault(cell, [])
            kept.append(example)
            kept.sort(key=lambda one: -one.weight)
            del kept[EACH:]
    order = sorted(cells, key=lambda cell: (cell[0] == cell[1], -counts[cell]))[:CELLS]
    by_image: dict[int, list[tuple[Cell, Example]]] = {}
    for cell in order:
        for example in cells[cell]:
            by_image.setdefault(example.image, []).append((cell, example))
    out: Json = {}
    for i, wanted in by_image.items():  # each image is read once
        image = dataset.image(i)
        for (row, column), example in wanted:
            out.setdefault(f"{row},{column}", []).append([_picture(image, example), dataset.file_names[i]])
    return out, len(chosen)


def _objects(image: int, target: Target, prediction: Prediction, classes: int) -> Iterator[tuple[Cell, Example]]:
    """Detections with a score of SEEN or more and the objects that they are matched with, best first, whatever their
    class; then those without a partner."""
    truth = target.instances
    found = prediction.instances if prediction.instances is not None else Instances.empty()
    if found.scores is not None:
        order = found.scores.argsort(descending=True, stable=True)
        found = found[order[found.scores[order] >= SEEN]]
    overlap = _overlaps(found, truth)
    crowd = np.zeros(len(truth), bool) if truth.crowd is None else truth.crowd.numpy()
    free = ~crowd
    for n in range(len(found)):  # best first
        score = 1.0 if found.scores is None else float(found.scores[n])
        box, label = found.boxes[n].tolist(), int(found.labels[n])
        row = np.where(free, overlap[n], 0) if len(truth) else np.zeros(0)
        if len(row) and row.max() >= OVERLAP:
            best = int(row.argmax())
            free[best] = False
            yield (int(truth.labels[best]), label), Example(image, score, truth.boxes[best].tolist(), box)
        elif not (crowd.any() and overlap[n][crowd].max() >= OVERLAP):
            yield (classes, label), Example(image, score, None, box)
    for n in np.flatnonzero(free).tolist():
        yield (int(truth.labels[n]), classes), Example(image, 1.0, truth.boxes[n].tolist(), None)


def _overlaps(found: Instances, truth: Instances) -> np.ndarray:
    """IoU [found, truth] of masks where both have them, else of boxes; with a crowd region the share of the detection
    that lies in it, as COCO has it."""
    if not len(found) or not len(truth):
        return np.zeros((len(found), len(truth)))
    crowd = [0] * len(truth) if truth.crowd is None else truth.crowd.int().tolist()
    if found.masks is not None and truth.masks is not None:
        return np.asarray(coco_mask.iou(found.rles(), truth.rles(), crowd))
    sides = [one.boxes.double().numpy().copy() for one in (found, truth)]
    for box in sides:
        box[:, 2:] -= box[:, :2]
    return np.asarray(coco_mask.iou(*sides, crowd))


def _pixels(image: int, target: Target, prediction: Prediction, classes: int) -> Iterator[tuple[Cell, Example]]:
    """Every pair of labelled and predicted class of a map, around the largest region of such pixels."""
    assert prediction.semantic is not None
    if target.semantic is None:
        return
    truth, answer = target.semantic.numpy(), prediction.semantic.astype(np.int64)
    known = (truth < classes) & (answer < classes)
    pairs, counts = np.unique(truth[known] * classes + answer[known], return_counts=True)
    for pair, pixels in zip(pairs.tolist(), counts.tolist(), strict=True):
        row, column = divmod(pair, classes)
        region = ((truth == row) & (answer == column)).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(region)
        x, y, w, h, _ = stats[1:][stats[1:, 4].argmax()].tolist()
        yield (row, column), Example(image, float(pixels), None, [x, y, x + w, y + h])


def _picture(image: np.ndarray, example: Example) -> str:
    """The place of an example: what is labelled in white, what is predicted in orange; JPEG, base64."""
    boxes = [np.array(box) for box in (example.labelled, example.predicted) if box is not None]
    low, high = np.min([b[:2] for b in boxes], 0), np.max([b[2:] for b in boxes], 0)
    margin = 0.25 * max(*(high - low), 16)
    left, top = np.maximum(low - margin, 0).astype(int).tolist()
    right, bottom = np.minimum(high + margin + 1, image.shape[1::-1]).astype(int).tolist()
    part = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    factor = SIDE / max(part.shape[:2])
    size = max(1, round(part.shape[1] * factor)), max(1, round(part.shape[0] * factor))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    for box, colour in ((example.labelled, (255, 255, 255)), (example.predicted, (255, 140, 0))):
        if box is not None:
            x1, y1, x2, y2 = np.rint((np.array(box) - [left, top, left, top]) * factor).astype(int).tolist()
            cv2.rectangle(small, (x1, y1), (x2, y2), (0, 0, 0), 3)
            cv2.rectangle(small, (x1, y1), (x2, y2), colour, 1)
    _, jpeg = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 78])
    return base64.b64encode(jpeg.tobytes()).decode("ascii")
