"""What the doctor can find, how grave it is, and the report of what was found."""

import dataclasses
from typing import Any, Literal

Severity = Literal["error", "warning"]

# errors stop training or falsify labels; warnings are for the owner to judge
CODES: dict[str, tuple[Severity, str]] = {
    "annotation_file": ("error", "annotation files can't be used"),
    "bad_image_record": ("error", "image records are broken"),
    "image_missing": ("error", "image files are missing"),
    "image_unreadable": ("error", "images can't be decoded"),
    "image_size": ("error", "images are not of the size that their labels were made on"),
    "exif_rotated": ("error", "images are turned by EXIF, but their labels were made before that turn"),
    "image_listed_twice": ("error", "image files are listed more than once"),
    "duplicate_image_id": ("error", "image ids are used more than once"),
    "duplicate_annotation_id": ("error", "annotation ids are used more than once"),
    "dangling_image": ("error", "annotations belong to an image that is not listed"),
    "dangling_category": ("error", "annotations are of a category that is not declared"),
    "malformed": ("error", "annotations are malformed"),
    "label_map": ("error", "semantic or panoptic maps do not fit"),
    "left_out": ("warning", "notes on what reading the source left out or changed"),
    "exif_unsure": ("warning", "images are turned by EXIF without a change of size: look whether their labels fit"),
    "same_image": ("warning", "images of two splits have the same content: scores will be too high"),
    "no_objects": ("warning", "images have no object (they are trained on as negatives)"),
    "many_objects": ("warning", "images have more objects than are detected by default: raise eval.max_detections"),
    "empty_mask": ("warning", "masks cover no pixel and are left out"),
    "short_polygon": ("warning", "polygons have fewer than three points and count as empty"),
    "hole": ("warning", "polygons have a part inside another part: if it is a hole, COCO fills it (RLE would keep it)"),
    "polygon_outside": ("warning", "polygons reach outside their image and are cut"),
    "degenerate_box": ("warning", "boxes have no width or no height"),
    "box_outside": ("warning", "boxes reach outside their image"),
    "box_mismatch": ("warning", "boxes do not fit their masks (the masks are used)"),
    "duplicate_object": ("warning", "objects are labelled twice with the same mask and category"),
    "no_mask": ("warning", "annotations have a box but no mask: task detection only"),
    "unused_category": ("warning", "categories are declared but never used"),
    "split_lacks_category": ("warning", "categories are missing from a split"),
    "imbalance": ("warning", "categories are very unevenly frequent"),
}


@dataclasses.dataclass(frozen=True)
class Item:
    """One place: a split, an image file, an annotation id, as far as they apply, and what is the matter there."""

    split: str = ""
    file_name: str = ""
    annotation_id: int | None = None
    detail: str = ""


@dataclasses.dataclass
class Finding:
    """One kind of problem and every place that has it."""

    code: str
    severity: Severity
    message: str
    items: list[Item]


@dataclasses.dataclass
class Report:
    """What the doctor saw. `findings`: errors first, then warnings, in the order of CODES."""

    root: str
    images: int
    annotations: int
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """No errors; warnings may be there."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_json(self, limit: int = 100) -> dict[str, Any]:
        """JSON values, with at most `limit` places a finding; `count` is the number of all."""
        findings = [
            {
                "code": f.code,
                "severity": f.severity,
                "message": f.message,
                "count": len(f.items),
                "items": [dataclasses.asdict(item) for item in f.items[:limit]],
            }
            for f in self.findings
        ]
        return {
            "schema_version": 1,
            "root": self.root,
            "ok": self.ok,
            "images": self.images,
            "annotations": self.annotations,
            "findings": findings,
        }
