"""Pix3D: photographs of furniture, each with a mask, a 3D model, its pose and the camera's focal length.

SOURCE is the folder that has `pix3d.json` in it, a list of objects with the keys that https://github.com/xingyuansun/pix3d
describes; those read are img, img_size, category, mask, model, rot_mat, trans_mat, focal_length, and the flags
truncated and occluded. Its demo.py says what they mean: a point p of the model lies at rot_mat · p + trans_mat before a
camera with x to the left and y up, and a sensor of 32 mm across the image's width. There are no splits: --split-by FILE
takes the val images of the published ones. Boxes are the masks', voxels are made from the models (meshes/surface.py):
theirs are not read.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, cast

import numpy as np
import pydantic
from pycocotools import mask as coco_mask
from typing_extensions import NotRequired, TypedDict

from segcli.core.coco_json import Annotation, as_json
from segcli.core.dataset_info import Category
from segcli.core.errors import DataError
from segcli.core.files import parsed, read_json, resolve
from segcli.data.canonical import UNDECIDED, Draft, Record
from segcli.data.image import read_values
from segcli.sources.draft import Entry, draft, each
from segcli.sources.files import has_keys
from segcli.sources.images import is_there

FILE = "pix3d.json"
SENSOR = 32.0  # mm, across the width of the image
INTO_CAMERA = np.diag([-1.0, -1.0, 1.0])  # from its camera's frame to that of meshes/raster.py
Three = Annotated[list[float], pydantic.Field(min_length=3, max_length=3)]


class _Entry(TypedDict):
    """One object of pix3d.json."""

    img: str
    category: str
    img_size: tuple[int, int]
    mask: str
    model: str
    rot_mat: Annotated[list[Three], pydantic.Field(min_length=3, max_length=3)]
    trans_mat: Three
    focal_length: Annotated[float, pydantic.Field(gt=0)]
    truncated: NotRequired[bool]
    occluded: NotRequired[bool]


class _Object(NamedTuple):
    """One object; number: its place in pix3d.json."""

    number: int
    entry: _Entry
    mask: Path


def detect(path: Path) -> bool:
    """Whether `path` is a folder with a pix3d.json, or that file."""
    return has_keys(_file(path), "rot_mat", "trans_mat", "focal_length", "img", "mask")


def build(*, path: Path, trusted: bool = False) -> Draft:
    """Read the folder `path`. trusted: names may lead anywhere. Raises DataError for what is no Pix3D."""
    file = _file(path)
    if not file.is_file():
        raise DataError(f"{path}: has no {FILE}")
    entries = parsed(list[_Entry], read_json(file), file)
    root = file.parent
    place = lambda name: resolve(root, name, str(file), trusted=trusted)
    images: dict[str, list[_Object]] = {}
    for number, entry in enumerate(entries):
        images.setdefault(entry["img"], []).append(_Object(number, entry, place(entry["mask"])))
    names = sorted({entry["category"] for entry in entries})
    found = [(UNDECIDED, place(name), objects) for name, objects in images.items()]
    number_of = {name: i + 1 for i, name in enumerate(names)}
    out = draft(
        path,
        found,
        [Category(name, i) for name, i in number_of.items()],
        lambda listed: _records(listed, number_of),
        [],
        about={"citation": "Sun et al.: Pix3D, CVPR 2018", "source": "http://pix3d.csail.mit.edu"},
        measured=True,
    )
    out.info = dataclasses.replace(out.info, declared={"mesh": {}})
    for entry in entries:
        model = place(entry["model"])
        if not is_there(model):
            raise DataError(f"{file}: the model {entry['model']!r:.200} of {entry['img']} is missing")
        out.files[entry["model"]] = model
    return out


def _records(entries: Sequence[Entry[list[_Object]]], number_of: dict[str, int]) -> Iterator[Record]:
    def read(entry: Entry[list[_Object]]) -> Record:
        width, height = entry.label[0].entry["img_size"]
        annotations = [_annotation(one, (height, width), number_of) for one in entry.label]
        return Record(entry.file_name, (height, width), entry.path, annotations)

    yield from each(entries, read)


def _annotation(one: _Object, size: tuple[int, int], number_of: dict[str, int]) -> Annotation:
    values, entry = read_values(one.mask), one.entry
    values = values[..., 0] if values.ndim == 3 else values
    if values.shape != size:
        raise DataError(
            f"{one.mask}: the mask has {values.shape[1]} x {values.shape[0]} pixels, its image {size[1]} x {size[0]}"
        )
    rle = coco_mask.encode(np.asfortranarray((values > 127).astype(np.uint8)))
    focal = entry["focal_length"] / SENSOR * size[1]
    rotation = INTO_CAMERA @ np.array(entry["rot_mat"])
    return cast(
        Annotation,
        {
            "id": one.number + 1,
            "category_id": number_of[entry["category"]],
            "iscrowd": 0,
            "bbox": coco_mask.toBbox(rle).tolist(),
            "area": int(coco_mask.area(rle)),
            "segmentation": as_json(rle),
            "truncated": int(entry.get("truncated", False)),
            "occluded": int(entry.get("occluded", False)),
            "mesh": {
                "file": entry["model"],
                "rotation": rotation.ravel().tolist(),
                "scale": 1.0,
                "shift": (INTO_CAMERA @ np.array(entry["trans_mat"])).tolist(),
                "camera": [focal, focal, size[1] / 2, size[0] / 2],
            },
        },
    )


def _file(path: Path) -> Path:
    return path / FILE if path.is_dir() else path
