"""Read back what `predictions/coco_results.py` stored, one image at a time."""

from pathlib import Path
from typing import cast

import torch

from segcli.core import trust
from segcli.core.coco_json import PanopticEntry, Result
from segcli.core.errors import DataError, ModelError
from segcli.core.files import read_json, resolve
from segcli.core.tasks import TASKS
from segcli.data import views
from segcli.data.annotations import FAR, encode_all, panoptic_entries
from segcli.data.dataset import Dataset
from segcli.predictions.coco_results import map_names
from segcli.types import Instances, Origin, Prediction

AGAIN = "segcli eval RUN writes it again"


class StoredPredictions:
    """The predictions stored at `path` (predictions/val.json and its neighbours) for the images of `dataset`.

    Detections are held as they are in the file, maps are read when asked for. Raises DataError where a file is
    missing, truncated, of another format, or about other images or classes.
    """

    def __init__(self, path: Path, dataset: Dataset):
        self.path, self.dataset = path, dataset
        self.labels = {source: label for label, source in enumerate(dataset.info.source_ids)}
        self.results: dict[int, list[Result]] | None = None
        self.segments: dict[int, PanopticEntry] = {}
        self.maps = map_names(dataset.file_names)
        self.task = TASKS[dataset.task]
        if self.task.panoptic:
            self.segments = self._load_panoptic(path.with_name(f"{path.stem}_panoptic.json"))
        elif self.task.objects:
            self.results = self._load_results()

    def read(self, i: int) -> Prediction:
        """The prediction for image i of the dataset, on its own pixels."""
        image_id, size = self.dataset.image_ids[i], self.dataset.sizes[i]
        if self.results is not None:
            try:
                return Prediction(image_id, size, self._instances(self.results[image_id], size, image_id))
            except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RuntimeError) as error:
                why = f"there is no {error}" if isinstance(error, KeyError) else str(error)
                message = f"{self.path}: image {image_id}: not COCO results ({why:.200})"
                raise DataError(message, hint=AGAIN) from error
        if self.task.panoptic:
            entry = self.segments[image_id]
            file = self._map("panoptic", entry["file_name"])
            found = views.read_panoptic(file, entry["segments_info"], size, self.labels)
            return Prediction(image_id, size, panoptic=found)
        file = self._map("semantic", self.maps[i])
        return Prediction(image_id, size, semantic=views.read_semantic(file, size, len(self.labels)))

    def _map(self, kind: str, name: object) -> Path:
        """A stored map. Raises ModelError where its name, or a link, leads out of the folder of predictions."""
        folder = self.path.with_name(f"{self.path.stem}_{kind}")
        trusted = trust.everything()
        return resolve(folder, name, str(self.path), within=self.path.parent, error=ModelError, trusted=trusted)

    def _load_results(self) -> dict[int, list[Result]]:
        entries = _load(self.path)
        grouped: dict[int, list[Result]] = {image_id: [] for image_id in self.dataset.image_ids}
        for entry in entries if isinstance(entries, list) else [None]:
            if not isinstance(entry, dict):
                raise DataError(f"{self.path}: not a list of COCO results", hint=AGAIN)
            image_id, category = entry.get("image_id"), entry.get("category_id")
            if type(image_id) is not int or image_id not in grouped:
                raise DataError(f"{self.path}: image {image_id!r:.80} is not in {self.dataset.root}", hint=AGAIN)
            if type(category) is not int or category not in self.labels:
                raise DataError(f"{self.path}: category {category!r:.80} is not in {self.dataset.root}", hint=AGAIN)
            grouped[image_id].append(cast(Result, entry))  # its other keys are read with care
        return grouped

    def _load_panoptic(self, path: Path) -> dict[int, PanopticEntry]:
        try:
            found = panoptic_entries(path)
        except DataError as error:
            raise DataError(str(error), hint=AGAIN) from error
        known = set(self.dataset.image_ids)
        for image_id in found:
            if image_id not in known:
                raise DataError(f"{path}: image {image_id} is not in {self.dataset.root}", hint=AGAIN)
        missing = next((i for i in self.dataset.image_ids if i not in found), None)
        if missing is not None:
            raise DataError(f"{path}: it has nothing for image {missing} of {self.dataset.root}", hint=AGAIN)
        return found

    def _instances(self, entries: list[Result], size: tuple[int, int], image_id: int) -> Instances:
        folder = self.path.with_name(f"{self.path.stem}_files")
        origin = Origin(self.dataset.info, size, folder, f"{self.path}: image {image_id}", trust.everything())
        corners = [(x, y, x + w, y + h) for x, y, w, h in (e["bbox"] for e in entries)]
        for e in entries:
            if not all(type(v) in (int, float) and abs(v) <= FAR * max(*size, 64) for v in (*e["bbox"], e["score"])):
                raise ValueError(f"bbox {e['bbox']!r:.80} and score {e['score']!r:.80}")
        masks = None
        if all("segmentation" in e for e in entries):
            for e in entries:
                if tuple(e["segmentation"]["size"]) != size:
                    raise ValueError(f"a mask of size {e['segmentation']['size']} on an image of {list(size)}")
            masks = encode_all([e["segmentation"] for e in entries], size)
        return Instances(
            boxes=torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor([self.labels[e["category_id"]] for e in entries], dtype=torch.int64),
            scores=torch.tensor([e["score"] for e in entries], dtype=torch.float32),
            masks=masks,
            fields={name: field.read(entries, origin) for name, field in self.dataset.fields.items()},
        )


def _load(path: Path) -> object:
    try:
        return read_json(path)
    except DataError as error:
        raise DataError(str(error), hint=AGAIN) from error
