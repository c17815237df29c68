"""The images on which models disagree most, as data for the report: the picture, the labels and every prediction."""

import base64
import itertools
import statistics
from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import cv2
import numpy as np
import torch
from pycocotools import mask as coco_mask

from segcli.compare.row import Row
from segcli.compare.solids import Solid, solids
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, SegcliError
from segcli.data import views
from segcli.data.dataset import Dataset
from segcli.data.fingerprint import changes
from segcli.drawing.colours import class_colours
from segcli.engine.run_folder import RunFolder
from segcli.fields import field
from segcli.metrics.image_quality import image_quality
from segcli.predictions.shown_score import scores_of, shown_score
from segcli.predictions.store import StoredPredictions
from segcli.types import Instances, Prediction, Target, ignore_label

LOOK_AT = 400  # images compared at most, evenly spaced over the split
SIDE = 800  # pixels of the longest side of a picture in the report
QUALITY = 82  # of its JPEG
STORED_SCORE = 0.1  # detections below are left out of the report, unless those of a lower score are drawn
Shown = Target | Prediction


class Shape(TypedDict):
    """An object of a picture, on its pixels. box: x1, y1, x2, y2; path: its mask's outline as SVG, "" without one."""

    label: int
    score: float | None
    box: list[float]
    path: str


class Panel(TypedDict):
    """row: the position of the run among the group's rows, or the kind of the labels. solids: meshes to turn about."""

    row: int | str
    objects: list[Shape]
    solids: list[Solid]


class Picture(TypedDict):
    """jpeg: base64; labels come first among the panels."""

    disagreement: float
    name: str
    width: int
    height: int
    jpeg: str
    panels: list[Panel]


class Pictures(TypedDict):
    """classes: name and RGB colour of each; runs: how many; looked_at: images compared, `of` those that all have;
    score: the least score of detections that are drawn at first, see `shown_score`."""

    classes: list[dict[str, object]]
    runs: int
    looked_at: int
    of: int
    score: float
    images: list[Picture]


class Run(NamedTuple):
    """A run whose predictions are read. row: its position in the group; at: image id -> position in `dataset`."""

    row: int
    dataset: Dataset
    stored: StoredPredictions
    at: dict[int, int]

    def predicted(self, image_id: int) -> Prediction:
        """Raises _Unreadable."""
        try:
            return self.stored.read(self.at[image_id])
        except DataError as error:
            raise _Unreadable(self.row, error) from error


class _Unreadable(Exception):
    """(position of a row, why): a run's predictions can't be read, and the others are shown without it."""


def most_disagreed(rows: Sequence[Row], count: int = 12) -> tuple[Pictures | None, list[str]]:
    """The `count` images of a group's data on which its runs disagree most, and notes on what could not be shown.

    Disagreement: 1 - the mean quality of one model's prediction judged by another's, over all pairs (`image_quality`:
    matched IoUs of the detections that are drawn; mIoU where one of the two is a semantic map). With one run, it is
    judged by the labels. None without readable predictions.
    """
    runs: dict[int, Run] = {}
    notes: list[str] = []
    for position, row in enumerate(rows):
        if row.source == "run":
            try:
                dataset, stored = open_run(row)
                runs[position] = Run(position, dataset, stored, {key: i for i, key in enumerate(dataset.image_ids)})
            except SegcliError as error:
                notes.append(f"{row.name}: not among the pictures: {error}")
    while runs:
        try:
            return _worst(list(runs.values()), count, notes), notes
        except _Unreadable as error:
            position, why = error.args
            notes.append(f"{rows[position].name}: not among the pictures: {why}")
            del runs[position]
        except DataError as error:
            notes.append(f"no pictures: {error}")
            break
    return None, notes


def _worst(runs: Sequence[Run], count: int, notes: list[str]) -> Pictures:
    """Raises _Unreadable, and DataError where the labels can't be read; pictures that can't be are noted."""
    first = runs[0].dataset
    common = [image_id for image_id in first.image_ids if all(image_id in run.at for run in runs)]
    chosen = common[:: -(-len(common) // LOOK_AT)] if common else []
    labels = lambda image_id: first.encoded_target(runs[0].at[image_id])
    said = [score for image_id in chosen for run in runs for score in scores_of(run.predicted(image_id))]
    score = shown_score(said, sum(len(labels(image_id).instances) for image_id in chosen) * len(runs))
    scored: list[tuple[float, int]] = []
    for image_id in chosen:  # read again: label maps of all would fill the memory
        predictions = [run.predicted(image_id) for run in runs]
        scored.append((disagreement(predictions, labels(image_id), first.info, score), image_id))
    scored.sort(key=lambda pair: (-pair[0], pair[1]))
    images = []
    for value, image_id in scored[:count]:
        try:
            images.append(_picture(round(value, 4), image_id, runs, min(STORED_SCORE, score)))
        except DataError as error:
            notes.append(f"a picture is missing: {error}")
    colours = zip(first.info.names, class_colours(first.info), strict=True)
    return Pictures(
        classes=[{"name": name, "colour": list(colour)} for name, colour in colours],
        runs=len(runs),
        looked_at=len(chosen),
        of=len(common),
        score=score,
        images=images,
    )


def disagreement(predictions: Sequence[Prediction], target: Target, info: DatasetInfo, score: float) -> float:
    """0 (all alike) to 1: see `most_disagreed`. A pair of boxes without masks and a semantic map does not count.

    score: detections below count as not made.
    """
    if len(predictions) == 1:
        return 1 - image_quality(predictions[0], target, info, score=score)
    values = [_agreement(a, b, info, score) for a, b in itertools.combinations(predictions, 2)]
    known = [value for value in values if value is not None]
    return 1 - statistics.fmean(known) if known else 0.0


def _agreement(a: Prediction, b: Prediction, info: DatasetInfo, score: float) -> float | None:
    """The quality of `a` where `b` is taken for the labels."""
    if _kind(a) != _kind(b):
        maps = [_semantic(p, ignore_label(len(info.names)), score) for p in (a, b)]
        if maps[0] is None or maps[1] is None:
            return None
        a, b = (Prediction(p.image_id, p.size, semantic=m) for p, m in zip((a, b), maps, strict=True))
    return image_quality(a, _as_target(b, info, score), info, score=score)


def _kind(prediction: Prediction) -> str:
    if prediction.panoptic is not None:
        return "panoptic"
    return "semantic" if prediction.semantic is not None else "instances"


def _as_target(prediction: Prediction, info: DatasetInfo, score: float) -> Target:
    found = prediction.instances if prediction.instances is not None else Instances.empty()
    if found.scores is not None:
        found = found[found.scores >= score]
    semantic = None if prediction.semantic is None else torch.from_numpy(prediction.semantic.astype(np.int64))
    ignore = ignore_label(len(info.names))
    return Target(prediction.image_id, prediction.size, found, semantic, prediction.panoptic, ignore)


def _semantic(prediction: Prediction, ignore: int, score: float) -> np.ndarray | None:
    """A semantic map of any prediction, the best-scored object on top; None of boxes without masks."""
    if prediction.semantic is not None:
        return prediction.semantic
    if prediction.panoptic is not None:
        return views.semantic_from_panoptic(prediction.panoptic, ignore)
    found = prediction.instances
    if found is None or (found.masks is None and len(found)):
        return None
    if found.scores is not None:
        order = found.scores.argsort()
        found = found[order[found.scores[order] >= score]]
    return views.semantic_from_instances(found, prediction.size, ignore)


def open_run(row: Row) -> tuple[Dataset, StoredPredictions]:
    """A run's dataset and what it predicted for it. Raises SegcliError where either can't be read."""
    folder = RunFolder(row.path or "")
    recipe = folder.recipe()
    names = recipe.resolve(recipe.data.split_file) if recipe.data.split_file else None
    shown = (
        {"mesh": field("mesh")} if "mesh" in DatasetInfo.load(recipe.data.root).fields else {}
    )  # of fields, the 3D view's
    dataset = Dataset(recipe.data.root, row.split, split_file=names, task=recipe.task, fields=shown)
    if row.fingerprint and changes(row.fingerprint, dataset.root, dataset.info):
        raise DataError(f"{dataset.root} is not the data that it was trained on")
    return dataset, StoredPredictions(folder.path / "predictions" / f"{row.split}.json", dataset)


def _picture(value: float, image_id: int, runs: Sequence[Run], least: float) -> Picture:
    first = runs[0].dataset
    image = first.image(runs[0].at[image_id])
    factor = min(1.0, SIDE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if factor < 1 else image
    _, jpeg = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    labels: dict[str, Panel] = {}  # once for each kind of prediction
    predicted: list[Panel] = []
    for run in runs:
        prediction, ignore = run.stored.read(run.at[image_id]), run.dataset.ignore
        kind = _kind(prediction)
        if kind not in labels:
            target = run.dataset.encoded_target(run.at[image_id])
            labels[kind] = Panel(
                row=kind, objects=_objects(target, kind, factor, ignore, least), solids=solids(target, least)
            )
        objects = _objects(prediction, kind, factor, ignore, least)
        predicted.append(Panel(row=run.row, objects=objects, solids=solids(prediction, least)))
    return Picture(
        disagreement=value,
        name=first.file_names[runs[0].at[image_id]],
        width=size[0],
        height=size[1],
        jpeg=base64.b64encode(jpeg.tobytes()).decode("ascii"),
        panels=[*labels.values(), *predicted],
    )


def _objects(look: Shown, kind: str, factor: float, ignore: int, least: float) -> list[Shape]:
    if kind == "semantic" and look.semantic is not None:
        labels = np.asarray(look.semantic)
        return [_region(labels == k, int(k), factor) for k in np.unique(labels).tolist() if k != ignore]
    if kind == "panoptic" and look.panoptic is not None:
        segments = look.panoptic.segments
        return [_region(look.panoptic.ids == s.id, s.label, factor, s.score) for s in segments]
    found = look.instances if look.instances is not None else Instances.empty()
    out = []
    for n in range(len(found)):
        score = None if found.scores is None else round(float(found.scores[n]), 3)
        if score is not None and score < least:
            continue
        box = [round(v * factor, 1) for v in found.boxes[n].tolist()]
        path = "" if found.masks is None else _outline(found.mask(n), factor)
        out.append(Shape(label=int(found.labels[n]), score=score, box=box, path=path))
    return out


def _region(mask: np.ndarray, label: int, factor: float, score: float | None = None) -> Shape:
    x, y, w, h = coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))).tolist()
    box = [round(v * factor, 1) for v in (x, y, x + w, y + h)]
    return Shape(label=label, score=score, box=box, path=_outline(mask, factor))


def _outline(mask: np.ndarray, factor: float) -> str:
    """A bool mask [H,W] as an SVG path (to be filled by the even-odd rule), its corners thinned to what can be seen."""
    fine = 2  # contours run through the middle of pixels: enlarged, they come closer to their borders
    pixels = np.repeat(np.repeat(np.pad(mask.astype(np.uint8), 1), fine, 0), fine, 1)
    contours, _ = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    out = []
    for contour in contours:
        points = cv2.approxPolyDP(contour, 0.8 * fine / factor if factor < 1 else 1.0, True)[:, 0, :]
        if len(points) > 2:
            places = ((points + 0.5) / fine - 1) * factor
            out.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places.tolist()) + "Z")
    return "".join(out)
