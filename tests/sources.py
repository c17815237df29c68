"""One small dataset in every source format: the same scene of labelled rectangles, written with the means of each.

Three images of 32 x 24 pixels, split train (a, b) and val (c) where the format has splits. Each has a cat and a dog;
`SCENE` says where, as half-open x1, y1, x2, y2.
"""

import base64
import csv
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from public_sets import SETS
from scene import NAMES, SCENE, SPLIT, H, W, corners, ids, photo, picture, rle, text
from tool_exports import EXPORTS

from segcli.data.dataset import Dataset


def masks_of(root: Path) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Image name -> (category, mask) of every object."""
    data, out = Dataset(root), {}
    for i, name in enumerate(data.file_names):
        found = data.target(i).instances
        out[Path(name).stem] = [
            (data.info.names[label], mask.numpy())
            for label, mask in zip(found.labels.tolist(), found.masks, strict=True)
        ]
    return out


def overlaps(first, second) -> list[float]:
    """The IoU of every object with its best partner of the same class; both must have the same ones."""
    out = []
    assert first.keys() == second.keys()
    for image, own in first.items():
        others = list(second[image])
        assert sorted(name for name, _ in own) == sorted(name for name, _ in others)
        for name, mask in own:
            scored = [((mask & o).sum() / max(1, (mask | o).sum()), j) for j, (n, o) in enumerate(others) if n == name]
            best = max(scored)
            out.append(float(best[0]))
            others.pop(best[1])
    return out


def coco(root: Path) -> None:
    for split in ("train", "val"):
        content: dict[str, Any] = {"images": [], "annotations": []}
        content["categories"] = [
            {"id": 3, "name": "cat", "keypoints": ["nose"], "skeleton": []},
            {"id": 7, "name": "dog"},
        ]
        for key, name in enumerate(n for n in SCENE if SPLIT[n] == split):
            photo(root / split / f"{name}.png")
            content["images"].append({"id": key, "file_name": f"{name}.png", "width": W, "height": H})
            for part, category, (x1, y1, x2, y2) in zip(corners(name), (3, 7), SCENE[name].values(), strict=True):
                one = {"id": len(content["annotations"]), "image_id": key, "category_id": category, "iscrowd": 0}
                one |= {"segmentation": [np.ravel(part).tolist()], "bbox": [x1, y1, x2 - x1, y2 - y1]}
                if category == 7 and name != "a":
                    one["segmentation"] = rle((x1, y1, x2, y2), compressed=name == "b")
                if category == 3:
                    one |= {"keypoints": [x1, y1, 2], "num_keypoints": 1, "dp_I": [1], "dp_U": [0.5], "dp_V": [0.5]}
                    one |= {"dp_x": [128], "dp_y": [128], "dp_masks": [[]] * 14}
                content["annotations"].append({**one, "area": (x2 - x1) * (y2 - y1)})
        text(root / f"annotations/instances_{split}.json", content)


def panoptic(root: Path) -> None:
    for split in ("train", "val"):
        content: dict[str, Any] = {"images": [], "annotations": []}
        content["categories"] = [
            {"id": i, "name": n, "isthing": int(i < 3)} for i, n in ((1, "cat"), (2, "dog"), (9, "sky"))
        ]
        for key, name in enumerate((n for n in SCENE if SPLIT[n] == split), 1):
            photo(root / split / f"{name}.png")
            content["images"].append({"id": key, "file_name": f"{name}.png", "width": W, "height": H})
            numbers = ids(name, 300, 2, background=70000, dtype=np.int32)
            rgb = np.stack([numbers & 255, numbers >> 8 & 255, numbers >> 16], 2).astype(np.uint8)
            picture(root / f"annotations/panoptic_{split}/{name}.png", rgb)
            segments = [{"id": i, "category_id": c, "iscrowd": 0} for i, c in ((300, 1), (2, 2), (70000, 9))]
            entry = {"image_id": key, "file_name": f"{name}.png", "segments_info": segments}
            content["annotations"].append(entry)
        text(root / f"annotations/panoptic_{split}.json", content)


def labelme(root: Path) -> None:
    for name, split in SPLIT.items():
        photo(root / split / f"{name}.png")
        (x1, y1, x2, y2), dog = SCENE[name]["cat"], corners(name)[1]
        stream = io.BytesIO()
        Image.fromarray(np.full((y2 - y1, x2 - x1), 255, np.uint8)).save(stream, "PNG")
        mask = {"label": "cat", "shape_type": "mask", "points": [[x1, y1], [x2 - 1, y2 - 1]]}
        mask["mask"] = base64.b64encode(stream.getvalue()).decode()
        halves = [[dog[0], dog[1], dog[2]], [dog[2], dog[3], dog[0]]]
        group = [{"label": "dog", "group_id": 1, "points": half, "shape_type": "polygon"} for half in halves]
        others = [{"label": "__ignore__", "points": dog}, {"label": "cat", "points": [[1, 1]], "shape_type": "point"}]
        content = {"version": "5.5.0", "shapes": [mask, *group, *others], "imagePath": f"{name}.png", "imageData": None}
        text(root / split / f"{name}.json", {**content, "imageHeight": H, "imageWidth": W})


def via(root: Path) -> None:
    for split in ("train", "val"):
        project: dict[str, Any] = {}
        for name in (n for n in SCENE if SPLIT[n] == split):
            photo(root / split / f"{name}.png")
            (x1, y1, x2, y2), dog = SCENE[name]["cat"], corners(name)[1]
            rect = {"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
            polygon = {"name": "polygon", "all_points_x": [p[0] for p in dog], "all_points_y": [p[1] for p in dog]}
            regions: Any = [
                {"shape_attributes": shape, "region_attributes": {"class": label}}
                for shape, label in ((rect, "cat"), (polygon, "dog"), ({"name": "point", "cx": 1, "cy": 1}, "cat"))
            ]
            if split == "val":
                regions = {str(i): region for i, region in enumerate(regions)}
            project[f"{name}.png123"] = {"filename": f"{name}.png", "size": 123, "regions": regions}
        text(root / split / "via_region_data.json", project if split == "train" else {"_via_img_metadata": project})


def yolo(root: Path) -> None:
    for name, split in SPLIT.items():
        photo(root / "images" / split / f"{name}.png")
        rows = [[label, *(v for x, y in part for v in (x / W, y / H))] for label, part in enumerate(corners(name))]
        text(root / "labels" / split / f"{name}.txt", "".join(" ".join(map(str, row)) + "\n" for row in rows))
    content = {"path": "/somewhere/else", "train": "images/train", "val": "images/val", "names": list(NAMES)}
    text(root / "data.yaml", yaml.safe_dump(content))


def voc(root: Path) -> None:
    for name, split in SPLIT.items():
        photo(root / "JPEGImages" / f"{name}.png")
        kinds = ids(name, 1, 2)
        kinds[23, 31] = 255
        picture(root / "SegmentationClass" / f"{name}.png", kinds, palette=True)
        picture(root / "SegmentationObject" / f"{name}.png", ids(name, 1, 2), palette=True)
        file = root / "ImageSets/Segmentation" / f"{split}.txt"
        text(file, (file.read_text("utf-8") if file.exists() else "") + f"{name}\n")
    text(root / "class_names.txt", "_background_\ncat\ndog\n")


def voc_boxes(root: Path) -> None:
    for name, split in SPLIT.items():
        photo(root / split / f"{name}.png")
        boxes = "".join(
            f"<object><name>{label}</name><difficult>1</difficult><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for label, (x1, y1, x2, y2) in SCENE[name].items()
        )
        size = f"<size><width>{W}</width><height>{H}</height><depth>3</depth></size>"
        text(root / split / f"{name}.xml", f"<annotation><filename>{name}.png</filename>{size}{boxes}</annotation>")


def masks(root: Path) -> None:
    colours = {"cat": (255, 0, 0), "dog": (0, 0, 255)}
    for name, split in SPLIT.items():
        photo(root / split / "images" / f"{name}.png")
        rgb = np.zeros((H, W, 3), np.uint8)
        for label, (x1, y1, x2, y2) in SCENE[name].items():
            rgb[y1:y2, x1:x2] = colours[label]
        picture(root / split / "masks" / f"{name}.png", rgb)
    rows = [["name", "r", "g", "b", "kind"], *([name, *colours[name], "object"] for name in NAMES)]
    with (root / "legend.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def semantic(root: Path) -> None:
    for name, split in SPLIT.items():
        folder = {"train": "training", "val": "validation"}[split]
        photo(root / "images" / folder / f"{name}.png")
        picture(root / "annotations" / folder / f"{name}.png", ids(name, 4, 9))
    text(root / "legend.csv", "value,name,kind\n4,cat,stuff\n9,dog,stuff\n0,other,ignore\n")


def pairs(root: Path) -> None:
    for name, split in SPLIT.items():
        photo(root / "imgs" / split / f"{name}.png")
        picture(root / "Masks" / split / f"{name}_mask.png", ids(name, 4, 9))
    text(root / "legend.csv", "value,name,kind\n4,cat,object\n9,dog,object\n")


def camvid(root: Path) -> None:
    for name, split in SPLIT.items():
        photo(root / split / f"{name}.png")
        picture(root / f"{split}annot" / f"{name}.png", ids(name, 0, 1, background=11))
    text(root / "legend.csv", "value,name,kind\n0,cat,stuff\n1,dog,stuff\n11,void,ignore\n")


def cityscapes(root: Path) -> None:
    for number, (name, split) in enumerate(SPLIT.items()):
        stem = f"{split}/town/town_00000{number}_000019"
        photo(root / "leftImg8bit" / f"{stem}_leftImg8bit.png")
        # Pillow's polygons include their last row and column
        inner = [[[x1, y1], [x2 - 1, y1], [x2 - 1, y2 - 1], [x1, y2 - 1]] for x1, y1, x2, y2 in SCENE[name].values()]
        objects = [{"label": "sky", "polygon": [[0, 0], [W, 0], [W, H], [0, H]]}]
        objects += [{"label": k, "polygon": part} for k, part in zip(("car", "persongroup"), inner, strict=True)]
        text(root / "gtFine" / f"{stem}_gtFine_polygons.json", {"imgHeight": H, "imgWidth": W, "objects": objects})
        if split == "val":
            picture(root / "gtFine" / f"{stem}_gtFine_labelIds.png", ids(name, 26, 24, background=23))
            picture(
                root / "gtFine" / f"{stem}_gtFine_instanceIds.png", ids(name, 26001, 24, background=23, dtype=np.uint16)
            )


def cvat(root: Path) -> None:
    labels = "".join(f"<label><name>{name}</name><color>#33ddff</color><type>any</type></label>" for name in NAMES)
    head = f"<version>1.1</version>\n<meta><project><labels>{labels}</labels></project></meta>"
    images = []
    for number, (name, split) in enumerate(SPLIT.items()):
        photo(root / "images" / split / f"{name}.png")
        (x1, y1, x2, y2), dog = SCENE[name]["cat"], corners(name)[1]
        place = f'left="{x1}" top="{y1}" width="{x2 - x1}" height="{y2 - y1}"'
        runs = f"0, {(x2 - x1) * (y2 - y1)}"
        inner = f'<mask label="cat" source="manual" occluded="0" rle="{runs}" {place} z_order="0"></mask>'
        for half in ([dog[0], dog[1], dog[2]], [dog[2], dog[3], dog[0]]):
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in half)
            inner += f'<polygon label="dog" occluded="0" points="{points}" z_order="0" group_id="1"></polygon>'
        inner += '<polyline label="cat" occluded="0" points="1.00,1.00;5.00,5.00" z_order="0"></polyline>'
        size = f'width="{W}" height="{H}"'
        images.append(f'<image id="{number}" name="{name}.png" subset="{split}" task_id="1" {size}>{inner}</image>')
    body = "\n".join(["<annotations>", head, *images, "</annotations>"])
    text(root / "annotations.xml", f'<?xml version="1.0" encoding="utf-8"?>\n{body}\n')


def pix3d(root: Path) -> None:
    """The model is a tetrahedron, before a camera that looks at the middle of the image."""
    text(root / "model/cat/model.obj", "v -1 -1 0\nv 1 -1 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 4 2\nf 2 4 3\nf 3 4 1\n")
    entries = []
    for name in SCENE:
        photo(root / f"img/{name}.png")
        for number, category in enumerate(NAMES):
            mask = f"mask/{category}/{name}.png"
            picture(root / mask, ids(name, *(255 * (k == number) for k in range(2))))
            one = {"img": f"img/{name}.png", "category": category, "img_size": [W, H], "mask": mask}
            one |= {"model": "model/cat/model.obj", "rot_mat": np.eye(3).tolist(), "trans_mat": [0, 0, 4]}
            x1, y1, x2, y2 = SCENE[name][category]
            entries.append({**one, "focal_length": 32.0, "bbox": [x1, y1, x2, y2], "truncated": False})
    text(root / "pix3d.json", entries)


def brush(mask: np.ndarray) -> list[int]:
    """A bool mask [H,W] as Label Studio's runs of RGBA values: words of 8 bits, runs of up to 16 bits."""
    values = np.repeat(mask.ravel().astype(int) * 255, 4)
    ends = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    bits = f"{len(values):032b}{7:05b}" + f"{15:04b}" * 4
    bits += "".join(f"1{0:02b}{b - a - 1:016b}{values[a]:08b}" for a, b in itertools.pairwise(ends))
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def label_studio(root: Path) -> None:
    tasks = []
    for number, (name, split) in enumerate(SPLIT.items()):
        photo(root / "images" / split / f"{name}.png")
        cat = {"format": "rle", "rle": brush(ids(name, 1, 0) == 1), "brushlabels": ["cat"]}
        points = [[x * 100 / W, y * 100 / H] for x, y in corners(name)[1]]
        values = [("brush", cat), ("polygon", {"points": points, "closed": True, "polygonlabels": ["dog"]})]
        values.append(("keypoint", {"x": 50, "y": 50, "width": 0.3, "keypointlabels": ["cat"]}))
        common = {"original_width": W, "original_height": H, "image_rotation": 0, "to_name": "image"}
        result = [{**common, "id": f"r{i}", "type": f"{k}labels", "value": v} for i, (k, v) in enumerate(values)]
        data = {"image": f"/data/local-files/?d=me/images/{split}/{name}.png"}
        tasks.append({"id": number, "data": data, "annotations": [{"result": result, "was_cancelled": False}]})
    text(root / "project-1-at-2024-05-01.json", tasks)


FORMATS: dict[str, Callable[[Path], None]] = {
    "coco": coco,
    "panoptic": panoptic,
    "labelme": labelme,
    "via": via,
    "cvat": cvat,
    "label_studio": label_studio,
    "yolo": yolo,
    "voc": voc,
    "voc_boxes": voc_boxes,
    "masks": masks,
    "pairs": pairs,
    "semantic": semantic,
    "camvid": camvid,
    "cityscapes": cityscapes,
    "pix3d": pix3d,
    **EXPORTS,
    **SETS,
}
