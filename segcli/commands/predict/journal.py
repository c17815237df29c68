"""What has been predicted so far, a line an image: an interrupted command goes on from it, and labels and tables are
written from it, so that memory does not grow with the number of images.

A line is written once the pictures of its image are, and read back only where it is whole.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from pycocotools import mask as coco_mask
from typing_extensions import TypedDict  # before Python 3.12, pydantic takes no other

from segcli.core.coco_json import Result, as_json
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, SegcliError
from segcli.core.files import open_regular, parse_json, parsed, why_not_written
from segcli.predictions.coco_results import coco_results
from segcli.types import Prediction, encode_masks

FILE = ".predicting.jsonl"


class Entry(TypedDict):
    """One image. position: among the files of the call; given: what the user called the file (an address); name: of
    what is made of it; stamp: size and time of the file; results: `regions`; listed: whether these are detections,
    which predictions.json lists; count: objects or segments; dark, shrunk: see `PredictReport`."""

    position: int
    file: str
    given: str
    name: str
    stamp: list[int]
    size: tuple[int, int]
    results: list[dict[str, object]]
    listed: bool
    count: int
    legend: dict[str, dict[str, str | float]] | None
    dark: tuple[float, float] | None
    shrunk: float | None


class Journal:
    """The journal of a folder. begin() opens it, add() writes an image, entries() reads all of them in order."""

    def __init__(self, out: Path, settings: Mapping[str, object]):
        self.path = out / FILE
        self.head = json.dumps({"version": 1, **settings}, ensure_ascii=False, sort_keys=True)
        self.places: dict[int, int] = {}  # position -> where its line begins
        self.file: BinaryIO | None = None

    def begin(self, files: Sequence[Path], names: Sequence[str]) -> None:
        """Open it: with what an earlier call of these settings has left of these files, or anew. Raises SegcliError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            end = self._take_over(files, names)
            self.file = open(self.path, "r+b" if end else "w+b")  # noqa: SIM115  (closed by __exit__)
            self.file.seek(end)
            self.file.truncate()
            if not end:
                self.file.write(self.head.encode() + b"\n")
        except OSError as error:
            raise self._refused(error) from error

    def add(self, entry: Entry) -> None:
        """Write one image's line, so that it outlives this process. Raises SegcliError where the disk is full."""
        assert self.file is not None
        try:
            self.file.seek(0, os.SEEK_END)
            self.places[entry["position"]] = self.file.tell()
            self.file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n")
            self.file.flush()
        except OSError as error:
            raise self._refused(error) from error

    def entries(self) -> Iterator[Entry]:
        """All images that were predicted, in the order of the files."""
        assert self.file is not None
        for position in sorted(self.places):
            self.file.seek(self.places[position])
            yield parsed(Entry, parse_json(self.file.readline().decode(), str(self.path)), self.path)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.file is not None:
            try:
                self.file.close()
            except OSError as problem:  # what it still held does not fit on the disk
                if kind is None:
                    raise self._refused(problem) from problem
            if kind is None:
                self.path.unlink(missing_ok=True)

    def _take_over(self, files: Sequence[Path], names: Sequence[str]) -> int:
        """Enter the lines that still hold. -> where the next one is written; 0 where nothing holds."""
        if not self.path.is_file() or self.path.is_symlink():
            return 0
        at = {str(file): i for i, file in enumerate(files)}
        end = 0
        with open(self.path, "rb") as old:
            for line in old:
                if not line.endswith(b"\n"):
                    break  # the process ended while it wrote this one
                if not end:
                    if line.decode(errors="replace").rstrip("\n") != self.head:
                        return 0
                elif (entry := self._held(line)) is not None:
                    i = at.get(entry["file"])
                    if i == entry["position"] and names[i] == entry["name"] and stamp(files[i]) == entry["stamp"]:
                        self.places[i] = end
                end += len(line)
        return end

    def _held(self, line: bytes) -> Entry | None:
        try:
            return parsed(Entry, parse_json(line.decode(errors="replace"), str(self.path)), self.path)
        except DataError:
            return None

    def _refused(self, error: OSError) -> SegcliError:
        return SegcliError(f"{self.path}: can't be written: {error.strerror}", hint=why_not_written(error))


def begun_by(out: Path) -> list[str] | None:
    """The inputs of a call that was interrupted in `out`; None where none was."""
    try:
        with open_regular(out / FILE) as file:
            head = parse_json(file.readline().decode(errors="replace"), str(out / FILE))
    except (OSError, DataError):
        return None
    return head.get("inputs") if isinstance(head, dict) else None


def stamp(file: Path) -> list[int]:
    """The file's size in bytes and its time; [] where it is gone."""
    try:
        facts = file.stat()
    except OSError:
        return []
    return [facts.st_size, facts.st_mtime_ns]


def regions(prediction: Prediction, info: DatasetInfo, files: Path | None = None) -> list[Result]:
    """As COCO results: detections, or of maps the segments, or a region a class (without a score). files: the folder of
    side files."""
    if prediction.panoptic is not None:
        ids = prediction.panoptic.ids
        listed = [(s.label, s.score, ids == s.id) for s in prediction.panoptic.segments]
        return [_region(info.source_ids[label], mask, score) for label, score, mask in listed if mask.any()]
    if prediction.semantic is not None:
        found = prediction.semantic
        present = [label for label in np.unique(found).tolist() if label < len(info.names)]
        return [_region(info.source_ids[label], found == label, None) for label in present]
    return coco_results(prediction, info, files) if prediction.instances is not None else []


def _region(category: int, mask: np.ndarray, score: float | None) -> Result:
    rle = encode_masks(mask[None])[0]
    box = [int(v) for v in coco_mask.toBbox(rle)]
    out: Result = {"category_id": category, "bbox": box, "segmentation": as_json(rle)}
    return out if score is None else {**out, "score": round(score, 4)}
