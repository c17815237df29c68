"""How many objects a source of `sources.FORMATS` says it has, counted without the readers of segcli; and how many came
out. What was damaged beyond counting is None: its reader has to refuse it."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

Counter = Callable[[Path], int]
PICTURED = 2  # objects that every mask picture of the scene shows


def objects_in(root: Path, name: str) -> int | None:
    """The objects that the files say; None where they can't be counted."""
    try:
        return COUNTERS[name](root)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, ElementTree.ParseError):
        return None


def objects_out(prepared: Path) -> int:
    """The annotations of a prepared folder; of a dataset of maps alone, its maps."""
    every = [json.loads(file.read_text("utf-8")) for file in sorted((prepared / "annotations").glob("*.json"))]
    found = sum(len(one["annotations"]) for one in every)
    maps = len([*(prepared / "semantic").rglob("*.png")])
    return found or maps


def notes_of(prepared: Path) -> set[str]:
    """What reading said, without numbers and names; neither how images were divided, nor what values of pictures
    are."""
    notes = json.loads((prepared / "prepared.json").read_text("utf-8"))["notes"]
    return {re.sub(r"\d+", "", note.split(": ")[0]) for note in notes if not note.startswith(("split at", "masks"))}


def loaded(root: Path, pattern: str) -> Iterator[Any]:
    for file in sorted(root.glob(pattern)):
        if file.is_file():
            yield json.loads(file.read_text("utf-8-sig"))


def pictures(pattern: str, each: int = PICTURED) -> Counter:
    return lambda root: each * sum(file.is_file() for file in root.glob(pattern))


def table(root: Path, pattern: str) -> Iterator[dict[str, str]]:
    """The rows of tables, by their headings; lines that begin with # are none."""
    for file in sorted(root.glob(pattern)):
        with file.open(encoding="utf-8-sig", newline="") as stream:
            yield from csv.DictReader(line for line in stream if not line.startswith("#"))


def panoptic(root: Path) -> int:
    total = 0
    for data in loaded(root, "annotations/*.json"):
        things = {c["id"] for c in data["categories"] if c.get("isthing", 1)}
        total += sum(s["category_id"] in things for entry in data["annotations"] for s in entry["segments_info"])
    return total


def labelme(root: Path) -> int:
    total = 0
    for data in loaded(root, "**/*.json"):
        drawn = [s for s in data["shapes"] if s.get("shape_type") != "point" and s["label"] != "__ignore__"]
        total += len({(s["label"], s["group_id"]) if s.get("group_id") is not None else id(s) for s in drawn})
    return total


def via(root: Path) -> int:
    total = 0
    for data in loaded(root, "**/*.json"):
        for image in data.get("_via_img_metadata", data).values():
            regions = image["regions"].values() if isinstance(image["regions"], dict) else image["regions"]
            total += sum(region["shape_attributes"]["name"] != "point" for region in regions)
    return total


def via_3(root: Path) -> int:
    regions = [one["xy"] for data in loaded(root, "**/*.json") for one in data["metadata"].values()]
    return sum(bool(xy) and xy[0] != 1 for xy in regions)


def via_csv(root: Path) -> int:
    old = sum(row["region_shape_attributes"] != "{}" for row in table(root, "train/*.csv"))
    lines = [line for file in root.glob("val/*.csv") for line in file.read_text("utf-8").splitlines()]
    return old + sum(not line.startswith("#") for line in lines)


def geojson(root: Path) -> int:
    every = [one["geometry"].get("type") for data in loaded(root, "*/*.geojson") for one in data["features"]]
    return sum(kind in ("Polygon", "MultiPolygon") for kind in every)


def supervisely(root: Path) -> int:
    return sum(one["geometryType"] != "point" for data in loaded(root, "*/ann/*.json") for one in data["objects"])


def darwin(root: Path) -> int:
    return sum(bool({"polygon", "mask"} & one.keys()) for data in loaded(root, "*.json") for one in data["annotations"])


def open_images(root: Path) -> int:
    """A box and a mask of one class in one image are one object there."""
    return len({(row["ImageID"], row["LabelName"]) for row in table(root, "*-annotations-*.csv")})


def cvat(root: Path) -> int:
    total = 0
    for image in ElementTree.parse(root / "annotations.xml").getroot().iter("image"):
        drawn = [s for s in image if s.tag in ("mask", "polygon", "box")]
        total += len({(s.get("label"), s.get("group_id")) if s.get("group_id") else id(s) for s in drawn})
    return total


def label_studio(root: Path) -> int:
    every = (one for data in loaded(root, "*.json") for task in data for one in task["annotations"][0]["result"])
    return sum(one["type"] in ("brushlabels", "polygonlabels") for one in every)


def yolo(root: Path) -> int:
    files = [file for file in (root / "labels").rglob("*.txt") if file.is_file()]
    return sum(bool(line.strip()) for file in files for line in file.read_text("utf-8").splitlines())


def voc_boxes(root: Path) -> int:
    files = [file for file in root.rglob("*.xml") if file.is_file()]
    return sum(len([*ElementTree.parse(file).getroot().iter("object")]) for file in files)


def run_lengths(root: Path) -> int:
    return sum(bool(row["EncodedPixels"].strip()) for row in table(root, "train.csv"))


def cityscapes(root: Path) -> int:
    objects = [one for data in loaded(root, "gtFine/train/*/*.json") for one in data["objects"]]
    drawn = sum(one["label"] in ("car", "persongroup") and not one.get("deleted") for one in objects)
    return drawn + pictures("gtFine/val/*/*_instanceIds.png")(root)


def coco(root: Path) -> int:
    return sum(len(data["annotations"]) for data in loaded(root, "annotations/*.json"))


COUNTERS: dict[str, Counter] = {
    "coco": coco,
    "panoptic": panoptic,
    "labelme": labelme,
    "via": via,
    "cvat": cvat,
    "label_studio": label_studio,
    "yolo": yolo,
    "voc": pictures("SegmentationObject/*.png"),
    "voc_boxes": voc_boxes,
    "masks": pictures("*/masks/*.png"),
    "pairs": pictures("Masks/*/*.png"),
    "semantic": pictures("annotations/*/*.png", 1),
    "camvid": pictures("*annot/*.png", 1),
    "cityscapes": cityscapes,
    "pix3d": lambda root: sum(len(data) for data in loaded(root, "pix3d.json")),
    "run_lengths": run_lengths,
    "geojson": geojson,
    "supervisely": supervisely,
    "darwin": darwin,
    "open_images": open_images,
    "via_3": via_3,
    "via_csv": via_csv,
    "sa1b": lambda root: sum(len(data["annotations"]) for data in loaded(root, "*/*.json")),
    "instance_maps": pictures("images/ADE/*/*/*_seg.png"),
    "ade20k_2016": pictures("images/*/*/*/*_seg.png"),
    "mapillary": pictures("*/v2.0/instances/*.png"),
    "bdd100k": pictures("labels/ins_seg/bitmasks/*/*.png"),
}
