"""One image predicted tile by tile, and the tiles' predictions joined: memory does not grow with the image's size.

The view of the whole image, as small as the model takes it, comes last: it gives the objects that no tile holds whole,
and those that look larger in tiles than the model knows them.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from pycocotools import mask as coco_mask

from segcli.commands.predict.seams import COVERED, SAME, Piece, Rect, groups_of, is_cut, on_image, place_mask
from segcli.commands.predictor import above
from segcli.core.coco_json import Rle
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import UsageError
from segcli.data.annotations import crop_rle
from segcli.sources.tile import Tiling, starts
from segcli.types import Field, Instances, Origin, Panoptic, Prediction, Segment, Store, Written, label_type, mask_boxes

Infer = Callable[[list[np.ndarray]], list[Prediction]]  # RGB uint8 [H,W,3] each -> predictions on their own pixels
WHOLE = 4096  # pixels of the longest side from which the whole view is made of a smaller copy


@dataclasses.dataclass
class _Object:
    """One object on the whole image. mask: on the whole image; cut: no tile has seen all of it."""

    label: int
    score: float
    box: np.ndarray
    mask: Rle | None
    entry: dict[str, object]
    cut: bool


def predict_tiles(
    image: np.ndarray,
    infer: Infer,
    tiling: Tiling,
    info: DatasetInfo,
    image_id: int,
    score: float,
    batch: int = 1,
    too_large: float = math.inf,
) -> Prediction:
    """The prediction for one RGB uint8 image [H,W,3] of any size; one that fits into a tile is predicted as it is.

    score: detections below it are left out before tiles are joined. batch: tiles at a time. too_large: the √area, in
    pixels, from which objects are taken from the view of the whole image alone. A label map takes each pixel from the
    tile in whose middle it lies. Raises UsageError where objects carry what can't be moved.
    """
    size = (image.shape[0], image.shape[1])
    if max(size) <= tiling.size:
        return dataclasses.replace(above(infer([image])[0], score), image_id=image_id)
    rows, columns = (_homes(side, tiling) for side in size)
    tiles = [((x1, y1, x2, y2), (hx, hy, hx2, hy2)) for y1, y2, hy, hy2 in rows for x1, x2, hx, hx2 in columns]
    joined = _Joined(size, info, too_large)
    for start in range(0, len(tiles), batch):
        part = tiles[start : start + batch]
        found = infer([np.ascontiguousarray(image[y1:y2, x1:x2]) for (x1, y1, x2, y2), _ in part])
        for (tile, home), prediction in zip(part, found, strict=True):
            joined.add(above(prediction, score), tile, home)
    if joined.has_objects:
        joined.whole(above(_small(image, infer), score), size, tiling)
    return joined.finish(image_id)


def _small(image: np.ndarray, infer: Infer) -> Prediction:
    """The prediction for the whole image, or for a smaller copy of it."""
    height, width = whole_view((image.shape[0], image.shape[1]))
    if (height, width) != image.shape[:2]:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return infer([image])[0]


def whole_view(size: tuple[int, int]) -> tuple[int, int]:
    """The size (H, W) of the copy of an image of `size` that is shown to the model as a whole."""
    factor = min(1.0, WHOLE / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _homes(length: int, tiling: Tiling) -> list[tuple[int, int, int, int]]:
    """(first, end) of every tile along a side of the image, and of what is taken from it: up to the middle of the
    overlaps."""
    first = starts(length, tiling.size, tiling.overlap)
    ends = [min(start + tiling.size, length) for start in first]
    middles = [(start + end) // 2 for start, end in zip(first[1:], ends[:-1], strict=True)]
    return [*zip(first, ends, [0, *middles], [*middles, length], strict=True)]


class _Joined:
    """What the tiles of an image of `size` (H, W) have given so far."""

    def __init__(self, size: tuple[int, int], info: DatasetInfo, too_large: float):
        self.size, self.info, self.too_large = size, info, too_large
        self.store = Store(info, 0, None)  # fields that need a file beside can't be joined
        self.has_objects = self.has_masks = False
        self.pieces: list[Piece] = []
        self.fields: dict[str, type[Field]] = {}
        self.semantic: np.ndarray | None = None
        self.ids: np.ndarray | None = None  # of panoptic segments: position in self.pieces + 1
        self.large: list[_Object] = []

    def add(self, prediction: Prediction, tile: Rect, home: Rect) -> None:
        """One tile's prediction. home: the part of the image whose pixels are taken from it."""
        here = np.s_[home[1] : home[3], home[0] : home[2]]
        inner = np.s_[home[1] - tile[1] : home[3] - tile[1], home[0] - tile[0] : home[2] - tile[0]]
        if prediction.panoptic is not None:
            self.ids = np.zeros(self.size, np.int32) if self.ids is None else self.ids
            number = np.zeros(max([s.id for s in prediction.panoptic.segments], default=0) + 1, np.int32)
            for segment in prediction.panoptic.segments:
                mask = prediction.panoptic.ids == segment.id
                if mask.any():
                    self.pieces.append(self._segment(segment, mask, tile))
                    number[segment.id] = len(self.pieces)
            self.ids[here] = number[prediction.panoptic.ids[inner]]
        elif prediction.semantic is not None:
            if self.semantic is None:
                self.semantic = np.zeros(self.size, label_type(len(self.info.names)))
            self.semantic[here] = prediction.semantic[inner]
        else:
            self.has_objects = True
            found = prediction.instances if prediction.instances is not None else Instances.empty()
            self.pieces += [
                Piece(tile, o.label, o.score, o.box, o.mask, o.entry, is_cut(o.box, tile, self.size))
                for o in self._objects(found, tile)
            ]

    def _segment(self, segment: Segment, mask: np.ndarray, tile: Rect) -> Piece:
        box = mask_boxes(mask[None])[0].astype(float) + np.tile(tile[:2], 2)
        rle = place_mask(mask, 0, 0, (mask.shape[0], mask.shape[1]))
        return Piece(tile, segment.label, segment.score, box, rle, {}, is_cut(box, tile, self.size))

    def _objects(self, found: Instances, tile: Rect) -> Iterator[_Object]:
        """Detections of a tile, with boxes and fields on the whole image, masks on the tile."""
        assert found.scores is not None or not len(found)
        self.has_masks |= found.masks is not None
        rles = found.rles() if found.masks is not None else [None] * len(found)
        entries: list[dict[str, object]] = [{} for _ in range(len(found))]
        for name, field in found.fields.items():
            if not isinstance(field, Written):
                raise UsageError(f"--tile: {name} of objects can't be joined over tiles")
            self.fields[name] = type(field)
            moved = cast(Written, field.crop(-tile[0], -tile[1], self.size[1], self.size[0]))
            try:
                written = moved.write(found.labels.tolist(), self.store)
            except UsageError as error:  # it needs a file beside
                raise UsageError(f"--tile: {name} of objects can't be joined over tiles") from error
            for entry, more in zip(entries, written, strict=True):
                entry |= more
        for i, rle in enumerate(rles):
            box = found.boxes[i].double().cpu().numpy() + np.tile(tile[:2], 2)
            assert found.scores is not None
            yield _Object(int(found.labels[i]), float(found.scores[i]), box, rle, entries[i], False)

    def whole(self, prediction: Prediction, size: tuple[int, int], tiling: Tiling) -> None:
        """The prediction for the whole image, or for a smaller copy: its objects that may lie whole in no tile."""
        found = prediction.instances
        if found is None or not len(found):
            return
        (h, w), (sh, sw) = size, prediction.size
        fields = {name: field.scale(w / sw, h / sh) for name, field in found.fields.items()}
        boxes = found.boxes * found.boxes.new_tensor([w / sw, h / sh, w / sw, h / sh])
        found = dataclasses.replace(found, boxes=boxes, fields=fields)
        for one in self._objects(found, (0, 0, w, h)):
            width, height = one.box[2:] - one.box[:2]
            # a mask has at most its box's area; tiles may see one near the limit beyond it, and leave it out
            if max(width, height) > min(tiling.overlap, self.too_large / 2):
                one.mask = None if one.mask is None else _enlarged(one.mask, size)
                self.large.append(one)

    def finish(self, image_id: int) -> Prediction:
        if self.semantic is not None:
            return Prediction(image_id, self.size, semantic=self.semantic)
        if self.ids is not None:
            return Prediction(image_id, self.size, panoptic=self._panoptic(self.ids))
        objects = without_repeats([self._union(group) for group in groups_of(self.pieces)], self.large, self.too_large)
        objects.sort(key=lambda one: -one.score)
        masks = [one.mask for one in objects if one.mask is not None]
        entries = [{**one.entry, "category_id": self.info.source_ids[one.label]} for one in objects]
        origin = Origin(self.info, self.size, Path(), "tiles")
        found = Instances(
            torch.tensor(np.array([one.box for one in objects]).reshape(-1, 4), dtype=torch.float32),
            torch.tensor([one.label for one in objects], dtype=torch.int64),
            torch.tensor([one.score for one in objects], dtype=torch.float32),
            masks=masks if self.has_masks else None,
            fields={name: kind.read(entries, origin) for name, kind in self.fields.items()},
        )
        return Prediction(image_id, self.size, found)

    def _union(self, group: list[int]) -> _Object:
        parts = [self.pieces[i] for i in group]
        best = max(parts, key=lambda piece: (not piece.cut, piece.score))
        boxes = np.array([piece.box for piece in parts])
        box = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
        mask = None
        if all(piece.mask is not None for piece in parts):
            masks = [on_image(piece, self.size) for piece in parts]
            mask = masks[0] if len(masks) == 1 else coco_mask.merge(masks)
        cut = all(piece.cut for piece in parts)
        return _Object(best.label, max(piece.score for piece in parts), box, mask, best.entry, cut)

    def _panoptic(self, ids: np.ndarray) -> Panoptic:
        """One segment for the pieces of one thing, and for every stuff class; those without a pixel are dropped."""
        things = [i for i, piece in enumerate(self.pieces) if piece.label < self.info.num_things]
        groups = [[things[k] for k in group] for group in groups_of([self.pieces[i] for i in things])]
        stuff: dict[int, list[int]] = {}
        for i, piece in enumerate(self.pieces):
            if piece.label >= self.info.num_things:
                stuff.setdefault(piece.label, []).append(i)
        used = np.zeros(len(self.pieces) + 1, bool)
        for row in ids:
            used[row] = True
        number = np.zeros(len(self.pieces) + 1, np.int32)
        segments: list[Segment] = []
        for group in [*groups, *stuff.values()]:
            if any(used[i + 1] for i in group):
                scores = [self.pieces[i].score for i in group]
                segments.append(Segment(len(segments) + 1, self.pieces[group[0]].label, max(scores)))
                number[np.array(group) + 1] = len(segments)
        for row in ids:  # in place: a second map of a large image would not fit
            row[:] = number[row]
        return Panoptic(ids, segments)


def without_repeats(objects: Sequence[_Object], large: Sequence[_Object], too_large: float = math.inf) -> list[_Object]:
    """Objects of the tiles and of the whole view, each once.

    Those of a √area of `too_large` pixels and more are taken from the whole view alone. Where both have a smaller one,
    the better score decides. One of the whole view goes where several objects that lie whole in tiles mostly fill
    it; those that only lie in it, and cut pieces of it, go where it stays. A cut piece most of which belongs to a
    larger object goes, too.
    """
    objects = [one for one in objects if area(one) < too_large**2]
    kept: list[_Object] = []
    gone: set[int] = set()
    boxes = np.array([one.box for one in objects]).reshape(-1, 4)
    for big in sorted(large, key=lambda one: -one.score):
        near = [i for i in _near(big, boxes) if objects[i].label == big.label and i not in gone]
        inside = {i: shared(objects[i], big) for i in near}
        same = [i for i in near if _iou(inside[i], objects[i], big) >= SAME and not objects[i].cut]
        filling = sum(inside[i] for i in near if not objects[i].cut and i not in same)
        contested = area(big) < too_large**2
        if contested and (filling >= SAME * area(big) or any(objects[i].score > big.score for i in same)):
            continue
        share = lambda i: COVERED if not objects[i].cut else SAME
        gone |= {*same, *(i for i in near if inside[i] >= share(i) * area(objects[i]))}
        kept.append(big)
    for i, one in enumerate(objects):
        if i in gone or not one.cut:
            continue
        others = [j for j in _near(one, boxes) if j != i and j not in gone and objects[j].label == one.label]
        larger = [j for j in others if area(objects[j]) > area(one)]
        if any(shared(one, objects[j]) >= COVERED * area(one) for j in larger):
            gone.add(i)
    return kept + [one for i, one in enumerate(objects) if i not in gone]


def _near(one: _Object, boxes: np.ndarray) -> list[int]:
    return np.flatnonzero((boxes[:, :2] < one.box[2:]).all(1) & (boxes[:, 2:] > one.box[:2]).all(1)).tolist()


def area(one: _Object) -> float:
    """Pixels of its mask, or else of its box."""
    if one.mask is not None:
        return float(coco_mask.area(one.mask))
    return float(max(one.box[2] - one.box[0], 0) * max(one.box[3] - one.box[1], 0))


def shared(a: _Object, b: _Object) -> float:
    """Pixels that both cover."""
    if a.mask is not None and b.mask is not None:
        return float(coco_mask.area(coco_mask.merge([a.mask, b.mask], intersect=True)))
    sides = np.minimum(a.box[2:], b.box[2:]) - np.maximum(a.box[:2], b.box[:2])
    return float(sides.clip(0).prod())


def _iou(both: float, a: _Object, b: _Object) -> float:
    return both / max(area(a) + area(b) - both, 1e-9)


def _enlarged(rle: Rle, size: tuple[int, int]) -> Rle:
    """A mask of a smaller copy on the image itself, of `size` (H, W)."""
    if tuple(rle["size"]) == size:
        return rle
    sy, sx = size[0] / rle["size"][0], size[1] / rle["size"][1]
    x, y, w, h = (int(v) for v in coco_mask.toBbox(rle))
    x1, y1, x2, y2 = round(x * sx), round(y * sy), round((x + w) * sx), round((y + h) * sy)
    if x2 <= x1 or y2 <= y1:
        return place_mask(np.zeros((1, 1), bool), 0, 0, size)
    cut = crop_rle(rle, x, y, x + w, y + h).astype(np.uint8) * 255
    grown = cv2.resize(cut, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR) > 127
    return place_mask(grown, x1, y1, size)
