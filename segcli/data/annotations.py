"""Read and check one COCO annotation file: what is wrong is named by file and annotation id, nothing is guessed.

Sparse work only: masks are checked for shape and finite numbers here and decoded one image at a time by `encode`.
"""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeGuard, cast

import numpy as np
from pycocotools import mask as coco_mask

from segcli.core.coco_json import Annotation, ImageEntry, PanopticEntry, Rle, Segmentation
from segcli.core.errors import DataError
from segcli.core.files import is_below, read_json
from segcli.data.decoders import MOST_PIXELS

LARGEST_ID = 2**63 - 1  # what scoring counts images with
PLAIN = {int, float}  # what JSON numbers become: compared first, which is quick
BATCH = 1024  # annotations whose compressed RLEs are checked together: one by one takes ten times as long and more
WIDEST = 8  # groups of a number in a compressed RLE: 40 bits
FAR = 16  # polygons and boxes further outside than this many image sides are taken for a unit error, not drawn


def load(path: Path) -> tuple[list[ImageEntry], list[Annotation]]:
    """(images, annotations) of a COCO file. Raises DataError where it is missing, no JSON, or lacks a list."""
    images, annotations = _lists(path)
    return cast(list[ImageEntry], images), cast(list[Annotation], annotations)


def load_panoptic(path: Path) -> list[PanopticEntry]:
    """The entries of a COCO panoptic file, unchecked. Raises DataError as `load` does."""
    return cast(list[PanopticEntry], _lists(path)[1])


def _lists(path: Path) -> list[list[dict[str, object]]]:
    """The objects listed as `images` and as `annotations` of a json file."""
    if not path.exists():
        raise DataError(f"{path}: there is no such annotation file", hint="run `segcli prepare` again")
    data = read_json(path)
    for key in ("images", "annotations"):
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise DataError(f"{path}: not a COCO file: it has no list {key!r}")
        wrong = [item for item in data[key] if not isinstance(item, dict)]
        if wrong:
            raise DataError(f"{path}: {key} must hold objects, not {wrong[0]!r:.200}")
    return [data["images"], data["annotations"]]


def panoptic_entries(path: Path) -> dict[int, PanopticEntry]:
    """Image id -> {"file_name", "segments_info"} of a COCO panoptic file. Raises DataError for anything else."""
    data = read_json(path)
    listed = data.get("annotations") if isinstance(data, dict) else None
    if not isinstance(listed, list):
        raise DataError(f"{path}: not a COCO panoptic file: it has no list 'annotations'")
    out: dict[int, PanopticEntry] = {}
    for number, entry in enumerate(listed):
        entry = entry if isinstance(entry, dict) else {}
        key, name, segments = (entry.get(k) for k in ("image_id", "file_name", "segments_info"))
        where = f"{path}: annotations[{number}]"
        if not _is_int(key):
            raise DataError(f"{where}: image_id {key!r:.80} is not a whole number")
        if not isinstance(name, str) or not is_below(name):
            raise DataError(f"{where}: file_name {name!r:.80} is not the name of a file")
        if not isinstance(segments, list) or not all(isinstance(segment, dict) for segment in segments):
            raise DataError(f"{where}: segments_info is no list of segments")
        for segment in segments:
            if not _is_int(segment.get("id")) or not 0 < segment["id"] < 2**24:
                raise DataError(f"{where}: a segment's id {segment.get('id')!r:.80} is not 1 to 16777215")
            if not _is_int(segment.get("category_id")):
                raise DataError(f"{where}: segment {segment['id']}: category_id is not a whole number")
        out[key] = {"file_name": name, "segments_info": segments}
    return out


def image_problems(images: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """What is wrong with the image records, one sentence each."""
    ids: set[int] = set()
    for image in images:
        key, name = image.get("id"), image.get("file_name")
        if not _is_int(key) or not 0 <= key < 2**63:
            yield f"image {name!r:.200}: id {key!r:.80} is not a whole number from 0 up"
            continue
        if key in ids:
            yield f"image id {key} stands twice"
        ids.add(key)
        if not isinstance(name, str) or not name:
            yield f"image {key}: file_name is missing"
        elif not is_below(name):
            yield f"image {key}: file_name {name!r} is not a path below the image folder"
        width, height = image.get("width"), image.get("height")
        if not _is_int(width) or width < 1:
            yield f"image {key} ({name}): width {width!r} is not a size in pixels"
        elif not _is_int(height) or height < 1:
            yield f"image {key} ({name}): height {height!r} is not a size in pixels"
        elif width * height > MOST_PIXELS:
            yield f"image {key} ({name}): {width} x {height} is more than an image can have"


def name_problems(images: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """The images whose file_name is no path below a folder, one sentence each: quick, for every start."""
    for image in images:
        name = image.get("file_name")
        if not isinstance(name, str) or not is_below(name):
            yield f"image {image.get('id')}: file_name {name!r:.200} is not a path below the image folder"


def annotation_problems(
    annotations: Sequence[Mapping[str, object]],
    sizes: dict[int, tuple[int, int]],
    categories: set[int],
    *,
    encoded: bool = False,
) -> Iterator[str]:
    """What is wrong with the annotations, one sentence each.

    sizes: image id -> (h, w); categories: the source ids that the dataset declares. encoded: compressed RLEs were made
    in this process, of pixels, so that their runs need no look.
    """
    for start in range(0, len(annotations), BATCH):
        part = annotations[start : start + BATCH]
        totals = [None] * len(part) if encoded else _covered(part)
        for annotation, covered in zip(part, totals, strict=True):
            yield from _problems(annotation, covered, sizes, categories, encoded)


def _covered(annotations: Sequence[Mapping[str, object]]) -> list[int | None]:
    """Pixels that each compressed RLE covers (-1: malformed); None if it is not a compressed RLE."""
    raws = [_compressed(annotation.get("segmentation")) for annotation in annotations]
    totals = iter(run_totals([raw for raw in raws if raw is not None]).tolist())
    return [None if raw is None else next(totals) for raw in raws]


def _problems(
    annotation: Mapping[str, object],
    covered: int | None,
    sizes: dict[int, tuple[int, int]],
    categories: set[int],
    encoded: bool,
) -> Iterator[str]:
    """`annotation_problems` of one; covered: as `_covered` says."""
    name, image = annotation.get("id"), annotation.get("image_id")
    if not _is_int(image) or image not in sizes:
        yield f"annotation {name}: image id {image!r:.80} is not in the file"
        return
    category, crowd, area = (annotation.get(key) for key in ("category_id", "iscrowd", "area"))
    if not _is_int(category) or category not in categories:
        yield f"annotation {name}: category id {category!r:.80} is not declared in info.json"
    if crowd is not None and not (isinstance(crowd, int) and 0 <= crowd <= 1):
        yield f"annotation {name}: iscrowd {crowd!r:.80} is neither 0 nor 1"
    if area is not None and not (_is_number(area) and _is_finite(area) and area >= 0):
        yield f"annotation {name}: area {area!r:.80} is not a number of pixels"
    box, segmentation = annotation.get("bbox"), annotation.get("segmentation")
    if box is None and not segmentation:
        yield f"annotation {name}: neither a bbox nor a segmentation"
    elif box is not None and (problem := _box_problem(box, sizes[image])):
        yield f"annotation {name}: {problem}"
    if encoded and covered is None:
        covered = sizes[image][0] * sizes[image][1]
    if segmentation and (problem := segmentation_problem(segmentation, sizes[image], covered)):
        yield f"annotation {name}: {problem}"


def encode(segmentation: Segmentation | Rle, size: tuple[int, int], *, checked: bool = False) -> Rle:
    """COCO polygons or RLE -> one compressed RLE of `size` (h, w). checked: `annotation_problems` had nothing to say of
    them.

    Polygons are joined (a hole is whatever no part covers, as COCO has it); parts of fewer than three points are empty.
    Raises ValueError where an RLE's runs do not fill the image: pycocotools would return uninitialised memory.
    """
    h, w = size
    if isinstance(segmentation, list):
        parts = [part for part in segmentation if len(part) >= 6]  # four numbers would be taken for a box
        if not parts:
            return coco_mask.encode(np.zeros((h, w), np.uint8, order="F"))
        rles = coco_mask.frPyObjects(parts, h, w)
        return rles[0] if len(rles) == 1 else coco_mask.merge(rles)
    counts = segmentation["counts"]
    raw = counts.encode("ascii", "replace") if isinstance(counts, str) else counts
    if not checked:
        covered = sum(raw) if isinstance(raw, list) else int(run_totals([raw])[0])
        if covered != h * w or (isinstance(raw, list) and min(raw) < 0):
            raise ValueError(f"its RLE covers {covered} pixels of {h * w}")
    if isinstance(raw, list):
        return coco_mask.frPyObjects({"size": [h, w], "counts": raw}, h, w)
    return {"size": [h, w], "counts": raw}


def area_of(annotation: Annotation, size: tuple[int, int], rle: Rle | None = None) -> float:
    """The object's area in pixels, by which AP sorts objects into sizes: as annotated; where nothing is, its mask's
    (`rle`, if that is encoded already), and its box's where it has none. The same for every task."""
    area: float | None = annotation.get("area")
    if area is not None:
        return area
    if rle is None and annotation.get("segmentation"):
        rle = encode(annotation["segmentation"], size)
    return int(coco_mask.area(rle)) if rle is not None else annotation["bbox"][2] * annotation["bbox"][3]


def encode_all(
    segmentations: Sequence[Segmentation | Rle], size: tuple[int, int], *, checked: bool = False
) -> list[Rle]:
    """`encode` of one image's segmentations; the compressed RLEs among them are checked together, unless
    `annotation_problems` had nothing to say of them."""
    raws = [_compressed(s) for s in segmentations]
    if not checked and (run_totals([raw for raw in raws if raw is not None]) != size[0] * size[1]).any():
        return [encode(s, size) for s in segmentations]  # names what is wrong
    pairs = zip(segmentations, raws, strict=True)
    return [encode(s, size) if raw is None else {"size": [*size], "counts": raw} for s, raw in pairs]


def _compressed(segmentation: object) -> bytes | None:
    """The bytes of a compressed RLE; None for polygons and for an RLE of plain numbers."""
    counts = segmentation.get("counts") if isinstance(segmentation, dict) else None
    if isinstance(counts, str):
        return counts.encode("ascii", "replace")
    return counts if isinstance(counts, bytes) else None


def run_totals(counts: Sequence[bytes]) -> np.ndarray:
    """How many pixels each of N compressed RLEs covers, int64 [N]; -1 where it is malformed."""
    runs, bounds, wrong = _decode(counts)
    sums = np.concatenate([[0], np.cumsum(runs)])
    return np.where(wrong, -1, sums[bounds[1:]] - sums[bounds[:-1]])


def run_lengths(counts: bytes) -> np.ndarray | None:
    """The runs of a compressed RLE, int64, zeros and ones in turn beginning with zeros; None where it is malformed."""
    runs, _, wrong = _decode([counts])
    return None if wrong[0] else runs


def _decode(counts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The runs of N compressed RLEs one after the other, where each RLE's begin [N+1], and which are malformed [N].

    Each run is a little-endian number in 5-bit groups, offset by 48; bit 5 says that a group follows, bit 4 of the last
    one is the sign; from the fourth run on, a number is the difference from the run two before it.
    """
    stops = np.cumsum(np.fromiter(map(len, counts), np.int64, len(counts)))
    groups = np.frombuffer(b"".join(counts), np.uint8) - np.uint8(48)  # what is below wraps around, to above 63
    last = (groups & 32) == 0
    unfinished = stops[stops > 0] - 1
    unfinished = unfinished[~last[unfinished]]
    last[unfinished] = True  # so that what is malformed does not run into the next one
    ends = np.flatnonzero(last)
    wide = np.diff(ends, prepend=-1)
    starts = ends - wide + 1
    strange = np.concatenate([np.flatnonzero(groups > 63), unfinished, ends[wide > WIDEST]])
    wrong = np.zeros(len(counts), bool)
    wrong[np.searchsorted(stops, strange, "right")] = True
    runs = (groups[starts] & 31).astype(np.int64)
    longer = np.flatnonzero(wide > 1)
    for k in range(1, WIDEST):
        runs[longer] += (groups[starts[longer] + k] & 31).astype(np.int64) << 5 * k
        longer = longer[wide[longer] > k + 1]
    negative = np.flatnonzero(groups[ends] & 16)
    runs[negative] -= np.int64(1) << 5 * np.minimum(wide[negative], WIDEST)
    bounds = np.concatenate([[0], np.searchsorted(ends, stops)])
    for start, stop in itertools.pairwise(bounds.tolist()):
        for first in (start + 1, start + 2):  # the first run stands alone: two chains of differences follow it
            chain = runs[first:stop:2]
            np.add.accumulate(chain, out=chain)
    wrong[np.searchsorted(bounds, np.flatnonzero(runs < 0), "right") - 1] = True
    return runs, bounds, wrong


def crop_rle(rle: Rle, x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    """The part [y2 - y1, x2 - x1] of a mask as bool; the whole mask is never unpacked."""
    h = rle["size"][0]
    runs = run_lengths(rle["counts"])
    assert runs is not None  # `encode` refused it
    ends = np.clip(np.cumsum(runs) - x1 * h, 0, (x2 - x1) * h)  # runs go down the columns
    change = np.zeros((x2 - x1) * h + 1, np.int8)
    np.add.at(change, ends[0:-1:2], 1)
    np.add.at(change, ends[1::2], -1)
    return np.cumsum(change[:-1], dtype=np.int8).view(np.bool_).reshape(x2 - x1, h).T[y1:y2]


def _box_problem(box: object, size: tuple[int, int]) -> str | None:
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(v) for v in box):
        return f"bbox {box!r:.200} is not [x, y, width, height]"
    if not _is_finite(*box):
        return f"bbox {box!r:.200} is not finite"
    if box[2] < 0 or box[3] < 0:
        return f"bbox {box!r:.200} has a negative size"
    if max(map(abs, box)) > FAR * max(size):
        return f"bbox {box!r:.200} reaches far outside its image of {size[1]} x {size[0]}"
    return None


def segmentation_problem(segmentation: object, size: tuple[int, int], covered: int | None = None) -> str | None:
    """What is wrong with polygons or an RLE on an image of `size` (h, w); None where `encode` can take it.

    covered: the `run_totals` of a compressed RLE, where they are known.
    """
    h, w = size
    if isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        if segmentation.get("size") != [h, w]:
            return f"its RLE has the size {segmentation.get('size')!r:.80}, its image [{h}, {w}] (height, width)"
        if isinstance(counts, list):
            if not all(_is_int(v) and v >= 0 for v in counts):
                return "its RLE counts are not whole numbers from 0 up"
            if sum(counts) != h * w:
                return f"its RLE covers {sum(counts)!r:.80} pixels of {h * w}"
            return None
        if not isinstance(counts, str):
            return "its RLE has no counts"
        covered = int(run_totals([counts.encode("ascii", "replace")])[0]) if covered is None else covered
        if covered < 0:
            return "its RLE can't be decoded"
        return None if covered == h * w else f"its RLE covers {covered} pixels of {h * w}"
    if not isinstance(segmentation, list):
        return f"segmentation is {type(segmentation).__name__}, not polygons or an RLE"
    for part in segmentation:
        if not isinstance(part, list) or not (PLAIN.issuperset(map(type, part)) or all(map(_is_number, part))):
            return "a polygon is not a list of numbers"
        if len(part) % 2:
            return f"a polygon has {len(part)} numbers, which are not pairs of x and y"
        if not part:
            continue
        if not _is_finite(*part):
            return "a polygon has a coordinate that is not finite"
        if min(part) < -FAR * max(h, w) or max(part) > FAR * max(h, w):
            return f"a polygon reaches {max(part, key=abs)!r:.80}, far outside its image of {w} x {h}"
    return None


def _is_finite(*values: float) -> bool:
    """Whether all are; also False for whole numbers beyond what a float can hold."""
    try:
        return math.isfinite(sum(values))
    except OverflowError:
        return False


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def number(value: object) -> int | None:
    """A whole number, also as text ("7") or with a point (7.0, as pandas writes it); None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,18}(\.0*)?\s*", value):
        return int(value.split(".")[0])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return whole(value)


def whole(value: object) -> int | None:
    """The value itself where it is a whole number, else None."""
    return value if _is_int(value) else None


def refuse(
    path: Path, problems: Iterable[str], hint: str = "segcli prepare ... --check lists all, --fix repairs"
) -> None:
    """Raise DataError with the first problem and the number of the others."""
    listed = list(problems)
    if listed:
        others = f" (and {len(listed) - 1} more such problems)" if len(listed) > 1 else ""
        raise DataError(f"{path}: {listed[0]}{others}", hint=hint)
