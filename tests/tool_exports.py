"""The scene of tests/scene.py as annotation platforms and competitions export it; the writers of `sources.FORMATS`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scene import SCENE, SPLIT, corners, ids, photo, text


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


EXPORTS: dict[str, Callable[[Path], None]] = {
    "run_lengths": run_lengths,
    "via_3": via_3,
    "via_csv": via_csv,
}
