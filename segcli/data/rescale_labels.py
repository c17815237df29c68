"""Labels that were made on an image of other sides than the file has: turned as EXIF turns it, or scaled with it."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from pycocotools import mask as coco_mask

from segcli import fields
from segcli.core.coco_json import Annotation, JsonRle, as_json
from segcli.core.errors import DataError, UsageError
from segcli.data import annotations as coco_file
from segcli.data.canonical import Record
from segcli.data.decoders import MOST_PIXELS
from segcli.data.image import SIDEWAYS, exif_turn, read_values, upright
from segcli.data.label_rules import sound
from segcli.data.mask_order import by_rows, overlap
from segcli.ops.resize_labels import resize_masks
from segcli.types import Placed

SHAPE = 0.01  # share by which the sides may be stretched differently where labels were made on a scaled image
MATCH = 0.9  # IoU of the box with the mask that says how an RLE of exchanged sides is meant
UNKNOWN = (0, 0)  # the size of a record whose annotation file gives none

Point = Callable[[float, float], tuple[float, float]]
Move = Callable[[np.ndarray], np.ndarray]


def fitted(record: Record, say: Callable[[str, str], None], on_file: Mapping[bool, bool]) -> Record | None:
    """The record with labels on its image's pixels: turned where EXIF turns the image, scaled where it was scaled.

    on_file: whether labels of other images whose recorded size is wrong lie on the pixels of the file as they are, by
    whether the two sides are exchanged. say: takes code and action. None where the image can't be used: `say` gets why.
    """
    assert isinstance(record.image, Path)
    if not os.path.isfile(record.image):
        say("image_missing", f"left out, with {len(record.annotations)} annotations: {record.image} is missing")
        return None
    try:
        h, w = read_values(record.image).shape[:2]
    except DataError as error:
        why = str(error).removeprefix(f"{record.image}: ")  # the repair names the image
        say("image_unreadable", f"left out, with {len(record.annotations)} annotations: {why}")
        return None
    old = record.size
    if old == UNKNOWN:
        say("bad_image_record", f"width and height read from the image: {w} x {h}")
        return dataclasses.replace(record, size=(h, w))
    if (h, w) == old:
        return record
    turn = exif_turn(record.image)
    mapped = record.semantic is not None or record.panoptic is not None
    turned = turn in SIDEWAYS and (w, h) == old
    exchanged = (w, h) == old
    if not turned and not mapped and on_file.get(exchanged):
        what = "width and height were exchanged" if exchanged else f"recorded as {old[1]} x {old[0]}"
        say("image_size", f"{what}: the image is {w} x {h}, and the labels lie on that")
        return dataclasses.replace(record, size=(h, w))
    if mapped or not (turned or abs(h / old[0] / (w / old[1]) - 1) <= SHAPE):
        say("image_size", f"left out: the image is {w} x {h}, labelled as {old[1]} x {old[0]}")
        return None
    action = f"labels turned as EXIF turns the image ({turn})" if turned else f"labels scaled to {w} x {h}"
    say("exif_rotated" if turned else "image_size", f"{len(record.annotations)} {action}")
    point = _turn_point(turn, old) if turned else lambda x, y: (x * w / old[1], y * h / old[0])
    move = (lambda m: upright(m, turn)) if turned else lambda m: _scaled(m, (h, w))
    scale = 1.0 if turned else h * w / (old[0] * old[1])
    moved = [_moved(a, old, point, move, scale) for a in record.annotations]
    others = [_others(a) for a in record.annotations]
    if turned and (lost := next((name for names in others for name in names), None)):
        say("image_size", f"left out: its {lost} can't be turned as EXIF turns the image")
        return None
    if any(others):
        sides = (w / old[1], h / old[0])
        placed = [Placed(sides, (0, 0), (h, w), after.get("bbox", ())) for after in moved]
        rest = [{**annotation, "keypoints": None} for annotation in record.annotations]  # these are moved
        triples = zip(rest, moved, placed, strict=True)
        try:
            moved = [cast(Annotation, {**after, **fields.moved(before, where)}) for before, after, where in triples]
        except (UsageError, ValueError) as error:
            say("image_size", f"left out: {error}")
            return None
    return dataclasses.replace(record, size=(h, w), annotations=moved)


def _others(annotation: Annotation) -> set[str]:
    """The fields of an annotation beside keypoints."""
    return fields.labelled_in(annotation).keys() - {"keypoints"}


def _turn_point(turn: int, size: tuple[int, int]) -> Point:
    """x, y as stored -> as displayed, for the EXIF orientations that exchange the sides; `size` (h, w) as stored."""
    h, w = size
    return {
        5: lambda x, y: (y, x),
        6: lambda x, y: (h - y, x),
        7: lambda x, y: (h - y, w - x),
        8: lambda x, y: (y, w - x),
    }[turn]


def _moved(annotation: Annotation, size: tuple[int, int], point: Point, move: Move, scale: float) -> Annotation:
    """An annotation whose points and masks are moved; what is malformed stays, to be judged afterwards."""
    out = annotation.copy()
    box, segmentation, keypoints = out.get("bbox"), out.get("segmentation"), out.get("keypoints")
    if box is not None and sound(out, size, "bbox"):
        (x1, y1), (x2, y2) = point(box[0], box[1]), point(box[0] + box[2], box[1] + box[3])
        out["bbox"] = [min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1)]
    if isinstance(out.get("area"), (int, float)):
        out["area"] = out["area"] * scale
    if segmentation and sound(out, size, "segmentation"):
        if isinstance(segmentation, list):
            pairs = lambda part: [v for x, y in zip(part[::2], part[1::2], strict=True) for v in point(x, y)]
            out["segmentation"] = [pairs(part) for part in segmentation]
        else:
            try:
                mask = coco_mask.decode(coco_file.encode(segmentation, size))
            except ValueError:
                return out
            out["segmentation"] = stored(move(mask))
    if isinstance(keypoints, list) and len(keypoints) % 3 == 0:
        triples = zip(keypoints[::3], keypoints[1::3], keypoints[2::3], strict=True)
        out["keypoints"] = [
            v for x, y, visibility in triples for v in ((*point(x, y), visibility) if visibility else (0, 0, 0))
        ]
    return out


def refitted(annotation: Annotation, size: tuple[int, int]) -> JsonRle | None:
    """An RLE of another size on its image: sides exchanged in the record alone, or scaled; None for neither."""
    segmentation, (h, w) = annotation["segmentation"], size
    old = segmentation.get("size") if isinstance(segmentation, dict) else None
    if isinstance(segmentation, list) or not isinstance(old, list) or len(old) != 2:
        return None
    if not all(isinstance(v, int) and v > 0 for v in old) or old[0] * old[1] > MOST_PIXELS:
        return None
    if old == [w, h] and h != w:
        return _exchanged(annotation, segmentation, size)
    if abs(old[0] / h / (old[1] / w) - 1) > SHAPE or not sound(
        {"segmentation": segmentation}, (old[0], old[1]), "segmentation"
    ):
        return None
    try:
        mask = coco_mask.decode(coco_file.encode(segmentation, (old[0], old[1])))
    except ValueError:
        return None
    return stored(_scaled(mask, (h, w)))


def _scaled(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H,W] of 0 and 1 -> bool [h,w], what lies on half of a pixel or more."""
    return resize_masks(torch.from_numpy(mask).bool()[None], size, "area")[0].numpy()


def _exchanged(annotation: Annotation, segmentation: JsonRle, size: tuple[int, int]) -> JsonRle | None:
    """An RLE whose two sides are exchanged, in the record alone or with rows and columns; None where the box confirms
    neither, or there is none."""
    swapped: JsonRle = {**segmentation, "size": [*size]}
    box = annotation.get("bbox") if sound(annotation, size, "bbox") else None
    if box is None or not sound({"segmentation": swapped}, size, "segmentation"):
        return None
    try:
        rle = coco_file.encode(swapped, size)
    except ValueError:
        return None
    if overlap(coco_mask.toBbox(rle), box) >= MATCH:
        return swapped
    along = by_rows(rle)  # down the columns of the exchanged sides is along the rows of the image
    return as_json(along) if overlap(coco_mask.toBbox(along), box) >= MATCH else None


def stored(mask: np.ndarray) -> JsonRle:
    """uint8 or bool [h,w] -> RLE as a json holds it."""
    return as_json(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))))
