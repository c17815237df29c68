"""Cut images into overlapping tiles, with everything that is labelled on them.

A tile is an image of its own (PNG, exact), named NAME_xX_yY.png after its first column and row. The last tile of a row
or column ends at the image's border, so it overlaps more; an image that fits into one tile stays as it is. Objects are
cut; a remain is dropped where it has less than REMAIN of its object's pixels and less than SPECK of the tile's.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import cast

import numpy as np
from pycocotools import mask as coco_mask

from segcli.core.coco_json import Annotation, SegmentInfo
from segcli.core.errors import DataError, UsageError
from segcli.data.annotations import crop_rle, encode
from segcli.data.canonical import Record, refuse_broken
from segcli.data.decoders import open_image
from segcli.data.image import read_image
from segcli.data.png import encode_png
from segcli.data.value_range import Range
from segcli.fields import moved
from segcli.sources.files import some
from segcli.types import Placed

REMAIN = 0.1
SPECK = 0.01


@dataclasses.dataclass
class Tiling:
    """Tiles of `size` x `size` pixels that overlap by `overlap`; counts what `cut` did.

    Raises UsageError for a size that is no size and an overlap that leaves no step.
    """

    size: int
    overlap: int
    value_range: Range | None = None  # of the dataset's info.json: tiles have 8 bits
    images: int = 0
    tiles: int = 0
    cut_objects: int = 0
    dropped: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        if self.size < 16:
            raise UsageError(f"--tile {self.size}: a tile has at least 16 pixels a side")
        if not 0 <= self.overlap < self.size:
            raise UsageError(f"--overlap {self.overlap}: must be from 0 to {self.size - 1}, less than the tile")

    def cut(self, records: Iterable[Record], declared: set[int]) -> Iterator[Record]:
        """The tiles of every record, in order; `declared`: the source ids of the categories.

        Raises DataError for broken annotations and for images that can't be read.
        """
        for record in records:
            refuse_broken(record, declared)
            self.images += 1
            h, w = record.size
            if h <= self.size and w <= self.size:
                self.tiles += 1
                yield record
                continue
            yield from self._tiles(record)

    def note(self) -> str:
        text = (
            f"{self.images} images cut into {self.tiles} tiles of {self.size} pixels, overlap {self.overlap}; "
            f"{self.cut_objects} pieces are parts of an object"
        )
        if self.dropped:
            text += (
                f"; {len(self.dropped)} remains are dropped (under {REMAIN:.0%} of their object and {SPECK:.0%} of the "
                f"tile): {some(self.dropped)}"
            )
        return text

    def _tiles(self, record: Record) -> Iterator[Record]:
        image = _pixels(record, self.value_range)
        h, w = record.size
        semantic, panoptic = _map(record.semantic), _map(record.panoptic)
        panoptic = None if panoptic is None else panoptic[:, :, :3]  # alpha is no part of an id
        objects = [_Object(annotation, record) for annotation in record.annotations]
        empty = [one.annotation.get("id") for one in objects if not one.area]
        self.dropped += [f"{record.file_name} (annotation {key}, which is empty)" for key in empty]
        pure = PurePosixPath(record.file_name)
        for y in starts(h, self.size, self.overlap):
            for x in starts(w, self.size, self.overlap):
                box = (x, y, min(x + self.size, w), min(y + self.size, h))
                where = np.s_[box[1] : box[3], box[0] : box[2]]
                name = str(pure.with_name(f"{pure.stem}_x{x}_y{y}.png"))
                self.tiles += 1
                yield Record(
                    file_name=name,
                    size=(box[3] - y, box[2] - x),
                    image=encode_png(image[where]),
                    annotations=[piece for one in objects if (piece := self._piece(one, box, name)) is not None],
                    semantic=None if semantic is None else encode_png(semantic[where]),
                    panoptic=None if panoptic is None else encode_png(panoptic[where]),
                    segments=[] if panoptic is None else _segments(panoptic[where], record.segments),
                    extra={**record.extra, "tile_of": record.file_name, "tile": [x, y, box[2] - x, box[3] - y]},
                )

    def _piece(self, one: "_Object", tile: tuple[int, int, int, int], name: str) -> Annotation | None:
        """The part of an object on a tile; None where there is none, or a small remain."""
        x1, y1, x2, y2 = (
            *(max(a, b) for a, b in zip(tile[:2], one.box[:2], strict=True)),
            *(min(a, b) for a, b in zip(tile[2:], one.box[2:], strict=True)),
        )
        if x2 <= x1 or y2 <= y1:
            return None
        tile_w, tile_h = tile[2] - tile[0], tile[3] - tile[1]
        annotation = one.annotation.copy()
        annotation.pop("id", None)
        annotation.pop("segmentation", None)
        if one.mask is None:
            area = (x2 - x1) * (y2 - y1)
            box = [x1 - tile[0], y1 - tile[1], x2 - x1, y2 - y1]
        else:
            left, top = int(one.box[0]), int(one.box[1])
            part = np.zeros((tile_h, tile_w), np.uint8, order="F")
            x1, y1, x2, y2 = int(x1), int(y1), int(x2), int(y2)
            part[y1 - tile[1] : y2 - tile[1], x1 - tile[0] : x2 - tile[0]] = one.mask[
                y1 - top : y2 - top, x1 - left : x2 - left
            ]
            area = int(np.count_nonzero(part))
            if not area:
                return None
            rle = coco_mask.encode(part)
            box = [int(v) for v in coco_mask.toBbox(rle)]
            annotation["segmentation"] = {"size": [tile_h, tile_w], "counts": rle["counts"].decode("ascii")}
        if area < one.area:
            if area < REMAIN * one.area and area < SPECK * tile_w * tile_h:
                self.dropped.append(f"{name} (annotation {one.annotation.get('id')})")
                return None
            self.cut_objects += 1
        annotation |= {"bbox": box, "area": area}
        placed = Placed((1.0, 1.0), (tile[0], tile[1]), (tile_h, tile_w), box)
        try:
            return cast(Annotation, {**annotation, **moved(one.annotation, placed)})
        except UsageError as error:
            raise UsageError(f"--tile: {name}: {error}") from error
        except ValueError as error:
            raise DataError(f"{name}: annotation {one.annotation.get('id')}: {error}") from error


class _Object:
    """An annotation with its box (x1, y1, x2, y2), its area, and its mask inside the box, None for a box alone."""

    def __init__(self, annotation: Annotation, record: Record):
        self.annotation, self.mask = annotation, None
        h, w = record.size
        if annotation.get("segmentation"):
            try:
                rle = encode(annotation["segmentation"], record.size)
            except ValueError as error:
                raise DataError(f"{record.file_name}: annotation {annotation.get('id')}: {error}") from error
            x, y, bw, bh = (int(v) for v in coco_mask.toBbox(rle))
            self.box: tuple[float, float, float, float] = (x, y, x + bw, y + bh)
            self.mask = crop_rle(rle, x, y, x + bw, y + bh)
            self.area: float = int(coco_mask.area(rle))
        else:
            left, top, width, height = annotation["bbox"]
            self.box = (max(left, 0), max(top, 0), min(left + width, w), min(top + height, h))
            self.area = max(self.box[2] - self.box[0], 0) * max(self.box[3] - self.box[1], 0)


def starts(length: int, size: int, overlap: int) -> list[int]:
    """First rows or columns of the tiles that cover `length` pixels."""
    if length <= size:
        return [0]
    return [*range(0, length - size, size - overlap), length - size]


def _segments(rgb: np.ndarray, segments: list[SegmentInfo]) -> list[SegmentInfo]:
    """COCO's segments_info of what is on a tile of a panoptic map [h,w,3]."""
    ids = rgb.astype(np.int32) @ np.array([1, 256, 65536], np.int32)
    out: list[SegmentInfo] = []
    for segment in segments:
        rows, columns = np.nonzero(ids == segment["id"])
        if len(rows):
            x, y = int(columns.min()), int(rows.min())
            box = [x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y]
            out.append({**segment, "area": len(rows), "bbox": box})
    return out


def _pixels(record: Record, value_range: Range | None) -> np.ndarray:
    if isinstance(record.image, bytes):
        image = read_image(record.file_name, value_range, record.image)
    else:
        image = read_image(record.image, value_range)
    if image.shape[:2] != record.size:
        (h, w), (ah, aw) = image.shape[:2], record.size
        raise DataError(f"{record.file_name}: the image is {w} x {h}, its annotations say {aw} x {ah}")
    return image


def _map(png: bytes | None) -> np.ndarray | None:
    if png is None:
        return None
    with open_image(png) as image:
        return np.asarray(image)
