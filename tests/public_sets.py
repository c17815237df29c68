"""The scene of tests/scene.py laid out as public datasets are; the writers of `sources.FORMATS`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scene import NAMES, SCENE, SPLIT, H, W, ids, photo, picture, rle, text

FOLDERS = {"train": "training", "val": "validation"}


def sa1b(root: Path) -> None:
    for key, (name, boxes) in enumerate(SCENE.items()):
        photo(root / SPLIT[name] / f"{name}.png")
        listed = []
        for number, (x1, y1, x2, y2) in enumerate(boxes.values()):
            one = {"id": key * 10 + number, "segmentation": rle((x1, y1, x2, y2), True), "area": (x2 - x1) * (y2 - y1)}
            one |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "predicted_iou": 0.9, "stability_score": 0.95}
            listed.append({**one, "point_coords": [[x1 + 0.5, y1 + 0.5]], "crop_box": [0, 0, W, H]})
        image = {"image_id": key, "width": W, "height": H, "file_name": f"{name}.png"}
        text(root / SPLIT[name] / f"{name}.json", {"image": image, "annotations": listed})


def ade20k(root: Path) -> None:
    """Class 401 is R = 10, G = 145; 1831 is 70, 39."""
    for name, split in SPLIT.items():
        folder = root / "images/ADE" / FOLDERS[split] / "street"
        photo(folder / f"{name}.png")
        channels = [ids(name, *values) for values in ((10, 70), (145, 39), (90, 180))]
        picture(folder / f"{name}_seg.png", np.stack(channels, 2))
        picture(folder / f"{name}_parts_1.png", np.zeros((H, W, 3), np.uint8))
        picture(folder / name / f"instance_000_{name}.png", ids(name, 255, 0))
        entries = [
            {"id": number, "name": called, "name_ndx": key, "raw_name": called, "parts": {"part_level": level}}
            for number, (called, key, level) in enumerate(
                [("cat, true cat", 401, 0), ("dog", 1831, 0), ("ear", 900, 1)]
            )
        ]
        text(folder / f"{name}.json", {"annotation": {"filename": f"{name}.png", "object": entries}})


def ade20k_2016(root: Path) -> None:
    """As of 2021, without jsons: the class as its name alone, and what is drawn last, a part, has a line, too."""
    for name, split in SPLIT.items():
        folder = root / "images" / FOLDERS[split] / "s" / "street"
        photo(folder / f"{name}.png")
        channels = [ids(name, *values) for values in ((10, 70), (145, 39), (128, 255))]
        picture(folder / f"{name}_seg.png", np.stack(channels, 2))
        picture(folder / f"{name}_parts_1.png", np.zeros((H, W, 3), np.uint8))
        lines = ['001 # 0 # 0 # cat, true cat # cat # ""', '002 # 0 # 1 # dog # puppy # "barking"']
        text(folder / f"{name}_atr.txt", "\n".join([*lines, '003 # 1 # 0 # ear # ear # ""']) + "\n")


MAPILLARY = [
    {"name": "animal--cat", "readable": "cat", "instances": True, "evaluate": True, "color": [165, 42, 42]},
    {"name": "animal--dog", "readable": "dog", "instances": True, "evaluate": True, "color": [0, 192, 0]},
    {"name": "nature--sky", "readable": "Sky", "instances": False, "evaluate": True, "color": [70, 130, 180]},
    {"name": "void--unlabeled", "readable": "Unlabeled", "instances": False, "evaluate": False, "color": [0, 0, 0]},
]


def mapillary(root: Path) -> None:
    """The cat is object 0 of class 0."""
    text(root / "config_v2.0.json", {"labels": MAPILLARY, "version": "2.0", "mapping": "public"})
    for name, split in SPLIT.items():
        folder = root / FOLDERS[split]
        photo(folder / "images" / f"{name}.png")
        picture(folder / "v2.0/labels" / f"{name}.png", ids(name, 0, 1, background=2), palette=True)
        values = ids(name, 0, 256 + 3, background=512, dtype=np.uint16)
        picture(folder / "v2.0/instances" / f"{name}.png", values)


def bdd100k(root: Path) -> None:
    """A car, and a bus that is occluded and truncated."""
    for name, split in SPLIT.items():
        photo(root / "images/10k" / split / f"{name}.png")
        channels = [ids(name, *values) for values in ((3, 5), (0, 12), (1, 0), (7, 9))]
        picture(root / "labels/ins_seg/bitmasks" / split / f"{name}.png", np.stack(channels, 2))
        picture(root / "labels/sem_seg/masks" / split / f"{name}.png", ids(name, 13, 15, background=255))


SETS: dict[str, Callable[[Path], None]] = {"sa1b": sa1b, "instance_maps": ade20k}
assert NAMES == ("cat", "dog")  # what the classes of ADE20K and Mapillary Vistas are called here
