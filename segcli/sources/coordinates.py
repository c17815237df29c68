"""In which units and order coordinates are written, and of which size of their images: shown by where labels lie on
them, over a whole split.

COCO has pixels, x before y, and boxes as x, y, width, height. Labels of another convention load, and lie elsewhere.
No single label tells which convention it has; all of a split together do.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal, TypeGuard, get_args

import numpy as np

from segcli.core.coco_json import Annotation
from segcli.data.mask_order import FITS, MISSES, overlap

MOST = 5000  # objects of a split that are counted
FEWEST = 3  # objects that lie inside their images in the other reading alone
PART = 0.05  # of those counted, at least
CLEAR = 20  # times as many as lie inside as they are, and not in the other reading
OUTSIDE = 1.0  # pixels beyond the image: rounding
SHARE = 1.01  # no coordinate is larger where they are parts of the image's sides

Reading = Literal["corners", "centres", "exchanged", "mask exchanged", "shares", "apart", "beyond"]
MOSTLY: tuple[Reading, ...] = ("shares", "apart", "beyond")  # what holds for more than half of the labels, or is chance
READINGS: tuple[Reading, ...] = get_args(Reading)
SENTENCES: dict[Reading, tuple[str, str]] = {
    "corners": (
        "boxes reach outside their images as x, y, width, height, and lie inside as corners x1, y1, x2, y2",
        "--fix reads them as corners",
    ),
    "centres": (
        "boxes reach outside their images as x, y, width, height, and lie inside where x, y is their centre",
        "--fix reads them so",
    ),
    "exchanged": (
        "labels reach outside their images, and lie inside where x and y change places",
        "--fix exchanges them",
    ),
    "mask exchanged": (
        "polygons fit their boxes only where x and y change places",
        "--fix exchanges them",
    ),
    "shares": (
        "labels have coordinates from 0 to 1, parts of the image's sides; COCO has pixels",
        "--fix multiplies those of polygons; boxes without a mask must be made pixels in the source",
    ),
    "apart": (
        "polygons lie outside of their boxes: one of both is of another image, or of another size of it",
        "remove the wrong ones, bbox or segmentation, in the source",
    ),
    "beyond": (
        "labels have their middle outside of their images: they are of images of another size",
        "give the images that were labelled, or scale the labels",
    ),
}


class Coordinates:
    """Counts, for every other reading, the labels of one split that speak for it and against it."""

    def __init__(self) -> None:
        self.counted = 0
        self.boxes = 0  # without a mask
        self.speak: Counter[str] = Counter()
        self.against: Counter[str] = Counter()

    def add(self, annotation: Annotation, size: tuple[int, int], upright: Callable[[], bool] | None = None) -> None:
        """Count an annotation, well-formed or not, of an image of `size` (h, w). upright: whether that is the size of
        the image file, too; where it is not, labels outside it say nothing about themselves."""
        if self.counted >= MOST or min(size) < 4:
            return
        box, span = box_of(annotation.get("bbox")), span_of(annotation.get("segmentation"))
        alone = not annotation.get("segmentation")
        if span is None and (box is None or not alone):
            return
        self.counted += 1
        self.boxes += alone
        x, y, w, h = shape = span or box or (0.0, 0.0, 0.0, 0.0)
        largest = max(x + w, y + h) if span is not None else max(shape)
        if min(x, y) >= 1 - SHARE and largest <= SHARE and max(w, h) > 0:
            self.speak["shares"] += 1
            return
        if span is not None and box is not None:
            fits = overlap(np.array(span), box), overlap(np.array((y, x, h, w)), box)
            self.speak["mask exchanged"] += fits[1] >= FITS and fits[0] < MISSES
            self.against["mask exchanged"] += fits[0] >= FITS and fits[1] < MISSES
            self.speak["apart"] += not any(fits) and min(box[2:]) > 0 and max(box) > SHARE  # no box that says nothing
        middle = x + w / 2 > size[1] + OUTSIDE or y + h / 2 > size[0] + OUTSIDE
        self.speak["beyond"] += middle and (upright is None or upright())
        here = _inside(shape, size)
        readings: dict[str, tuple[float, float, float, float]] = {"exchanged": (y, x, h, w)}
        if alone:
            readings |= {"corners": (x, y, w - x, h - y), "centres": (x - w / 2, y - h / 2, w, h)}
        for name, other in readings.items():
            there = _inside(other, size)
            if there and not here and (name != "exchanged" or upright is None or upright()):
                self.speak[name] += 1
            self.against[name] += here and not there

    def reading(self) -> Reading | None:
        """The reading that was meant, where it is not COCO's; None where nothing clearly speaks against that."""
        if self.speak["shares"] * 2 > self.counted:
            return "shares"
        clear: list[Reading] = [
            name
            for name in READINGS
            if name not in MOSTLY
            and self.speak[name] >= max(FEWEST, PART * self.counted)
            and self.speak[name] >= CLEAR * self.against[name]
        ]
        likeliest = max(clear, key=lambda name: self.speak[str(name)], default=None)
        if likeliest is not None and self.speak[likeliest] >= self.speak["beyond"]:  # it explains them all
            return likeliest
        most = [name for name in MOSTLY if self.speak[name] >= FEWEST and self.speak[name] * 2 > self.counted]
        return most[0] if most else likeliest

    def sentences(self) -> tuple[str, str] | None:
        """(what is wrong, what mends it) for a person; None where nothing is."""
        reading = self.reading()
        if reading is None:
            return None
        what, remedy = SENTENCES[reading]
        return f"{self.speak[reading]:,} of {self.counted:,} {what}", remedy

    def mendable(self) -> bool:
        """Whether the reading gives every label its place: boxes of shares could be of corners, centres, or sizes, and
        where labels belong that lie apart or beyond, nothing tells."""
        reading = self.reading()
        return reading not in MOSTLY or (reading == "shares" and not self.boxes)


def readings(splits: Mapping[str, Coordinates]) -> dict[str, Reading]:
    """Split -> its reading, for those that are not written as COCO is. Where a split is too small to tell, and nothing
    in it speaks against the reading of another one, it has that."""
    own = {split: coordinates.reading() for split, coordinates in splits.items()}
    first = next((reading for reading in own.values() if reading is not None), None)
    out: dict[str, Reading] = {}
    for split, coordinates in splits.items():
        reading = own[split]
        if reading is None and first not in (None, "shares") and not coordinates.against[str(first)]:
            reading = first
        if reading is not None:
            out[split] = reading
    return out


def reread(annotation: Annotation, reading: Reading, size: tuple[int, int]) -> tuple[Annotation, str]:
    """(the annotation in pixels, x before y, its box as x, y, width, height; what was done) on an image of `size`
    (h, w). What is malformed stays as it is, and so does a box beside a mask, but where both are exchanged."""
    out = annotation.copy()
    box, parts = box_of(out.get("bbox")), out.get("segmentation")
    if span_of(parts) is not None and isinstance(parts, list):
        if reading == "shares":
            out["segmentation"] = [[v * size[1 - i % 2] for i, v in enumerate(part)] for part in parts]
            out["bbox"] = [*(span_of(out["segmentation"]) or ())]  # the file's may be of either unit
            out.pop("area", None)
            _move_keypoints(out, lambda x, y: (x * size[1], y * size[0]) if max(x, y) <= SHARE else (x, y))
            return out, "polygon multiplied by the sides of the image, its box and area taken from it"
        if reading in ("exchanged", "mask exchanged"):
            out["segmentation"] = [[part[i ^ 1] for i in range(len(part))] for part in parts]
            if reading == "exchanged" and box is not None:
                out["bbox"] = [box[1], box[0], box[3], box[2]]
                _move_keypoints(out, lambda x, y: (y, x))
            return out, "x and y exchanged"
    elif box is not None and not parts:
        x, y, w, h = box
        if reading == "corners":
            out["bbox"] = [x, y, w - x, h - y]
        elif reading == "centres":
            out["bbox"] = [x - w / 2, y - h / 2, w, h]
        elif reading == "exchanged":
            out["bbox"] = [y, x, h, w]
            _move_keypoints(out, lambda x, y: (y, x))
        if out["bbox"] != annotation["bbox"]:
            return out, f"bbox {annotation['bbox']} read as {reading}: {out['bbox']}"
    return annotation, ""


def _move_keypoints(annotation: Annotation, move: Callable[[float, float], tuple[float, float]]) -> None:
    """Put keypoints x, y, visibility, … where `move` says; what is malformed stays as it is."""
    points = annotation.get("keypoints")
    if isinstance(points, list) and len(points) % 3 == 0 and all(_is_number(v) for v in points):
        triples = zip(points[::3], points[1::3], points[2::3], strict=True)
        annotation["keypoints"] = [v for x, y, shown in triples for v in (*move(x, y), shown)]


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and type(value) is not bool and abs(value) < 2**31  # False of NaN, too


def box_of(value: object) -> tuple[float, float, float, float] | None:
    """The four numbers of a box; None for anything else."""
    if not isinstance(value, list) or len(value) != 4 or not all(_is_number(v) for v in value):
        return None
    return value[0], value[1], value[2], value[3]


def span_of(segmentation: object) -> tuple[float, float, float, float] | None:
    """x, y, width, height of what polygons reach over; None for anything else."""
    if not isinstance(segmentation, list) or not segmentation:
        return None
    for part in segmentation:
        if not isinstance(part, list) or not part or len(part) % 2 or not all(_is_number(v) for v in part):
            return None
    x, y = (min(min(part[i::2]) for part in segmentation) for i in (0, 1))
    right, low = (max(max(part[i::2]) for part in segmentation) for i in (0, 1))
    return x, y, right - x, low - y


def _inside(box: tuple[float, float, float, float], size: tuple[int, int]) -> bool:
    """Whether a box x, y, w, h has an area, and lies on an image of `size` (h, w)."""
    x, y, w, h = box
    return w > 0 and h > 0 and min(x, y) >= -OUTSIDE and x + w <= size[1] + OUTSIDE and y + h <= size[0] + OUTSIDE
