"""The same labels for another task: semantic and panoptic maps, read from PNG or derived from instances.

What no map and no instance covers is unlabelled, and stays so: `ignore_label` in semantic maps, 0 (void) in panoptic
ones. A dataset of things only therefore has no background class: pixels outside its objects count neither in a loss
nor in a score. Declare a stuff category and give semantic maps where "background" is to be learned.

Semantic maps are of `label_type`: 8 bits for up to 254 classes, 16 bits for more. `ignore` is the label of what is
unlabelled, which says which of the two it is.
"""

from pathlib import Path

import numpy as np

from segcli.core.coco_json import SegmentInfo
from segcli.core.errors import DataError
from segcli.data.decoders import FAILURES, open_image
from segcli.ops.map_values import distinct
from segcli.types import EIGHT_BITS, IGNORE, Instances, Panoptic, Segment, ignore_label, label_type


def semantic_from_instances(instances: Instances, size: tuple[int, int], ignore: int = IGNORE) -> np.ndarray:
    """[H,W] of labels, `ignore` where no object is. Later objects cover earlier ones; crowd regions carry their class
    and lie under all others, since they are outlined coarsely."""
    out = np.full(size, ignore, np.min_scalar_type(ignore))
    for i in _painting_order(instances):
        out[instances.mask(i)] = int(instances.labels[i])
    return out


def panoptic_from_instances(
    instances: Instances,
    size: tuple[int, int],
    num_things: int,
    semantic: np.ndarray | None = None,
    ignore: int = IGNORE,
) -> Panoptic:
    """One segment an object (id = its position + 1) and one a stuff class; 0 is void.

    instances may include stuff regions (label >= num_things); those of one class are joined. semantic, [H,W] of
    labels, adds the stuff where no object is. Objects that later ones cover wholly have no segment.
    """
    ids = np.zeros(size, np.int32)
    segments: dict[int, Segment] = {}
    first_stuff = len(instances) + 1  # ids of stuff follow those of objects
    if semantic is not None:
        for label in distinct(semantic):
            if num_things <= label != ignore:
                key = first_stuff + int(label) - num_things
                ids[semantic == label] = key
                segments[key] = Segment(key, int(label))
    for i in _painting_order(instances):
        label = int(instances.labels[i])
        stuff = label >= num_things
        key = first_stuff + label - num_things if stuff else i + 1
        ids[instances.mask(i)] = key
        segments[key] = Segment(key, label, crowd=_crowd(instances, i) and not stuff)
    left = set(distinct(ids).tolist())
    return Panoptic(ids, [segments[key] for key in sorted(segments) if key in left])


def semantic_from_panoptic(panoptic: Panoptic, ignore: int = IGNORE) -> np.ndarray:
    """[H,W] of labels, `ignore` where void."""
    keys = np.array([0, *(s.id for s in panoptic.segments)])
    labels = np.array([ignore, *(s.label for s in panoptic.segments)], np.min_scalar_type(ignore))
    order = np.argsort(keys)
    return labels[order][np.searchsorted(keys[order], panoptic.ids)]


def read_semantic(path: Path, size: tuple[int, int], classes: int) -> np.ndarray:
    """A label map PNG -> [H,W] of `label_type`. Raises DataError for another size, or a value that is neither a label
    nor `ignore_label`."""
    labels, ignore = _read_png(path), ignore_label(classes)
    if labels.ndim != 2:
        raise DataError(f"{path}: a semantic map has one channel, not {labels.shape[2]}")
    _check_size(path, labels, size)
    labels = in_memory(labels, classes)
    present = distinct(labels)
    wrong = present[(present >= classes) & (present != ignore)]
    if len(wrong):
        raise DataError(
            f"{path}: value {int(wrong[0])} is no label: info.json declares 0 to {classes - 1}, and {ignore} is ignore"
        )
    return labels.astype(label_type(classes))


def in_memory(stored: np.ndarray, classes: int) -> np.ndarray:
    """A stored semantic map of whatever depth with `ignore_label` where it is unlabelled: in a map of 8 bits, 255 says
    so as long as no class has it. Earlier versions wrote such maps for 255 classes, too."""
    if stored.dtype != np.uint8 or not EIGHT_BITS < classes <= IGNORE:
        return stored
    return np.where(stored == IGNORE, np.uint16(ignore_label(classes)), stored)


def read_panoptic(
    path: Path, segments_info: list[SegmentInfo], size: tuple[int, int], labels: dict[int, int]
) -> Panoptic:
    """A COCO panoptic PNG and its json entry -> ids [H,W] and segments.

    labels: source category id -> label. Raises DataError where the PNG and the json disagree: another size, an id in
    one of them only, an id twice, an undeclared category.
    """
    rgb = _read_png(path)
    if rgb.ndim != 3:
        raise DataError(f"{path}: a panoptic map is RGB (id = R + 256 G + 65536 B), not one channel")
    _check_size(path, rgb, size)
    ids = panoptic_ids(rgb)
    segments = []
    for entry in segments_info:
        if not isinstance(entry.get("id"), int):
            raise DataError(f"{path}: a segment of its json entry has the id {entry.get('id')!r}, no whole number")
        if entry.get("category_id") not in labels:
            raise DataError(
                f"{path}: segment {entry.get('id')}: category id {entry.get('category_id')!r} is not in info.json"
            )
        segments.append(Segment(entry["id"], labels[entry["category_id"]], crowd=bool(entry.get("iscrowd"))))
    declared = [s.id for s in segments]
    if len(set(declared)) != len(declared):
        raise DataError(f"{path}: its json entry names a segment id twice")
    painted = set(distinct(ids).tolist()) - {0}
    for key in sorted(painted ^ set(declared)):
        where, missing = ("the PNG", "its json entry") if key in painted else ("its json entry", "the PNG")
        raise DataError(f"{path}: segment {key} is in {where}, but not in {missing}")
    return Panoptic(ids, segments)


def panoptic_ids(rgb: np.ndarray) -> np.ndarray:
    """uint8 [H,W,3] of a COCO panoptic PNG -> int32 [H,W] of segment ids."""
    return rgb[:, :, 0].astype(np.int32) + 256 * rgb[:, :, 1].astype(np.int32) + 65536 * rgb[:, :, 2].astype(np.int32)


def _painting_order(instances: Instances) -> list[int]:
    return sorted(range(len(instances)), key=lambda i: not _crowd(instances, i))


def _crowd(instances: Instances, i: int) -> bool:
    return instances.crowd is not None and bool(instances.crowd[i])


def _check_size(path: Path, pixels: np.ndarray, size: tuple[int, int]) -> None:
    if pixels.shape[:2] != size:
        raise DataError(f"{path}: the map is {pixels.shape[:2]}, its image {size} (height, width)")


def _read_png(path: Path) -> np.ndarray:
    """Stored values, palette indices included (OpenCV would expand them to colours). Alpha is dropped."""
    try:
        with open_image(path) as image:
            if image.mode in ("RGBA", "LA"):
                return np.asarray(image)[:, :, : len(image.mode) - 1].squeeze()
            return np.asarray(image)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such label map", hint="run `segcli prepare` again") from None
    except FAILURES as error:
        raise DataError(f"{path}: the label map can't be decoded: {error}") from error
