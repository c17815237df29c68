"""Boxes written as corners beside masks: prepare takes them from the masks, and --check does not blame them."""

import json

import numpy as np
from pycocotools import mask as coco_mask
from sources import FORMATS

from segcli.commands.prepare import diagnose, prepare
from segcli.core.coco_json import as_json
from segcli.data.canonical import Record, prepared
from segcli.doctor.repair.mask_boxes import MaskBoxes


def corners(root, split):
    file = root / "annotations" / f"instances_{split}.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    for annotation in data["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x, y, x + w, y + h]
    file.write_text(json.dumps(data), encoding="utf-8")


def boxes(root, split):
    data = json.loads((root / "annotations" / f"{split}.json").read_text(encoding="utf-8"))
    return [annotation["bbox"] for annotation in data["annotations"]]


def test_prepare_takes_them_from_the_masks_and_the_check_says_so(tmp_path):
    FORMATS["coco"](tmp_path / "right")
    FORMATS["coco"](tmp_path / "in")
    for split in ("train", "val"):
        corners(tmp_path / "in", split)
    right, out = (prepare(str(tmp_path / name), tmp_path / f"out {name}") for name in ("right", "in"))
    for split in ("train", "val"):
        assert boxes(out, split) == boxes(right, split)
    assert any("5 boxes fit their masks only as corners" in note for note in prepared(out)["notes"])
    assert not any("corners" in note for note in prepared(right)["notes"])
    found = {f.code: f for f in diagnose(str(tmp_path / "in")).findings}
    assert "box_mismatch" not in found
    assert any("5 boxes fit their masks only as corners" in item.detail for item in found["left_out"].items)


def test_masks_as_rle_and_broken_ones_among_them(tmp_path):
    mask = np.zeros((40, 60), np.uint8, order="F")
    mask[5:30, 10:40] = 1
    rle = as_json(coco_mask.encode(mask))
    given = [
        {"bbox": [10, 5, 40, 30], "segmentation": rle},  # corners
        {"bbox": [10, 5, 30, 25], "segmentation": rle},
        {"bbox": [10, 5, 40, 30], "segmentation": {**rle, "counts": "?"}},
        {"bbox": [10, 5, 40, 30], "segmentation": {"size": [40, 60]}},
        {"bbox": [10, 5, 40, 30]},
    ]
    through = MaskBoxes()
    (record,) = through.read([Record("a.png", (40, 60), tmp_path / "a.png", given)])
    assert [a["bbox"] for a in record.annotations] == [[10, 5, 30, 25]] * 2 + [[10, 5, 40, 30]] * 3
    assert through.replaced == 1
