"""300 classes through every command: 255 is one of them, and what is unlabelled stays apart from it."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO

from segcli.data.dataset import Dataset

TRUNK = {"name": "timm", "model": "test_resnet"}
MODELS = {
    "per_pixel": {"name": "per_pixel", "dim": 32, "backbone": TRUNK},
    "maskformer": {
        "name": "maskformer",
        "transformer": {"dim": 32, "decoder_layers": 1},
        "queries": 4,
        "backbone": TRUNK,
    },
}
AUGMENT = {"flip": 0.5, "rotate": 10}


@pytest.mark.parametrize("model", MODELS)
def test_300_classes_from_masks_to_pictures(segcli, tmp_path, model):
    cells = np.full(20 * 16, 65535, np.uint16)
    cells[:300] = np.arange(300)
    labels = np.kron(cells.reshape(20, 16), np.ones((4, 4), np.uint16))
    rng = np.random.default_rng(0)
    for split in ("training", "validation"):
        for kind in ("images", "annotations"):
            (tmp_path / "s" / kind / split).mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (*labels.shape, 3), np.uint8)).save(
            tmp_path / f"s/images/{split}/{split}.png"
        )
        Image.fromarray(labels).save(tmp_path / f"s/annotations/{split}/{split}.png")
    (tmp_path / "s/classes.txt").write_text("".join(f"class {i}\n" for i in range(300)), encoding="utf-8")
    result = segcli("prepare", "s", "--out", "data/many")
    assert result.code == 0, result.err
    recipe = {
        **{
            "name": "many",
            "task": "semantic",
            "data": {"root": "data/many", "size": 64, "augment": AUGMENT},
        },
        "model": MODELS[model],
        "train": {"steps": 2, "batch_size": 1, "log_every": 1, "evaluations": 1},
        "hardware": {"device": "cpu", "workers": 0},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    for command in (
        ("train", "r.yaml", "-q"),
        ("eval", "runs/many"),
        ("predict", "runs/many", "s/images/validation", "--out", "p"),
        ("visualize", "data", "data/many", "--out", "pictures"),
        ("visualize", "predictions", "runs/many"),
        ("compare", "runs/many"),
    ):
        result = segcli(*command)
        assert result.code == 0, (command, result.err)
    scores = json.loads((tmp_path / "runs/many/metrics.json").read_text(encoding="utf-8"))
    assert scores["metrics"]["mIoU"] < 0.1, "two steps"
    with Image.open(tmp_path / "p/masks/validation.png") as mask:
        found = np.asarray(mask)
    assert found.dtype == np.uint16
    assert found.max() < 300
    target = Dataset(tmp_path / "data/many", "val", task="semantic").target(0)
    assert {0, 254, 255, 256, 299, 65535} == set(target.semantic.unique().tolist()) - {*range(1, 254), *range(257, 299)}
    with Image.open(tmp_path / "runs/many/predictions/val_semantic/validation/validation.png") as stored:
        assert np.asarray(stored).dtype == np.uint16


def test_300_classes_of_objects_from_outlines_to_panoptic_maps(segcli, tmp_path):
    """As LVIS has them: the panoptic map of a dataset that has only objects, in which every class is a thing."""
    chosen, side = (11, 255, 256, 281), 24
    rng = np.random.default_rng(0)
    images = [{"id": i + 1, "file_name": f"{i}.png", "width": 4 * side, "height": side} for i in range(4)]
    annotations = []
    for image in images:
        pixels = rng.integers(0, 256, (side, 4 * side, 3), np.uint8)
        (tmp_path / "s/images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "s/images" / image["file_name"])
        for k, number in enumerate(chosen):
            x, far = k * side + 2, k * side + side - 2
            outline = [x, 2, far, 2, far, side - 2, x, side - 2]
            own = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": number, "iscrowd": 0}
            annotations.append({**own, "segmentation": [outline], "bbox": [x, 2, side - 4, side - 4], "area": 400})
    classes = [{"id": k + 1, "name": f"class {k}"} for k in range(300)]
    labels = {"images": images, "annotations": annotations, "categories": classes}
    (tmp_path / "s/instances.json").write_text(json.dumps(labels), encoding="utf-8")
    recipe = {
        **{"name": "many", "task": "panoptic", "data": {"root": "data/many", "size": 64, "augment": AUGMENT}},
        "model": {**MODELS["maskformer"], "inference": {"score": 0.0}},
        "train": {"steps": 2, "batch_size": 1, "log_every": 1, "evaluations": 1},
        "hardware": {"device": "cpu", "workers": 0},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    for command in (
        ("prepare", "s/instances.json", "--out", "data/many"),
        ("train", "r.yaml", "-q"),
        ("eval", "runs/many"),
        ("predict", "runs/many", "s/images", "--out", "p"),
    ):
        result = segcli(*command)
        assert result.code == 0, (command, result.err)
    for split in ("train", "val"):
        data = Dataset(tmp_path / "data/many", split, task="panoptic")
        for i in range(len(data)):
            assert sorted(s.label for s in data.target(i).panoptic.segments) == [10, 254, 255, 280]
    assert "PQ" in json.loads((tmp_path / "runs/many/metrics.json").read_text(encoding="utf-8"))["metrics"]
    found = json.loads((tmp_path / "runs/many/predictions/val_panoptic.json").read_text(encoding="utf-8"))
    numbers = {s["category_id"] for entry in found["annotations"] for s in entry["segments_info"]}
    assert numbers <= {*range(1, 301)}
    opened = COCO(tmp_path / "p/predictions.json")
    assert len(opened.imgs) == 4
