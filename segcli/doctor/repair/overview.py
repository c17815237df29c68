"""What `--fix` learns of a whole dataset before it mends the first record: what no single record can tell."""

import dataclasses
import functools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from segcli.core.coco_json import Annotation
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError
from segcli.data.canonical import Record
from segcli.data.image import SIDEWAYS, exif_turn, image_size
from segcli.data.label_rules import OUTSIDE, sound
from segcli.data.mask_order import reading
from segcli.doctor.repair.spellings import spelled
from segcli.doctor.rules.crowds import crowds_alone
from segcli.sources.coordinates import Coordinates

VOTES = 200  # masks whose order is determined
CLEAR = 20  # times as many images must say one thing as say the other


@dataclasses.dataclass
class Survey:
    """rows: masks run along the rows, by their boxes. sides: images whose recorded size is not the file's
    have labels on the pixels of the file; by whether the two sides are exchanged. crowds: of classes that have crowd
    regions alone, how many by id. again: file name -> what its further listings in the same split have, for every image
    that is listed again in any. coordinates: how they are written, by split."""

    rows: bool = False
    sides: dict[bool, bool] = dataclasses.field(default_factory=dict)
    crowds: dict[int, int] = dataclasses.field(default_factory=dict)
    again: dict[str, list[Annotation]] = dataclasses.field(default_factory=dict)
    coordinates: dict[str, Coordinates] = dataclasses.field(default_factory=dict)


def overview(splits: Iterable[tuple[str, Iterator[Record]]], info: DatasetInfo, *, divided: bool = False) -> Survey:
    """Look at every record of (split, its records) once; of image files no more than their heads are read.

    divided: the splits were drawn from one, whose labels are all written in one way.
    """
    out = Survey()
    names = dict(zip(info.names, info.source_ids, strict=True))
    orders: Counter[str] = Counter()
    places: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    kinds: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
    first: dict[str, tuple[str, int]] = {}
    again: dict[str, list[Annotation]] = defaultdict(list)
    all_of_them, images = Coordinates(), 0
    for split, records in splits:
        written = out.coordinates[split] = all_of_them if divided else Coordinates()
        for record in records:
            fits = upright(record)
            images += 1
            listed = first.setdefault(record.file_name, (split, images))
            if listed[1] != images:
                again[record.file_name] += record.annotations if listed[0] == split else []
            spelled_here = [spelled(a, record.size, names)[0] for a in record.annotations]
            for annotation in spelled_here:
                category = annotation.get("category_id")
                if isinstance(category, int):
                    kinds[bool(annotation.get("iscrowd"))][category] += 1
                if orders.total() < VOTES and (order := order_of(annotation, record.size)):
                    orders[order] += 1
                written.add(annotation, record.size, fits)
            real = _other_size(record)
            if real is not None and (place := _place(spelled_here, record.size, real)):
                places[real == record.size[::-1]][place] += 1
    out.rows = orders["rows"] > orders["columns"]
    out.sides = {
        exchanged: votes["file"] > 0 and votes["file"] >= CLEAR * votes["record"] for exchanged, votes in places.items()
    }
    by_name = [{name: kinds[crowd][key] for name, key in names.items()} for crowd in (True, False)]
    alone = crowds_alone(*by_name)
    out.crowds = {key: kinds[True][key] for name, key in names.items() if name in alone}
    out.again = dict(again)
    return out


def order_of(annotation: Annotation, size: tuple[int, int]) -> str | None:
    """The order that a mask's runs have by its box, as `mask_order.reading` says; None for what has no RLE."""
    segmentation, box = annotation.get("segmentation"), annotation.get("bbox")
    if not isinstance(segmentation, dict) or box is None or not sound(annotation, size, "segmentation", "bbox"):
        return None
    return reading(segmentation, box, size)


def upright(record: Record) -> Callable[[], bool]:
    """What says whether an image file has the recorded size, without a turn by EXIF."""

    @functools.cache
    def fits() -> bool:
        if not isinstance(record.image, Path):
            return True
        try:
            return image_size(record.image) == record.size and exif_turn(record.image) not in SIDEWAYS
        except (DataError, OSError):  # whoever reads the image names it
            return False

    return fits


def _other_size(record: Record) -> tuple[int, int] | None:
    """The size of the image file where it is another one than the record says, and EXIF does not explain it."""
    if not isinstance(record.image, Path):
        return None
    try:
        real = image_size(record.image)
        turned = real == record.size[::-1] and exif_turn(record.image) in SIDEWAYS
    except (DataError, OSError):  # whoever mends the record names it
        return None
    return None if real == record.size or turned or min(record.size) < 1 else real


def _place(annotations: list[Annotation], recorded: tuple[int, int], real: tuple[int, int]) -> str | None:
    """Whether labels fit the image `file` alone, or the `record`'s size alone; None where they fit both or neither."""
    xs, ys = [0.0], [0.0]
    for annotation in annotations:
        box, segmentation = annotation.get("bbox"), annotation.get("segmentation")
        if isinstance(segmentation, dict) and segmentation.get("size") == list(real) != list(recorded):
            return "file"
        largest = (max(recorded[0], real[0]),) * 2
        if box is not None and sound(annotation, largest, "bbox"):
            xs.append(box[0] + box[2])
            ys.append(box[1] + box[3])
        if isinstance(segmentation, list) and sound(annotation, largest, "segmentation"):
            xs += [v for part in segmentation for v in part[::2]]
            ys += [v for part in segmentation for v in part[1::2]]
    x, y = max(xs), max(ys)
    if not math.isfinite(x + y):
        return None
    fits = [x <= w + OUTSIDE and y <= h + OUTSIDE for h, w in (recorded, real)]
    return None if fits[0] == fits[1] else "record" if fits[0] else "file"
