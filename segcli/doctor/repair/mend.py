"""One annotation as it should be, and what was done to it; what can't be mended without guessing is None."""

from collections.abc import Mapping

import numpy as np
from pycocotools import mask as coco_mask
from scipy import ndimage

from segcli.core.coco_json import Annotation, JsonRle, Polygons, Rle, Segmentation, as_json
from segcli.data import annotations as coco_file
from segcli.data.label_rules import label_problems, rle_of_another_size, sound
from segcli.data.mask_order import MISSES, by_rows, overlap
from segcli.data.mask_order import reading as order_of
from segcli.data.outline_rules import crossings, depths
from segcli.data.rescale_labels import refitted
from segcli.doctor.repair.overview import Survey
from segcli.doctor.repair.spellings import spelled
from segcli.sources.coordinates import Reading, reread

DRAWN = ("hole", "self_intersecting", "polygon_outside")  # mended by storing the mask itself


def mend(
    annotation: Annotation,
    size: tuple[int, int],
    names: Mapping[str, int],
    known: Survey,
    reading: Reading | None = None,
) -> tuple[Annotation | None, list[tuple[str, str]]]:
    """(the annotation as it should be, [(code, action)]) on an image of `size` (h, w); None where it is left out.

    names: of the declared categories, with their ids. known: what holds for the whole dataset. reading: how its
    coordinates are written, where that is not COCO's way.
    """
    out, actions = spelled(annotation, size, names)
    if reading is not None:
        out, did = reread(out, reading, size)
        actions += [("coordinates", did)] if did else []
    declared = names.values()
    if type(out.get("category_id")) is not int or out["category_id"] not in declared:
        return None, [
            *actions,
            ("dangling_category", f"left out: {out.get('category_id')!r:.80} is no declared category"),
        ]
    if out.get("id") is not None and not isinstance(out["id"], int):
        actions.append(("malformed", f"annotation id {out.pop('id')!r:.80} replaced"))
    if not sound({"iscrowd": out.get("iscrowd")}, size, "iscrowd"):
        crowd = out["iscrowd"]
        out["iscrowd"] = int(str(crowd).strip().lower() in ("1", "1.0", "true", "yes"))
        actions.append(("malformed", f"iscrowd {annotation['iscrowd']!r:.80} made {out['iscrowd']}"))
    if out.get("iscrowd") and out["category_id"] in known.crowds:
        out["iscrowd"] = 0
        actions.append(("crowds_alone", "made an object: its class has crowd regions alone"))
    if out.get("segmentation"):
        segmentation, done = _mended_segmentation(out, size, known.rows)
        actions += done
        if segmentation is None:
            return None, actions
        out["segmentation"] = segmentation
        rle = coco_file.encode(segmentation, size)
        if not coco_mask.area(rle):
            return None, [*actions, ("empty_mask", "left out: its mask covers no pixel")]
    if not out.get("segmentation"):
        return _mended_box(out, size, actions)
    if not sound(out, size, "bbox"):
        actions.append(("malformed", f"bbox {out['bbox']!r:.80} taken from the mask"))
        out["bbox"] = coco_mask.toBbox(rle).tolist()
    if not sound(out, size, "area"):
        actions.append(("malformed", f"area {out['area']!r:.80} taken from the mask"))
        out["area"] = int(coco_mask.area(rle))
    codes = [code for code, _ in label_problems(out, size)]
    drawn = [code for code in codes if code in DRAWN]
    if drawn and isinstance(segmentation, list):
        out["segmentation"], rle = _drawn(segmentation, size)
        did = ", ".join(drawn).replace("_", " ")
        actions.append((drawn[0], f"polygon stored as the mask that it stands for ({did})"))
        codes = [code for code, _ in label_problems(out, size)]
    if boxes := {"degenerate_box", "box_outside", "box_mismatch"} & set(codes):
        actions.append((min(boxes), f"bbox {out['bbox']} taken from the mask"))
        out["bbox"] = coco_mask.toBbox(rle).tolist()
    if "area_mismatch" in codes:
        actions.append(("area_mismatch", f"area {out['area']} counted anew on the mask"))
        out["area"] = int(coco_mask.area(rle))
    return out, actions


def _mended_segmentation(
    annotation: Annotation, size: tuple[int, int], rows: bool
) -> tuple[Segmentation | None, list[tuple[str, str]]]:
    """Drop malformed and degenerate parts; None if no part remains.

    rows: most RLEs of the dataset run along the rows.
    """
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, dict) and rle_of_another_size(annotation, size):
        old = segmentation.get("size")
        refit = refitted(annotation, size)
        if refit is None:
            return None, [("rle_size", f"left out: its RLE of {old!r:.80} does not fit {list(size)}")]
        return refit, [("rle_size", f"RLE of {old} fitted to the image's {list(size)}")]
    if isinstance(segmentation, list):
        parts = [p for p in segmentation if isinstance(p, list) and sound({"segmentation": [p]}, size, "segmentation")]
        broken = len(segmentation) - len(parts)
        drawn = [p for p in parts if len(p) >= 6]
        actions = [("malformed", f"{broken} malformed parts of its polygon left out")] if broken else []
        if len(parts) > len(drawn):
            actions.append(("short_polygon", f"{len(parts) - len(drawn)} parts of fewer than three points left out"))
        return (drawn, actions) if drawn else (None, [*actions, ("empty_mask", "left out: no part of it is left")])
    if not sound(annotation, size, "segmentation"):
        return None, [("malformed", "left out: its mask is malformed")]
    try:
        rle = coco_file.encode(segmentation, size)
    except ValueError as error:
        return None, [("malformed", f"left out: {error}")]
    box = annotation.get("bbox") if sound(annotation, size, "bbox") else None
    order = None
    if box is not None and (rows or overlap(coco_mask.toBbox(rle), box) < MISSES):  # else the columns are right
        order = order_of(segmentation, box, size)
    if order == "rows" or (rows and order is None):
        why = "as its box shows" if order else "as most of the dataset do"
        return as_json(by_rows(rle)), [("row_major", f"mask read along its rows, {why}")]
    return segmentation, []


def _mended_box(
    out: Annotation, size: tuple[int, int], actions: list[tuple[str, str]]
) -> tuple[Annotation | None, list[tuple[str, str]]]:
    """An annotation of a box alone: cut at the border, left out where nothing is left."""
    if out.get("bbox") is None or not sound(out, size, "bbox"):
        return None, [*actions, ("malformed", f"left out: it has no mask, and bbox {out.get('bbox')!r}")]
    x, y, bw, bh = out["bbox"]
    x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + bw, size[1]), min(y + bh, size[0])
    if x2 <= x1 or y2 <= y1:
        return None, [*actions, ("degenerate_box", f"left out: bbox {out['bbox']} covers nothing of the image")]
    if not sound(out, size, "area"):
        actions.append(("malformed", f"area {out['area']!r:.80} taken from the bbox"))
        out["area"] = (x2 - x1) * (y2 - y1)
    if any(code == "box_outside" for code, _ in label_problems(out, size)):
        actions.append(("box_outside", f"bbox {out['bbox']} cut at the border"))
        out["bbox"] = [x1, y1, x2 - x1, y2 - y1]
    return out, actions


def _drawn(parts: Polygons, size: tuple[int, int]) -> tuple[JsonRle, Rle]:
    """The mask that a polygon stands for: crossed outlines filled, parts inside others cut out (and islands in those
    put back), everything cut at the border."""
    depth = depths(parts, size)
    mask = np.zeros(size, np.uint8)
    for i in np.argsort(depth, kind="stable"):
        part = coco_mask.decode(coco_file.encode([parts[i]], size))
        if crossings(parts[i])[0]:
            part = ndimage.binary_fill_holes(part)
        mask[part.astype(bool)] = depth[i] % 2 == 0
    rle = coco_mask.encode(np.asfortranarray(mask))
    return as_json(rle), rle
