"""prepare itself refuses labels that would load and be wrong as a whole: nobody has to ask for --check first."""

import json

import numpy as np
import pytest
from PIL import Image

from segcli.commands.prepare import prepare
from segcli.core.errors import DataError
from segcli.data.dataset import Dataset

H, W = 20, 32


def box_of(i):
    """Column, row, width, height of the one object of image i."""
    return [3 + i, 2 + i, 11, 5]


def runs(i, order):
    mask = np.zeros((H, W), bool)
    x, y, w, h = box_of(i)
    mask[y : y + h, x : x + w] = True
    flat = mask.ravel(order)
    ends = [0, *(np.flatnonzero(np.diff(flat.astype(int))) + 1).tolist(), flat.size]
    return {"size": [H, W], "counts": np.diff(ends).tolist()}


def source(root, crowd=lambda i: 0, order=lambda i: "F"):
    data = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "leaf"}]}
    for i in range(5):
        path = root / "images" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (H, W, 3)).astype(np.uint8)).save(path)
        data["images"].append({"id": i, "file_name": path.name, "width": W, "height": H})
        one = {"id": i + 1, "image_id": i, "category_id": 1, "iscrowd": crowd(i), "bbox": box_of(i), "area": 55}
        data["annotations"].append({**one, "segmentation": runs(i, order(i))})
    (root / "labels.json").write_text(json.dumps(data), encoding="utf-8")
    return str(root)


def test_crowds_alone_are_refused_and_read_as_objects_on_demand(tmp_path):
    path = source(tmp_path / "in", crowd=lambda i: 1)
    with pytest.raises(DataError, match="all of its 5 objects are crowd regions") as error:
        prepare(path, tmp_path / "out")
    assert "--crowd as-objects" in error.value.hint
    assert not (tmp_path / "out").exists()
    fixed = prepare(path, tmp_path / "fixed", fix=True)
    assert not any(a["iscrowd"] for i in range(4) for a in Dataset(fixed, "train").annotations(i))


def test_one_object_beside_crowds_is_enough(tmp_path):
    prepare(source(tmp_path / "in", crowd=lambda i: int(i > 0)), tmp_path / "out")


def test_masks_along_the_rows_are_refused(tmp_path):
    path = source(tmp_path / "in", order=lambda i: "C")
    with pytest.raises(DataError, match="along the rows") as error:
        prepare(path, tmp_path / "out")
    assert "--fix" in error.value.hint
    prepare(path, tmp_path / "fixed", fix=True)


def test_a_few_of_them_are_left_to_the_doctor(tmp_path):
    prepare(source(tmp_path / "in", order=lambda i: "C" if i == 0 else "F"), tmp_path / "out")


def test_crowds_alone_are_refused_of_label_pictures_too(tmp_path):
    """Their boxes are measured on the pixels, and not looked at again; what is a crowd is their own word."""
    scene = tmp_path / "in"
    for i in range(5):
        for place in (scene / "images/10k/train", scene / "labels/ins_seg/bitmasks/train"):
            place.mkdir(parents=True, exist_ok=True)
        photo = np.random.default_rng(i).integers(0, 255, (H, W, 3)).astype(np.uint8)
        Image.fromarray(photo).save(scene / f"images/10k/train/{i}.png")
        x, y, w, h = box_of(i)
        values = np.zeros((H, W, 4), np.uint8)
        values[y : y + h, x : x + w] = 3, 0b10, 0, 7  # a car, a crowd
        Image.fromarray(values).save(scene / f"labels/ins_seg/bitmasks/train/{i}.png")
    with pytest.raises(DataError, match="all of its 5 objects are crowd regions"):
        prepare(str(scene), tmp_path / "out")
