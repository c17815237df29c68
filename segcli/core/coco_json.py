"""The types of COCO's json, as files have it and as it is handed around; the format: https://cocodataset.org/#format-data

Files may lack a key, or have more keys, which are kept. Nothing here is checked by itself: what was not refused by
`data/annotations.py` is read as `Mapping[str, object]`, value by value.
"""

from collections.abc import Sequence
from typing import TypedDict

Size = tuple[int, int]  # (height, width) in pixels


class Rle(TypedDict):
    """A compressed run-length encoding in memory, as pycocotools takes and gives it. size: [height, width]."""

    size: list[int]
    counts: bytes


class JsonRle(TypedDict):
    """A run-length encoding in a file: compressed as text, or plain run lengths. size: [height, width]."""

    size: list[int]
    counts: str | list[int]


Polygons = list[list[float]]  # the parts of one object, each x, y, x, y, …
Segmentation = Polygons | JsonRle


class Annotation(TypedDict, total=False):
    """One object. id: None for one that has none yet; category_id: the dataset's own; bbox: x, y, width, height in
    pixels; keypoints: x, y, visibility times K; score: of a predicted label; segment_id: the object's id in the
    panoptic map; source: the mask picture that it was read from; visible, extent: of synthetic shapes, see
    `sources/synthetic/shapes.py`; difficult, truncated, occluded: flags of Pascal VOC, 0 or 1."""

    id: int | None
    image_id: int
    category_id: int
    bbox: Sequence[float]
    segmentation: Segmentation
    area: float
    iscrowd: int
    keypoints: Sequence[float]
    num_keypoints: int
    score: float
    segment_id: int
    source: str
    visible: float
    extent: float
    difficult: int
    truncated: int
    occluded: int


class ImageEntry(TypedDict, total=False):
    """One image. file_name: its path below the image folder; label_map: see `data/canonical.py`."""

    id: int
    file_name: str
    width: int
    height: int
    label_map: str


class CategoryEntry(TypedDict, total=False):
    """One class. isthing: 1 or 0; color: RGB, 0 to 255; skeleton: pairs of keypoints, counted from 1."""

    id: int
    name: str
    supercategory: str
    isthing: int
    color: list[int]
    keypoints: list[str]
    skeleton: list[list[int]]


class SegmentInfo(TypedDict, total=False):
    """One region of a panoptic map. id: its pixels' R + 256 G + 65536 B."""

    id: int
    category_id: int
    area: float
    bbox: Sequence[float]
    iscrowd: int


class PanopticEntry(TypedDict, total=False):
    """The panoptic map of one image. file_name: its PNG's."""

    image_id: int
    file_name: str
    segments_info: list[SegmentInfo]


class Result(TypedDict, total=False):
    """One detection. bbox: x, y, width, height; keypoints: x, y, confidence times K."""

    image_id: int
    category_id: int
    score: float
    bbox: Sequence[float]
    segmentation: JsonRle
    keypoints: Sequence[float]


class CocoFile(TypedDict, total=False):
    """A file of annotations."""

    info: dict[str, object]
    licenses: list[dict[str, object]]
    images: list[ImageEntry]
    annotations: list[Annotation]
    categories: list[CategoryEntry]


class PanopticFile(TypedDict, total=False):
    """A file of panoptic annotations."""

    images: list[ImageEntry]
    annotations: list[PanopticEntry]
    categories: list[CategoryEntry]


def as_json(rle: Rle) -> JsonRle:
    """An RLE as JSON can hold it."""
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
