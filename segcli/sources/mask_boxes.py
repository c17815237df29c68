"""Boxes beside masks that were written as corners x1, y1, x2, y2: the mask says where the object is, not the box."""

from collections.abc import Iterable, Iterator

from pycocotools import mask as coco_mask

from segcli.core.coco_json import Annotation
from segcli.data.annotations import encode
from segcli.data.canonical import Record
from segcli.sources.coordinates import box_of, span_of

NEAR = 2.0  # pixels that a side of a box may be off its mask's


class MaskBoxes:
    """Replaces them in the records that pass through, and counts what it did."""

    def __init__(self) -> None:
        self.replaced = 0

    def read(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records, each annotation whose box fits its mask as corners alone with the mask's own box."""
        for record in records:
            for annotation in record.annotations:
                if (box := _meant(annotation, record.size)) is not None:
                    annotation["bbox"] = [*box]
                    self.replaced += 1
            yield record

    def note(self) -> list[str]:
        """One sentence; nothing where nothing was done."""
        if not self.replaced:
            return []
        return [
            f"{self.replaced:,} boxes fit their masks only as corners x1, y1, x2, y2: they are taken from the masks"
        ]


def _meant(annotation: Annotation, size: tuple[int, int]) -> tuple[float, ...] | None:
    """The box of the mask, where the annotation's own is that in corners and not as COCO has it; else None."""
    box, segmentation = box_of(annotation.get("bbox")), annotation.get("segmentation")
    if box is None or not segmentation or box[2] <= box[0] or box[3] <= box[1]:
        return None
    span = span_of(segmentation)
    if span is None:
        if not isinstance(segmentation, dict):
            return None
        try:
            x, y, w, h = coco_mask.toBbox(encode(segmentation, size)).tolist()
        except (ValueError, TypeError, KeyError, RuntimeError):  # a broken mask, which is named where it is read
            return None
        span = x, y, w, h
    corners = span[0], span[1], span[0] + span[2], span[1] + span[3]
    off = max(abs(a - b) for a, b in zip(box, corners, strict=True))
    here = max(abs(a - b) for a, b in zip(box, span, strict=True))
    return span if off <= NEAR < here else None
