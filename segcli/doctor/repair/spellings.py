"""Annotations in other spellings than COCO's, recognised as what they are and spelled as COCO does.

Flat lists of numbers, points as pairs, an RLE whose counts are Python's b'…', ids and numbers as text: each has one
meaning. What could have two is left as it is.
"""

import ast
import json
from collections.abc import Mapping, Sequence
from typing import cast

from segcli.core.coco_json import Annotation
from segcli.data.annotations import number, segmentation_problem

Actions = list[tuple[str, str]]
DEPTH = 3  # levels of lists that are too many


def spelled(annotation: Annotation, size: tuple[int, int], names: Mapping[str, int]) -> tuple[Annotation, Actions]:
    """(the annotation in COCO's spelling, [(code, what was done)]) on an image of `size` (h, w). names: of the
    categories, with their ids."""
    given: dict[str, object] = {**annotation}
    out = given.copy()
    actions: Actions = []

    def put(key: str, value: object) -> None:
        actions.append(("malformed", f"{key} {given[key]!r:.80} made {value!r:.80}"))
        out[key] = value

    for key in ("id", "image_id", "category_id"):
        value = annotation.get(key)
        if isinstance(value, (str, float)) and (whole := number(value)) is not None:
            put(key, whole)
    if isinstance(category := out.get("category_id"), str) and category.strip() in names:
        put("category_id", names[category.strip()])
    if isinstance(annotation.get("area"), str) and (area := _numbers([annotation["area"]])):
        put("area", area[0])
    if (box := annotation.get("bbox")) is not None and not _plain(box):
        read = _numbers(_parsed(box))
        if read is not None and len(read) == 4:
            put("bbox", read)
    if segmentation := annotation.get("segmentation"):
        value, done = as_coco(segmentation, size)
        if done:
            out["segmentation"] = value
            actions.append(("malformed", done))
    return cast(Annotation, out), actions


def as_coco(segmentation: object, size: tuple[int, int]) -> tuple[object, str]:
    """(polygons or an RLE as COCO has them, what was done); the segmentation itself and "" where it is COCO already, or
    is not recognised."""
    value = _parsed(segmentation)
    done: list[str] = []
    if value is not segmentation:
        done.append("mask read out of a text")
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) and "counts" in value[0]:
        value = value[0]
        done.append("RLE taken out of a list")
    if not isinstance(value, (dict, list)):
        return segmentation, ""
    read, how = _rle(value) if isinstance(value, dict) else _polygons(value)
    done += how
    if not done or (isinstance(read, list) and segmentation_problem(read, size) is not None):
        return segmentation, ""
    return read, ", ".join(done)


def _rle(value: dict[str, object]) -> tuple[dict[str, object], list[str]]:
    out, done = dict(value), []
    counts, sides = value.get("counts"), value.get("size")
    if isinstance(counts, str):
        text = counts.strip()
        if text[:2] in ("b'", 'b"') and (raw := _bytes(text)) is not None:
            out["counts"] = raw
            done.append("counts taken out of Python's b'…'")
        elif any(mark in text for mark in " ,[") and (runs := _whole(text.strip("[]").replace(",", " ").split())):
            out["counts"] = runs
            done.append("runs read out of a text")
    elif isinstance(counts, list) and any(type(run) is not int for run in counts) and (runs := _whole(counts)):
        out["counts"] = runs
        done.append("runs made whole numbers")
    if isinstance(sides, list) and any(type(side) is not int for side in sides) and (whole := _whole(sides)):
        out["size"] = whole
        done.append("size made whole numbers")
    return out, done


def _polygons(value: list[object], depth: int = 0) -> tuple[list[object], list[str]]:
    """Lists of numbers for what may be nested in other ways."""
    if _is_flat(value):
        return [_numbers(value)], ["a flat list made one polygon"]
    if len(value) >= 3 and all(_point(one) is not None for one in value):
        return [_outline(value)], ["a list of points made one polygon"]
    out: list[object] = []
    done: list[str] = []
    for part in value:
        if isinstance(part, list) and len(part) >= 3 and all(_point(one) is not None for one in part):
            out.append(_outline(part))
            done = done or ["points made lists of numbers"]
        elif depth < DEPTH and isinstance(part, list) and part and all(isinstance(one, list) for one in part):
            inner, how = _polygons(part, depth + 1)
            out += inner
            done = done or how or ["polygons taken out of a list"]
        elif isinstance(part, list) and not _plain(part) and (read := _numbers(part)) is not None:
            out.append(read)
            done = done or ["coordinates read out of texts"]
        else:
            out.append(part)
    return out, done


def _is_flat(value: list[object]) -> bool:
    return len(value) >= 6 and len(value) % 2 == 0 and _numbers(value) is not None


def _outline(points: list[object]) -> list[float]:
    return [v for point in points for v in _point(point) or ()]


def _point(value: object) -> list[float] | None:
    """x and y, of a pair or of {"x": 1, "y": 2}."""
    if isinstance(value, dict) and {"x", "y"} <= value.keys():
        value = [value["x"], value["y"]]
    return _numbers(value) if isinstance(value, list) and len(value) == 2 else None


def _plain(value: object) -> bool:
    return isinstance(value, list) and all(type(one) in (int, float) for one in value)


def _numbers(values: object) -> list[float] | None:
    """Numbers, also where they are text; None where one is neither."""
    if not isinstance(values, list):
        return None
    out = []
    for value in values:
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                return None
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return None
        out.append(value)
    return out


def _whole(values: Sequence[object]) -> list[int] | None:
    read = [number(value) for value in values]
    return None if not read or any(value is None for value in read) else [v for v in read if v is not None]


def _parsed(value: object) -> object:
    """What a text holds as JSON, where it is a list or an object; else the value itself."""
    if not isinstance(value, str) or not value.strip().startswith(("[", "{")):
        return value
    try:
        parsed: object = json.loads(value)
        return parsed
    except (ValueError, RecursionError):
        return value


def _bytes(text: str) -> str | None:
    """The content of a bytes literal, as text."""
    try:
        value = ast.literal_eval(text)
        return value.decode("ascii") if isinstance(value, bytes) else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
