"""An object's size is one number, whatever a dataset's file says of it and whichever task is scored."""

import json

import pytest
import torch

from segcli.commands.prepare import prepare
from segcli.data.annotations import area_of
from segcli.data.dataset import Dataset
from segcli.metrics.instance import InstanceScores
from segcli.types import Instances, Prediction

SQUARE = [0.0, 0.0, 40.0, 0.0, 40.0, 40.0, 0.0, 40.0]  # 1,600 pixels: medium
CROSS = [[0.0, 18.0, 40.0, 18.0, 40.0, 22.0, 0.0, 22.0], [18.0, 0.0, 22.0, 0.0, 22.0, 40.0, 18.0, 40.0]]  # 304: small
BOX = [0.0, 0.0, 40.0, 40.0]


def strip(root):
    """Take every `area` out of a prepared folder, as one made by an earlier version may have none."""
    for path in (root / "annotations").glob("*.json"):
        data = json.loads(path.read_text(encoding="utf-8"))
        for annotation in data["annotations"]:
            annotation.pop("area", None)
        path.write_text(json.dumps(data), encoding="utf-8")
        path.with_suffix(".index.npz").unlink(missing_ok=True)
    return root


def scores(root, task):
    """AP of every labelled box of the val split but the first, predicted as it is."""
    dataset = Dataset(root, "val", task=task)
    metric = InstanceScores(dataset.info, ("bbox", "segm") if task == "instance" else ("bbox",), 100)
    for i in range(len(dataset)):
        target, annotations = dataset.annotated_target(i)
        found = target.instances[torch.arange(len(target.instances)) > (i == 0) - 1]
        masks = found.rles() if task == "instance" else None
        instances = Instances(found.boxes, found.labels, torch.full((len(found),), 0.9), masks=masks)
        metric.update([Prediction(target.image_id, target.size, instances)], [target], [annotations])
    return {key: value for key, value in metric.compute().items() if key.startswith("bbox")}


def crosses(root):
    """Half of the val objects of a prepared folder become crosses: a box of medium size, a small mask."""
    path = root / "annotations" / "val.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    for n, annotation in enumerate(data["annotations"]):
        annotation |= {"segmentation": CROSS if n % 2 else [SQUARE], "bbox": BOX, "iscrowd": 0}
    path.write_text(json.dumps(data), encoding="utf-8")
    return root


def test_sizes_are_the_masks_whether_boxes_or_masks_are_scored(tiny_copy):
    root = strip(crosses(tiny_copy))
    detection, instance = scores(root, "detection"), scores(root, "instance")
    assert detection == instance
    assert "bbox_APs" in detection
    assert "bbox_APm" in detection


def test_targets_with_masks_and_annotations_without_areas_count_alike(tiny_copy):
    dataset = Dataset(crosses(tiny_copy), "val", task="instance")
    found = []
    for kinds in (("bbox",), ("bbox", "segm")):
        metric = InstanceScores(dataset.info, kinds, 100)
        for i in range(len(dataset)):
            target, annotations = dataset.annotated_target(i)
            bare = [{key: value for key, value in a.items() if key != "area"} for a in annotations]
            own = target.instances
            perfect = Instances(own.boxes, own.labels, torch.ones(len(own)), masks=own.rles())
            metric.update([Prediction(target.image_id, target.size, perfect)], [target], [bare])
        found.append({key: value for key, value in metric.compute().items() if key.startswith("bbox")})
    assert found[0] == found[1]
    assert {"bbox_APs", "bbox_APm"} <= found[0].keys()


def test_prepare_writes_areas_and_readers_give_the_same_without_them(tiny_copy, tmp_path):
    source = strip(crosses(tiny_copy)) / "annotations" / "val.json"
    data = json.loads(source.read_text(encoding="utf-8"))
    data["annotations"][0].pop("segmentation")  # a box alone
    data["annotations"][1]["area"] = 17.5  # as annotated, whatever the mask
    source.write_text(json.dumps(data), encoding="utf-8")
    (tiny_copy / "info.json").unlink()  # any COCO folder
    new = prepare(str(tiny_copy), tmp_path / "new", format="coco")
    file = json.loads((new / "annotations" / "val.json").read_text(encoding="utf-8"))
    assert [a["area"] for a in file["annotations"]] == [1600, 17.5, 1600]
    everywhere = [json.loads(path.read_text(encoding="utf-8")) for path in (new / "annotations").glob("*.json")]
    written = {a["id"]: a["area"] for file in everywhere for a in file["annotations"]}
    assert read(new) == written
    written[data["annotations"][1]["id"]] = 304
    assert read(strip(new)) == written


def read(root):
    """Annotation id -> area as scoring reads it, of both splits."""
    sets = [Dataset(root, split, task="detection") for split in ("train", "val")]
    return {a["id"]: a["area"] for s in sets for i in range(len(s)) for a in s.annotated_target(i)[1]}


@pytest.mark.parametrize(
    ("annotation", "area"),
    [
        ({"area": 7, "bbox": BOX, "segmentation": [SQUARE]}, 7),
        ({"area": 0, "bbox": BOX}, 0),
        ({"area": None, "bbox": BOX, "segmentation": CROSS}, 304),
        ({"bbox": [1, 2, 3.5, 4]}, 14),
        ({"bbox": BOX, "segmentation": []}, 1600),
    ],
)
def test_the_rule(annotation, area):
    assert area_of(annotation, (48, 64)) == area
