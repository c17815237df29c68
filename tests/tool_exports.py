"""The scene of tests/scene.py as annotation platforms and competitions export it; the writers of `sources.FORMATS`."""

import base64
import io
import itertools
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scene import SCENE, SPLIT, H, W, corners, ids, photo, picture, text


def runs(mask: np.ndarray, order: str = "F") -> str:
    """A bool mask [H,W] as Kaggle's run lengths; order: F down the columns, C along the rows."""
    flat = mask.ravel(order).astype(np.int8)
    ends = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    return " ".join(f"{a + 1} {b - a}" for a, b in zip(ends[::2], ends[1::2], strict=True))


def run_lengths(root: Path) -> None:
    lines = ["ImageId,ClassId,EncodedPixels"]
    for name in SCENE:
        photo(root / "train_images" / f"{name}.png")
        for number, label in enumerate(SCENE[name], 1):
            lines.append(f"{name}.png,{label},{runs(ids(name, 1, 2) == number)}")
    text(root / "train.csv", "\n".join(lines) + "\n")


def via_3(root: Path) -> None:
    """A project a split; the class is an option of a list, and a point and the file itself have attributes, too."""
    attribute = {"aname": "kind", "anchor_id": "FILE1_Z0_XY1", "type": 4, "desc": "", "default_option_id": ""}
    attribute |= {"options": {"0": "cat", "1": "dog"}}
    for split in ("train", "val"):
        content: dict[str, Any] = {
            "project": {"pname": "x", "vid_list": []},
            "config": {},
            "attribute": {"1": attribute},
        }
        content |= {"file": {}, "metadata": {}, "view": {}}
        for key, name in enumerate((n for n in SCENE if SPLIT[n] == split), 1):
            photo(root / split / f"{name}.png")
            file = {"fid": str(key), "fname": f"{name}.png", "type": 2, "loc": 1, "src": ""}
            content["file"][str(key)] = file
            content["view"][str(key)] = {"fid_list": [str(key)]}
            content["project"]["vid_list"].append(str(key))
            (x1, y1, x2, y2), dog = SCENE[name]["cat"], corners(name)[1]
            shapes = [([2, x1, y1, x2 - x1, y2 - y1], "0"), ([7, *(v for point in dog for v in point)], "1")]
            shapes += [([1, 5, 5], "0"), ([], "0")]
            for number, (xy, option) in enumerate(shapes):
                one = {"vid": str(key), "flg": 0, "z": [], "xy": xy, "av": {"1": option}}
                content["metadata"][f"{key}_{number}"] = one
        text(root / split / "via_project_01Jan2024.json", content)


def _cell(value: object) -> str:
    return '"' + json.dumps(value).replace('"', '""') + '"'


def via_csv(root: Path) -> None:
    """The table of VIA 2 in train, that of VIA 3 in val."""
    old = ["filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"]
    new = ["# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)"]
    new += ['# ATTRIBUTES = {"1":"kind"}']
    new += ["# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata"]
    for name, split in SPLIT.items():
        photo(root / split / f"{name}.png")
        for number, (label, (x1, y1, x2, y2)) in enumerate(SCENE[name].items()):
            w, h = x2 - x1, y2 - y1
            rect = {"name": "rect", "x": x1, "y": y1, "width": w, "height": h}
            old_line = f'{name}.png,12,"{{}}",2,{number},{_cell(rect)},{_cell({"kind": label})}'
            new_line = f'"1_{number}",{_cell([f"{name}.png"])},0,"[]",{_cell([2, x1, y1, w, h])},{_cell({"1": label})}'
            (old if split == "train" else new).append(old_line if split == "train" else new_line)
    text(root / "train/via_export_csv.csv", "\n".join(old) + "\n")
    text(root / "val/via_export.csv", "\n".join(new) + "\n")


def geojson(root: Path) -> None:
    """As QuPath writes it; the dog is of two parts."""
    for name, split in SPLIT.items():
        photo(root / split / f"{name}.png")
        rings = [[*part, part[0]] for part in corners(name)]
        (x1, y1, x2, y2) = SCENE[name]["dog"]
        middle = (x1 + x2) // 2
        halves = [[[[a, y1], [b, y1], [b, y2], [a, y2], [a, y1]]] for a, b in ((x1, middle), (middle, x2))]
        places = [("Polygon", [rings[0]], "cat"), ("MultiPolygon", halves, "dog"), ("Point", [3, 3], "cat")]
        features: list[dict[str, Any]] = []
        for kind, coordinates, label in places:
            own = {"objectType": "annotation", "classification": {"name": label, "color": [200, 0, 0]}}
            geometry = {"type": kind, "coordinates": coordinates}
            features.append({"type": "Feature", "id": "x", "geometry": geometry, "properties": own})
        features.append({"type": "Feature", "geometry": {}, "properties": {"objectType": "root"}})
        text(root / split / f"{name}.geojson", {"type": "FeatureCollection", "features": features})


def deflated(mask: np.ndarray) -> str:
    """A bool mask [H,W] as Supervisely's SDK packs it: a palette PNG whose colour 0 is transparent."""
    image = Image.fromarray(mask.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    stream = io.BytesIO()
    image.save(stream, "PNG", transparency=0, optimize=0)
    return base64.b64encode(zlib.compress(stream.getvalue())).decode()


def supervisely(root: Path) -> None:
    for name, split in SPLIT.items():
        photo(root / split / "img" / f"{name}.png")
        (x1, y1, x2, y2), dog = SCENE[name]["cat"], ids(name, 0, 1) == 1
        bitmap = {"data": deflated(dog), "origin": [0, 0]}
        exterior = [[x1, y1], [x2 - 0.0001, y1], [x2, y2], [x1, y2]]  # a fraction: continuous coordinates
        objects = [
            {"classTitle": "cat", "geometryType": "polygon", "points": {"exterior": exterior, "interior": []}},
            {"classTitle": "dog", "geometryType": "bitmap", "bitmap": bitmap, "tags": []},
            {"classTitle": "cat", "geometryType": "point", "points": {"exterior": [[3, 3]], "interior": []}},
        ]
        size = {"height": H, "width": W}
        text(root / split / "ann" / f"{name}.png.json", {"description": "", "size": size, "objects": objects})
    classes = [{"title": name, "shape": "any", "color": "#FF0000"} for name in ("cat", "dog")]
    text(root / "meta.json", {"classes": classes, "tags": [], "projectType": "images"})


def darwin(root: Path) -> None:
    """The cat is a polygon of two paths that touch, the dog a mask of the raster layer."""
    for name in SCENE:
        photo(root / "images/farm" / f"{name}.png")
        (x1, y1, x2, y2) = SCENE[name]["cat"]
        flat = (ids(name, 0, 1) == 1).ravel().astype(int)
        ends = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
        dense = [int(v) for a, b in itertools.pairwise(ends) for v in (flat[a], b - a)]
        layer = {"dense_rle": dense, "mask_annotation_ids_mapping": {"m1": 1}, "total_pixels": W * H}
        middle = (y1 + y2) // 2
        paths = [
            [{"x": x, "y": y} for x, y in ((x1, a), (x2, a), (x2, b), (x1, b))] for a, b in ((y1, middle), (middle, y2))
        ]
        about = {"slot_names": ["0"], "properties": []}
        box = {"x": x1, "y": y1, "w": x2 - x1, "h": y2 - y1}
        annotations = [
            {**about, "id": "p1", "name": "cat", "polygon": {"paths": paths}, "bounding_box": box},
            {**about, "id": "m1", "name": "dog", "mask": {}},
            {**about, "id": "r1", "name": "__raster_layer__", "raster_layer": layer},
            {**about, "id": "t1", "name": "sunny", "tag": {}},
        ]
        slot = {
            "type": "image",
            "slot_name": "0",
            "width": W,
            "height": H,
            "source_files": [{"file_name": f"{name}.png"}],
        }
        item = {"name": f"{name}.png", "path": "/farm", "slots": [slot]}
        text(root / f"{name}.json", {"version": "2.0", "item": item, "annotations": annotations})


def open_images(root: Path) -> None:
    """Boxes and masks; masks of twice the image's size."""
    box_lines: dict[str, list[str]] = {}
    mask_lines: dict[str, list[str]] = {}
    for name, split in SPLIT.items():
        whole = {"train": "train", "val": "validation"}[split]
        photo(root / whole / "data" / f"{name}.png")
        for number, (label, (x1, y1, x2, y2)) in enumerate(SCENE[name].items(), 1):
            mid, corners = f"/m/0{label}", f"{x1 / W:.6f},{x2 / W:.6f},{y1 / H:.6f},{y2 / H:.6f}"
            file = f"{name}_m0{label}_{number}.png"
            picture(root / "masks" / file, (ids(name, 1, 2) == number).repeat(2, 0).repeat(2, 1))
            box_lines.setdefault(whole, []).append(f"{name},xclick,{mid},1,{corners},0,1,0,0,0")
            mask_lines.setdefault(whole, []).append(f"{file},{name},{mid},{number},{corners},0.9,")
    heads = (
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
    )
    masks = "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks"
    for whole in box_lines:
        text(root / f"{whole}-annotations-bbox.csv", "\n".join([heads, *box_lines[whole]]))
        text(root / f"{whole}-annotations-object-segmentation.csv", "\n".join([masks, *mask_lines[whole]]))
    text(root / "class-descriptions-boxable.csv", "/m/0cat,cat\n/m/0dog,dog\n")


EXPORTS: dict[str, Callable[[Path], None]] = {
    "run_lengths": run_lengths,
    "geojson": geojson,
    "supervisely": supervisely,
    "darwin": darwin,
    "open_images": open_images,
    "via_3": via_3,
    "via_csv": via_csv,
}
