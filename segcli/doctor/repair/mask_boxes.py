"""Boxes beside masks that were written as corners x1, y1, x2, y2: the mask says where the object is, not the box.

`prepare` mends these without being asked, and says how many they were; so they are no fault that `--check` lists.
"""

from collections.abc import Iterable, Iterator, Sequence

from pycocotools import mask as coco_mask

from segcli.core.coco_json import JsonRle, Segmentation
from segcli.data.annotations import encode_all
from segcli.data.canonical import Record
from segcli.sources.coordinates import box_of, span_of

NEAR = 2.0  # pixels that a side of a box may be off its mask's
Box = tuple[float, float, float, float]  # x, y, width, height


class MaskBoxes:
    """Replaces them in the records that pass through, and counts what it did."""

    def __init__(self) -> None:
        self.replaced = 0

    def read(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records; an annotation whose box fits its mask as corners alone gets the mask's own box."""
        for record in records:
            boxes = [(a, box_of(a.get("bbox"))) for a in record.annotations]
            possible = [(a, box) for a, box in boxes if box is not None and box[0] < box[2] and box[1] < box[3]]
            tight = _mask_boxes([a.get("segmentation") for a, _ in possible], record.size)
            for (annotation, box), own in zip(possible, tight, strict=True):
                if own is not None and _is_corners(box, own):
                    annotation["bbox"] = [*own]
                    self.replaced += 1
            yield record

    def note(self) -> list[str]:
        """One sentence; nothing where nothing was done."""
        if not self.replaced:
            return []
        return [
            f"{self.replaced:,} boxes fit their masks only as corners x1, y1, x2, y2: they are taken from the masks"
        ]


def _is_corners(box: Box, tight: Box) -> bool:
    """Whether `box` is the mask's box `tight` in corners, and not as COCO has it."""
    corners = tight[0], tight[1], tight[0] + tight[2], tight[1] + tight[3]
    off, here = (max(abs(a - b) for a, b in zip(box, other, strict=True)) for other in (corners, tight))
    return off <= NEAR < here


def _mask_boxes(segmentations: Sequence[Segmentation | None], size: tuple[int, int]) -> list[Box | None]:
    """The box of each mask; None without one, or where it is broken: that is named where it is read."""
    rles = [s for s in segmentations if isinstance(s, dict)]
    boxes = iter(_rle_boxes(rles, size))
    return [next(boxes) if isinstance(s, dict) else span_of(s) for s in segmentations]


def _rle_boxes(rles: Sequence[JsonRle], size: tuple[int, int]) -> list[Box | None]:
    if not rles:
        return []
    try:
        tight = coco_mask.toBbox(encode_all(rles, size)).tolist()  # together: one by one takes many times as long
    except (ValueError, TypeError, KeyError, RuntimeError, OverflowError):
        return [None] if len(rles) == 1 else [box for rle in rles for box in _rle_boxes([rle], size)]
    return [(x, y, w, h) for x, y, w, h in tight]
