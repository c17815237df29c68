"""The problems that the doctor looks for, how grave each is, and its report."""

import dataclasses
from typing import Literal

from typing_extensions import TypedDict  # before Python 3.12, pydantic takes no other

from segcli.core.files import parsed

Severity = Literal["error", "warning", "note"]
KEPT = 1000  # places of a finding that are kept; all are counted

# errors stop training or falsify labels; warnings are for the owner to judge; notes are facts that explain results
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
    "labels_unreadable": ("error", "images have labels that can't be read"),
    "malformed": ("error", "annotations are malformed"),
    "rle_size": ("error", "RLE masks are of another size than their image"),
    "row_major": ("error", "RLE masks run along the rows, as their boxes show: COCO's run down the columns"),
    "coordinates": (
        "error",
        "splits have coordinates in another order or unit than COCO's, or of another size of their images",
    ),
    "crowds_alone": (
        "error",
        "categories have crowd regions alone, which are neither trained on nor scored: are they objects?",
    ),
    "nothing_to_train": ("error", "splits hold nothing that a model could learn"),
    "label_map": ("error", "semantic or panoptic maps do not fit"),
    "lost_class": ("error", "classes have no pixel, while pixels that nothing declares are ignored (255)"),
    "self_test": ("error", "images whose own labels, fed as predictions, do not score 100"),
    "left_out": ("warning", "notes on what reading the source left out or changed"),
    "exif_unsure": ("warning", "images are turned by EXIF without a change of size: look whether their labels fit"),
    "same_image": ("warning", "images of two splits have the same content: scores will be too high"),
    "same_image_twice": ("warning", "images have the same content as another one of their split"),
    "near_duplicate": ("warning", "images look like one of another split: scores will be too high"),
    "many_objects": ("warning", "images have more objects than are detected by default: raise eval.max_detections"),
    "empty_mask": ("warning", "masks cover no pixel and are left out"),
    "short_polygon": ("warning", "polygons have fewer than three points and count as empty"),
    "hole": ("warning", "polygons have a part inside another part: if it is a hole, COCO fills it (RLE would keep it)"),
    "self_intersecting": ("warning", "polygons cross themselves: what they enclose twice is no part of the mask"),
    "long_outline": (
        "warning",
        "outlines have so many points or parts that not all were compared for crossings and holes",
    ),
    "polygon_outside": ("warning", "polygons reach outside their image and are cut"),
    "degenerate_box": ("warning", "boxes have no width or no height"),
    "box_outside": ("warning", "boxes reach outside their image"),
    "box_mismatch": ("warning", "boxes do not fit their masks (the masks are used)"),
    "area_mismatch": ("warning", "areas do not fit their masks: AP of small, medium and large objects is off"),
    "duplicate_object": ("warning", "objects are labelled twice with the same mask and category"),
    "two_classes": ("warning", "objects of different categories have nearly the same shape"),
    "nearly_twice": ("warning", "objects are labelled twice with nearly the same shape and category"),
    "one_pixel": ("warning", "masks cover a single pixel"),
    "speckled": ("warning", "masks consist of a hundred parts and more"),
    "whole_image": ("warning", "masks cover their whole image"),
    "blank_image": ("warning", "images show nothing: they are black or of one colour"),
    "area_outlier": ("warning", "objects are far smaller or larger than others of their category"),
    "count_outlier": ("warning", "images have far more or far fewer objects of a category than others have"),
    "many_crowds": ("warning", "categories have very many crowd regions, which are neither trained on nor scored"),
    "no_mask": ("warning", "annotations have a box but no mask: task detection only"),
    "unused_category": ("warning", "categories are declared but never used"),
    "split_lacks_category": ("warning", "categories are missing from a split"),
    "names_alike": ("warning", "category names differ in letter case, blanks or hyphens alone"),
    "imbalance": ("warning", "categories are very unevenly frequent"),
    "all_ignored": ("warning", "semantic maps say nothing: every pixel is ignored"),
    "masks_read": ("note", "how mask pictures were read"),
    "no_objects": ("note", "images have no object (they are trained on as negatives)"),
    "crowd": ("note", "crowd regions (neither trained on nor scored)"),
    "category_gap": (
        "note",
        "category ids do not count from 1 (labels inside do; the ids come back in what is written)",
    ),
}


class ItemJson(TypedDict):
    """An `Item` as JSON."""

    split: str
    file_name: str
    annotation_id: int | None
    detail: str


class FindingJson(TypedDict):
    """A `Finding` as JSON, with its first places."""

    code: str
    severity: Severity
    message: str
    count: int
    items: list[ItemJson]


class ReportJson(TypedDict):
    """A `Report` as JSON: what --check --json prints."""

    schema_version: int
    root: str
    ok: bool
    images: int
    annotations: int
    findings: list[FindingJson]
    busiest: dict[str, list[tuple[int, str]]]
    self_test: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Item:
    """One place: a split, an image file, an annotation id, as far as they apply, and what is the matter there."""

    split: str = ""
    file_name: str = ""
    annotation_id: int | None = None
    detail: str = ""

    def to_json(self) -> "ItemJson":
        return {
            "split": self.split,
            "file_name": self.file_name,
            "annotation_id": self.annotation_id,
            "detail": self.detail,
        }


@dataclasses.dataclass
class Finding:
    """One kind of problem: how many places have it, and the first KEPT of them."""

    code: str
    count: int
    items: list[Item]

    @property
    def severity(self) -> Severity:
        return CODES[self.code][0]

    @property
    def message(self) -> str:
        return CODES[self.code][1]


@dataclasses.dataclass
class Report:
    """What the doctor saw. `findings`: errors first, then warnings, then notes, in the order of CODES.

    busiest: split -> [(objects, file name)] of its fullest images, crowds aside, the fullest first. self_test: what the
    labels score as predictions, split/metric -> 0..1; empty where that was not tried.
    """

    root: str
    images: int
    annotations: int
    findings: list[Finding]
    busiest: dict[str, list[tuple[int, str]]] = dataclasses.field(default_factory=dict)
    self_test: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """No errors; warnings may be there."""
        return all(finding.severity != "error" for finding in self.findings)

    def put(self, finding: Finding) -> None:
        """Insert in CODES order, replacing a finding with the same code."""
        others = [f for f in self.findings if f.code != finding.code]
        order = list(CODES)
        self.findings = sorted([*others, finding], key=lambda f: order.index(f.code))

    def to_json(self, limit: int = 100) -> ReportJson:
        """JSON values, with at most `limit` places a finding; `count` is the number of all."""
        findings: list[FindingJson] = [
            {
                "code": f.code,
                "severity": f.severity,
                "message": f.message,
                "count": f.count,
                "items": [item.to_json() for item in f.items[:limit]],
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
            "busiest": self.busiest,
            "self_test": self.self_test,
        }

    @classmethod
    def from_json(cls, data: object, where: str) -> "Report":
        """What `to_json` gave. Raises DataError that begins with `where` for anything else."""
        read = parsed(ReportJson, data, where)
        findings = [Finding(f["code"], f["count"], [Item(**item) for item in f["items"]]) for f in read["findings"]]
        return cls(read["root"], read["images"], read["annotations"], findings, read["busiest"], read["self_test"])
