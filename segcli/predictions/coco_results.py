"""Predictions on disk, in COCO's formats, written as they come and never all in memory.

- `NAME.json`: COCO results, one object a detection: image_id, category_id (the dataset's source id, as in its
  annotation files), bbox [x, y, width, height], score, and segmentation as compressed RLE. Mind that pycocotools sorts
  masks into size ranges by the box's area where a result has a bbox too: leave bbox out when scoring masks with it.
- `NAME_panoptic.json` + `NAME_panoptic/*.png`: COCO panoptic format (id = R + 256 G + 65536 B, 0 = void).
- `NAME_files/*`: what fields store of an image (meshes, DensePose maps); entries name them.
- `NAME_semantic/*.png`: labels as in the dataset's own maps, 255 = none (above 254 classes 65535).
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO, cast

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from segcli.core import trust
from segcli.core.coco_json import Result
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import SegcliError
from segcli.core.files import part_beside, resolve, why_not_written, write_atomic
from segcli.data import canonical
from segcli.data.png import encode_png
from segcli.types import Panoptic, Prediction, Store, Written, label_type


class JsonStream:
    """A JSON file that is written entry by entry: `head`, then one list (or one object), then `tail`.

    It appears whole at the end of `with`, or not at all after an exception; and not without entries, unless `needed`.
    """

    def __init__(self, path: Path, head: str = "[", tail: str = "]", *, needed: bool = True):
        self.path, self.head, self.tail, self.needed = path, head, tail, needed
        self.count = 0
        self.temporary: Path | None = None
        self.file: TextIO | None = None

    def add(self, value: object, key: str | None = None) -> None:
        """Write one entry; with `key` where the container is an object. Raises SegcliError where the disk is full."""
        name = "" if key is None else json.dumps(key, ensure_ascii=False) + ": "
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        with _explained(self.path):
            self._opened().write(("," if self.count else "") + "\n" + name + text)
        self.count += 1

    def _opened(self) -> TextIO:
        if self.file is None:
            self.temporary = part_beside(self.path)
            self.file = open(self.temporary, "w", encoding="utf-8")  # noqa: SIM115  (closed by __exit__)
            self.file.write(self.head)
        return self.file

    def __enter__(self) -> "JsonStream":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None and (self.needed or self.count):
                with _explained(self.path):
                    file = self._opened()
                    assert self.temporary is not None
                    file.write(f"\n{self.tail}\n")
                    file.close()
                    os.chmod(self.temporary, 0o644)
                    os.replace(self.temporary, self.path)
        finally:
            with contextlib.suppress(OSError):  # a full disk again, on what is thrown away
                if self.file is not None:
                    self.file.close()
            with contextlib.suppress(OSError):
                if self.temporary is not None:
                    self.temporary.unlink()


def map_names(file_names: Sequence[str]) -> list[str]:
    """What the PNGs of a split's images are called: the image's name with another suffix, or after its own one where
    two images of the split differ in nothing else."""
    short = [Path(name).with_suffix(".png").as_posix() for name in file_names]
    return short if len(set(short)) == len(short) else [f"{name}.png" for name in file_names]


def read_entries(path: Path) -> Iterator[Result]:
    """The entries of a list that a `JsonStream` has written, one after the other: each is a line of its own."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.strip() not in ("[", "]", ""):
                yield json.loads(line.rstrip().removesuffix(","))


class ResultsWriter:
    """Stores predictions at `path` (say predictions/val.json) and beside it, as far as they hold instances, a panoptic
    and a semantic map. Use as a context manager; nothing is left of the json files when it ends by an exception."""

    def __init__(self, path: Path, info: DatasetInfo):
        self.path, self.info = path, info
        self.files = path.with_name(f"{path.stem}_files")
        self.instances: JsonStream | None = None
        self.panoptic: JsonStream | None = None

    def add(self, prediction: Prediction, file_name: str) -> None:
        """`file_name`: the image's name, or its PNGs' from `map_names`. Raises SegcliError: disk full, ..."""
        if prediction.instances is not None:
            if self.instances is None:
                self.instances = JsonStream(self.path)
            for entry in coco_results(prediction, self.info, self.files):
                self.instances.add(entry)
        if prediction.panoptic is not None:
            self._add_panoptic(prediction, file_name)
        if prediction.semantic is not None:
            name = Path(file_name).with_suffix(".png").as_posix()
            write_png(self._map("semantic", name), label_map(prediction.semantic, len(self.info.categories)))

    def _map(self, kind: str, name: str) -> Path:
        """Where a map is written: beside the json. Raises DataError for a name, or a link, that leads elsewhere."""
        folder = self.path.with_name(f"{self.path.stem}_{kind}")
        return resolve(folder, name, f"{self.path}: a map", within=self.path.parent, trusted=trust.everything())

    def _add_panoptic(self, prediction: Prediction, file_name: str) -> None:
        assert prediction.panoptic is not None
        if self.panoptic is None:
            head = (
                '{"categories": ' + json.dumps(coco_categories(self.info), ensure_ascii=False) + ',\n"annotations": ['
            )
            self.panoptic = JsonStream(self.path.with_name(f"{self.path.stem}_panoptic.json"), head, "]}")
        name = Path(file_name).with_suffix(".png").as_posix()
        write_png(self._map("panoptic", name), panoptic_rgb(prediction.panoptic))
        segments = [
            {"id": s.id, "category_id": self.info.source_ids[s.label], "score": round(s.score, 6)}
            for s in prediction.panoptic.segments
        ]
        self.panoptic.add({"image_id": prediction.image_id, "file_name": name, "segments_info": segments})

    def __enter__(self) -> "ResultsWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for stream in (self.instances, self.panoptic):
            if stream is not None:
                stream.__exit__(kind, error, None)


def coco_categories(info: DatasetInfo) -> list[dict[str, object]]:
    """The classes as COCO declares them, without colours."""
    return [{key: value for key, value in entry.items() if key != "color"} for entry in canonical.coco_categories(info)]


def coco_annotation(result: Result, number: int) -> dict[str, object]:
    """One of `coco_results`' entries as an annotation, which COCO's own library opens: with an id, an area in pixels
    (the mask's, else the box's) and what else it asks of each object. The score stays."""
    mask = result.get("segmentation")
    area = float(coco_mask.area(mask)) if mask is not None else result["bbox"][2] * result["bbox"][3]
    out: dict[str, object] = {"id": number, **result, "area": round(area, 4), "iscrowd": 0}
    if "keypoints" in result:
        out["num_keypoints"] = len(result["keypoints"]) // 3
    return out


def coco_results(prediction: Prediction, info: DatasetInfo, files: Path | None = None) -> list[Result]:
    """One image's detections as COCO results. Numbers are the shortest that give the same float32 again.

    files: the folder of side files. Raises UsageError where a field needs one and there is none."""
    found = prediction.instances
    assert found is not None
    assert found.scores is not None
    boxes = found.boxes.double().cpu().numpy().copy()
    boxes[:, 2:] -= boxes[:, :2]
    scores = found.scores.cpu().numpy().astype(np.float32).astype(str)
    rles = found.rles() if found.masks is not None else None
    out = []
    for i, label in enumerate(found.labels.tolist()):
        entry: Result = {
            "image_id": prediction.image_id,
            "category_id": info.source_ids[label],
            "bbox": [round(v, 4) for v in boxes[i].tolist()],
            "score": float(scores[i]),
        }
        if rles is not None:
            counts = rles[i]["counts"]
            text = counts.decode("ascii") if isinstance(counts, bytes) else counts
            entry["segmentation"] = {"size": [int(v) for v in rles[i]["size"]], "counts": text}
        out.append(entry)
    store = Store(info, prediction.image_id, files)
    for field in found.fields.values():
        if isinstance(field, Written):
            for entry, more in zip(out, field.write(found.labels.tolist(), store), strict=True):
                entry |= cast(Result, more)
    return out


def panoptic_rgb(panoptic: Panoptic) -> np.ndarray:
    """uint8 [H,W,3]: id = R + 256 G + 65536 B."""
    ids = panoptic.ids
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], -1).astype(np.uint8)


def write_image(path: Path, rgb: np.ndarray) -> None:
    """uint8 RGB [H,W,3] as .png or .jpg, by the suffix; JPEG with full colour resolution, so that thin lines stay."""
    if path.suffix.lower() == ".png":
        write_png(path, rgb)
        return
    quality = [cv2.IMWRITE_JPEG_QUALITY, 93, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, data = cv2.imencode(".jpg", rgb[:, :, ::-1], quality)
    if not done:
        raise SegcliError(f"{path}: {rgb.shape[1]} x {rgb.shape[0]} pixels are too many for JPEG", hint="write .png")
    write_bytes(path, data.tobytes())


def label_map(labels: np.ndarray, classes: int) -> np.ndarray:
    """A semantic map as it is stored, of 8 or of 16 bits: all maps of a dataset alike."""
    kind = label_type(classes)
    assert labels.max(initial=0) <= np.iinfo(kind).max, "labels are below the number of classes"
    return labels.astype(kind)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """uint8 or uint16 [H,W], or uint8 RGB [H,W,3], whole or not at all."""
    write_bytes(path, encode_png(pixels))


def write_bytes(path: Path, data: bytes) -> None:
    """A small file under a temporary name, then renamed. Raises SegcliError where it can't be written."""
    write_atomic(path, lambda p: p.write_bytes(data), flush=False)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SegcliError(f"{path}: can't be written: {error.strerror}", hint=why_not_written(error)) from error
