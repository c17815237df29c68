"""Each cell of the table of formats in docs/prepare.md, held against an export that says all that its format can."""

import base64
import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from public_sets import bdd100k, sa1b
from pycocotools import mask as coco_mask
from scene import H, W, ids, photo, picture, text
from scipy import ndimage
from sources import FORMATS, brush
from tool_exports import deflated, runs

from segcli.commands.prepare import prepare
from segcli.core.dataset_info import DatasetInfo
from segcli.data.annotations import encode

PAGE = (Path(__file__).parents[3] / "docs/prepare.md").read_text("utf-8").split("## Formats")[1]
COLUMNS = ("boxes", "polygons", "masks, holes", "keypoints", "classes", "splits", "crowd", "attributes")
# cells that deny what the column is about; of classes: only what is used
NO = ("no", "as polygons", "in use", "named, in use", "one")
EXTRAS = {"colour", "predicted_iou", "occluded", "difficult", "attributes"}
TWO = [[1, 1, 5, 1, 5, 5, 1, 5], [8, 1, 12, 1, 12, 5, 8, 5]]
RING = np.zeros((H, W), np.uint8)
RING[14:22, 14:24] = 1
RING[16:19, 17:21] = 0
RLE = {"size": [H, W], "counts": coco_mask.encode(np.asfortranarray(RING))["counts"].decode("ascii")}


def features(root: Path) -> dict[str, bool]:
    """What of each column came out of a source."""
    info = DatasetInfo.load(root)
    files = [json.loads(file.read_text("utf-8")) for file in (root / "annotations").glob("*.json")]
    found = [one for data in files for one in data["annotations"]]
    masks = [coco_mask.decode(encode(one["segmentation"], (H, W))) for one in found if one.get("segmentation")]
    drawn = any("split at random" in note for note in json.loads((root / "prepared.json").read_text("utf-8"))["notes"])
    return {
        "boxes": any(not one.get("segmentation") for one in found),
        "polygons": any(isinstance(one.get("segmentation"), list) for one in found),
        "masks, holes": any((ndimage.binary_fill_holes(mask) != mask).any() for mask in masks),
        "keypoints": any(one.get("keypoints") for one in found),
        "classes": "unused" in info.names,
        "splits": not drawn,
        "crowd": any(one["iscrowd"] for one in found),
        "attributes": any(EXTRAS & one.keys() for one in found),
    }


def edited(file: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(file.read_text("utf-8"))
    change(content)
    text(file, content)


def coco(root: Path) -> None:
    FORMATS["coco"](root)
    more = [{"segmentation": TWO, "colour": "red"}, {"segmentation": RLE, "iscrowd": 1}, {"bbox": [2, 2, 5, 5]}]

    def change(data):
        data["categories"].append({"id": 9, "name": "unused"})
        common = {"image_id": 0, "category_id": 7, "iscrowd": 0, "bbox": [1, 1, 11, 4], "area": 20}
        data["annotations"] += [{**common, "id": 50 + i, **one} for i, one in enumerate(more)]

    for split in ("train", "val"):
        edited(root / f"annotations/instances_{split}.json", change)


def sa1b_more(root: Path) -> None:
    sa1b(root)
    common = {"bbox": [1, 1, 11, 4], "area": 20}
    more = [{"segmentation": TWO}, {"segmentation": RLE, "iscrowd": 1}, {"bbox": [2, 2, 5, 5]}]
    edited(
        root / "train/a.json",
        lambda data: data["annotations"].extend({**common, "id": 50 + i, **one} for i, one in enumerate(more)),
    )


def cvat(root: Path) -> None:
    FORMATS["cvat"](root)
    file = root / "annotations.xml"
    content = file.read_text("utf-8")
    ring = RING[14:22, 14:24].ravel()
    ends = np.flatnonzero(np.diff(np.concatenate([[0], ring, [2]])))
    runs = ", ".join(map(str, np.diff(np.concatenate([[0], ends])).tolist()))
    more = '<box label="dog" occluded="1" xtl="1" ytl="1" xbr="6" ybr="6" z_order="0"></box>'
    crowd = '<attribute name="is_crowd">true</attribute>'
    more += f'<mask label="dog" occluded="0" rle="{runs}" left="14" top="14" width="10" height="8">{crowd}</mask>'
    point = '<points label="eye" occluded="0" outside="0" points="4,4"></points>'
    more += f'<skeleton label="body" occluded="0" z_order="0">{point}</skeleton>'
    names = "".join(
        f"<label><name>{name}</name><type>{kind}</type>{parent}</label>"
        for name, kind, parent in (
            ("unused", "any", ""),
            ("body", "skeleton", ""),
            ("eye", "points", "<parent>body</parent>"),
        )
    )
    content = content.replace("</image>", f"{more}</image>").replace("</labels>", f"{names}</labels>")
    file.write_text(content, encoding="utf-8")


def label_studio(root: Path) -> None:
    FORMATS["label_studio"](root)
    file = next(root.glob("*.json"))

    def change(tasks):
        result = tasks[0]["annotations"][0]["result"]
        box = {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": ["dog"]}
        ring = {"format": "rle", "rle": brush(RING.astype(bool)), "brushlabels": ["dog"]}
        common = {**result[0]}
        result += [{**common, "id": "x", "type": "rectanglelabels", "value": box}]
        result += [{**common, "id": "y", "type": "brushlabels", "value": ring}]

    edited(file, change)


def labelme(root: Path) -> None:
    FORMATS["labelme"](root)
    stream = io.BytesIO()
    Image.fromarray(RING[14:22, 14:24] * 255).save(stream, "PNG")
    ring = {"label": "dog", "shape_type": "mask", "points": [[14, 14], [23, 21]], "flags": {"iscrowd": True}}
    ring["mask"] = base64.b64encode(stream.getvalue()).decode("ascii")
    box = {"label": "cat", "shape_type": "rectangle", "points": [[1, 1], [6, 6]]}
    edited(root / "train/a.json", lambda data: data["shapes"].extend([ring, box]))
    text(root / "labels.txt", "cat\ndog\nunused\n")


def yolo(root: Path) -> None:
    FORMATS["yolo"](root)
    file = root / "labels/train/a.txt"
    file.write_text(file.read_text("utf-8") + "1 0.5 0.5 0.2 0.2\n", encoding="utf-8")
    yaml = (root / "data.yaml").read_text("utf-8").replace("- dog", "- dog\n- unused")
    text(root / "data.yaml", yaml)


def yolo_pose(root: Path) -> None:
    for name, split in (("a", "train"), ("b", "train"), ("c", "val")):
        photo(root / "images" / split / f"{name}.png")
        text(root / "labels" / split / f"{name}.txt", "0 0.5 0.5 0.2 0.2 0.5 0.5 2\n")
    text(root / "data.yaml", "train: images/train\nval: images/val\nnames: [cat]\nkpt_shape: [1, 3]\n")


def voc(root: Path) -> None:
    FORMATS["voc"](root)
    kinds = ids("a", 1, 2)
    kinds[6:9, 5:8] = 0
    for folder in ("SegmentationClass", "SegmentationObject"):
        picture(root / folder / "a.png", kinds, palette=True)
    text(root / "class_names.txt", "_background_\ncat\ndog\nunused\n")


def masks(root: Path) -> None:
    FORMATS["masks"](root)
    file = root / "train/masks/a.png"
    pixels = np.array(Image.open(file))
    pixels[6:9, 5:8] = 0
    picture(file, pixels)
    with (root / "legend.csv").open("a", encoding="utf-8") as legend:
        legend.write("unused,9,9,9,object\n")


def run_lengths(root: Path) -> None:
    FORMATS["run_lengths"](root)
    with (root / "train.csv").open("a", encoding="utf-8") as table:
        table.write(f"a.png,dog,{runs(RING.astype(bool))}\n")


def supervisely(root: Path) -> None:
    FORMATS["supervisely"](root)
    box = {"classTitle": "dog", "geometryType": "rectangle", "points": {"exterior": [[1, 1], [6, 6]], "interior": []}}
    bitmap = {"data": deflated(RING.astype(bool)), "origin": [0, 0]}
    ring = {"classTitle": "cat", "geometryType": "bitmap", "bitmap": bitmap}
    edited(root / "train/ann/a.png.json", lambda data: data["objects"].extend([box, ring]))
    more = {"title": "unused", "shape": "any", "color": "#00FF00"}
    edited(root / "meta.json", lambda data: data["classes"].append(more))


def darwin(root: Path) -> None:
    """The dog of a is a ring, and a box without a mask is beside it."""
    FORMATS["darwin"](root)
    flat = RING.ravel().astype(int)
    ends = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    dense = [int(v) for a, b in itertools.pairwise(ends) for v in (flat[a], b - a)]
    box = {"id": "b1", "name": "cat", "slot_names": ["0"], "bounding_box": {"x": 1, "y": 1, "w": 5, "h": 5}}

    def change(data):
        next(one for one in data["annotations"] if "raster_layer" in one)["raster_layer"]["dense_rle"] = dense
        data["annotations"].append(box)

    edited(root / "a.json", change)


def geojson(root: Path) -> None:
    """A dog with a hole more."""
    FORMATS["geojson"](root)
    rings = [[[x, y] for x, y in ((a, a), (b, a), (b, b), (a, b), (a, a))] for a, b in ((1, 10), (4, 7))]
    more = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": rings}}
    more["properties"] = {"classification": {"name": "dog"}}
    edited(root / "train/a.geojson", lambda data: data["features"].append(more))


def open_images(root: Path) -> None:
    """A box of a group without a mask, and a dog with a hole."""
    FORMATS["open_images"](root)
    with (root / "train-annotations-bbox.csv").open("a", encoding="utf-8") as table:
        table.write("\na,xclick,/m/0dog,1,0.1,0.3,0.1,0.3,1,1,1,0,0")
    file = root / "masks/a_m0dog_2.png"
    pixels = np.array(Image.open(file))
    pixels[20:24, 40:44] = 0
    picture(file, pixels)


def bdd(root: Path) -> None:
    """The crowd bit of all cars; a class without an object is declared by the format: a train."""
    bdd100k(root)
    for file in (root / "labels/ins_seg").rglob("*.png"):
        pixels = np.array(Image.open(file))
        pixels[..., 1][pixels[..., 0] == 3] = 2
        y, x = np.argwhere(pixels[..., 0] == 3).min(0) + 3
        pixels[y : y + 2, x : x + 2] = 0
        picture(file, pixels)


EXPORTS: dict[str, tuple[Callable[[Path], None], ...]] = {
    "coco": (coco,),
    "sa1b": (sa1b_more,),
    "cvat": (cvat,),
    "label_studio": (label_studio,),
    "labelme": (labelme,),
    "via": (FORMATS["via"],),
    "yolo": (yolo, yolo_pose),
    "voc": (voc, FORMATS["voc_boxes"]),
    "supervisely": (supervisely,),
    "darwin": (darwin,),
    "geojson": (geojson,),
    "open_images": (open_images,),
    "run_lengths": (run_lengths,),
    "masks": (masks,),
    "instance_maps": (bdd,),
}


def row(name: str) -> dict[str, str]:
    line = next(line for line in PAGE.splitlines() if line.startswith("| `") and f"`{name}`" in line.split("|")[1])
    return dict(zip(COLUMNS, [cell.strip() for cell in line.split("|")[2:]], strict=False))


@pytest.mark.parametrize("name", EXPORTS)
def test_each_cell_says_what_is_read(tmp_path, name):
    found = dict.fromkeys(COLUMNS, False)
    for number, write in enumerate(EXPORTS[name]):
        write(tmp_path / f"in{number}")
        came = features(prepare(str(tmp_path / f"in{number}"), tmp_path / f"out{number}", samples=False))
        found = {column: found[column] or came[column] for column in COLUMNS}
    if name == "instance_maps":
        found["classes"] = len(DatasetInfo.load(tmp_path / "out0").names) > 2
    assert {column: cell not in NO for column, cell in row(name).items()} == found
