"""SA-1B, and what is written like it: a json beside each image, with one `image` and its `annotations`.

Annotations are COCO's (RLE, box, area) without a category; all are of one. What they have besides (predicted_iou,
stability_score, point_coords, crop_box) stays. Source: https://github.com/facebookresearch/segment-anything, "Dataset".
"""

import itertools
from functools import partial
from pathlib import Path
from typing import cast

import pydantic

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import Category
from segcli.core.errors import DataError
from segcli.core.files import parsed, read_json
from segcli.data.annotations import LARGEST_ID
from segcli.data.canonical import Draft, Record
from segcli.sources.draft import Entry, draft, each
from segcli.sources.files import LOOK, find_files, has_keys, note_bare, note_names, split_of
from segcli.sources.images import by_last_parts, is_there, refuse_outside, size_of

ABOUT = {"source": "https://ai.meta.com/datasets/segment-anything"}


class Image(pydantic.BaseModel):
    image_id: int = pydantic.Field(ge=0, le=LARGEST_ID)
    width: pydantic.PositiveInt
    height: pydantic.PositiveInt
    file_name: str = pydantic.Field(min_length=1)


class File(pydantic.BaseModel):
    image: Image
    annotations: list[dict[str, object]]


def detect(path: Path) -> bool:
    """Whether `path` is such a json, or one of the first in the folder is."""
    return any(_is_one(file) for file in itertools.islice(find_files(path, ".json"), LOOK))


def build(*, path: Path, category: str = "object", trusted: bool = False) -> Draft:
    """Read every such json below `path`. category: what the objects are. trusted: file names may lead anywhere.

    Raises DataError where there is none, and for one that is broken.
    """
    notes: list[str] = []
    found: list[tuple[str, Path, tuple[Path, Image]]] = []
    aside = []
    root = path if path.is_dir() else path.parent
    for file in find_files(path, ".json"):
        content = read_json(file)
        if not isinstance(content, dict) or not {"image", "annotations"} & content.keys():
            aside.append(file.name)
            continue
        image = parsed(File, content, file).image
        places = [file.parent / image.file_name] if trusted else []
        places += by_last_parts(image.file_name, [file.parent, root])
        found.append((split_of(file, path), next((p for p in places if is_there(p)), places[-1]), (file, image)))
    note_names(notes, aside, "json files have no image with annotations and are left aside")
    note_bare(notes, path, [image for _, image, _ in found])
    read = partial(_record, trusted=trusted)
    return draft(path, found, [Category(category, 1)], lambda entries: each(entries, read), notes, about=ABOUT)


def _is_one(file: Path) -> bool:
    own = has_keys(file, "image", "image_id", "file_name", "annotations")
    return own and not any(has_keys(file, key) for key in ("images", "categories"))


def _record(entry: Entry[tuple[Path, Image]], trusted: bool) -> Record:
    file, image = entry.label
    refuse_outside(image.file_name, entry.path, file, trusted)
    annotations: list[Annotation] = []
    for one in parsed(File, read_json(file), file).annotations:
        if one.get("category_id", 1) != 1:
            raise DataError(f"{file}: annotation {one.get('id')!r:.80} has a category, and nothing says what that is")
        annotations.append(cast(Annotation, {"iscrowd": 0, **one, "category_id": 1}))
    size = size_of(entry.path, (image.height, image.width), file)
    return Record(entry.file_name, size, entry.path, annotations, id=image.image_id)
