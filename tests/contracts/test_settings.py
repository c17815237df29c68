"""Every setting does something: each argument of each builder, set to another value, changes what the model is or
says."""

import hashlib
import inspect

import pytest
import torch
from batches import batch

from segcli.core import plugins
from segcli.models import build_model

BACKBONE = {"name": "timm", "model": "test_resnet"}
QUERIES = {"backbone": BACKBONE, "dim": 32, "heads": 4, "ffn": 32, "decoder_layers": 2, "queries": 6, "dropout": 0.0}
BOXES = {**QUERIES, "encoder_layers": 1, "levels": 2}
MASKS = {**QUERIES, "task": "panoptic"}
BASE = {  # small models, and the task in which most of their settings count
    "rcnn": {"backbone": BACKBONE, "heads": {"box": {"score": 0.0}, "mask": {}}, "width": 32, "proposals": (20, 20)},
    "rcnn_lite": {"backbone": BACKBONE, "heads": {"iou_box": {"score": 0.0}, "lite_mask": {}}, "width": 32},
    "detr": {**QUERIES, "encoder_layers": 1, "dim": 128, "heads": 8, "task": "instance"},
    "detr_lite": {**BOXES, "task": "detection"},
    "maskformer": {**MASKS, "pixel_decoder": "transformer", "encoder_layers": 1},
    "maskformer_lite": {**BOXES, "task": "panoptic", "points": 32},
    "mask2former_lite": {**MASKS, "pixel_decoder": "transformer", "encoder_layers": 1, "levels": 2, "points": 32},
    "per_pixel": {"backbone": BACKBONE, "dim": 32, "task": "semantic"},
    "per_pixel_plus": {**{k: v for k, v in QUERIES.items() if k != "queries"}, "task": "semantic"},
    "fcn": {"backbone": BACKBONE, "task": "semantic"},
}
OTHER = {  # another value than the one in BASE, or than the default; with what else must be set for it to count
    "backbone": {"backbone": {"name": "timm", "model": "test_efficientnet"}},
    "heads": {"heads": 8},
    "rcnn.heads": {"heads": {"box": {"score": 0.0, "width": 64}, "mask": {}}},
    "rcnn_lite.heads": {"heads": {"iou_box": {"score": 0.0}}, "task": "detection"},
    "detr.heads": {"heads": 16},
    "detr.dim": {"dim": 256},
    "dim": {"dim": 64},
    "rcnn_lite.width": {"width": 64},
    "fine": {"fine": 32},
    "fpn_norm": {"fpn_norm": True},
    "proposals": {"proposals": (10, 10)},
    "samples": {"samples": 8},
    "positive": {"positive": 0.13, "samples": 8},
    "foreground": {"foreground": 0.05},
    "auxiliary": {"auxiliary": False},
    "fcn.auxiliary": {"auxiliary": 0.0},
    "per_pixel_plus.auxiliary": {"auxiliary": 0.0},
    "stage": {"stage": "boxes"},
    "score": {"score": 0.0, "task": "panoptic"},
    "overlap": {"overlap": 0.0, "score": 0.0, "queries": 30},
    "pixel_decoder": {"pixel_decoder": "fpn"},
    "outputs": {"outputs": ["semantic"]},
    "upsampling": {"upsampling": "direct", "task": "instance"},
    "divisor": {"divisor": 64},
    "mask_dim": {"mask_dim": 16},
    "matching": {"matching": "fixed", "task": "semantic", "queries": None},
    "levels": {"levels": 3},
    "deformable": {"deformable": True},
    "selection": {"selection": True},
    "distinct": {"distinct": 0.01, "selection": True, "queries": 40},
    "denoising": {"denoising": 8},
    "groups": {"groups": 2},
    "kernels": {"kernels": True},
    "points": {"points": 16},
}
GIVEN = {"task", "num_classes", "num_things", "num_keypoints"}
CASES = [
    (name, setting)
    for name in plugins.names("model")
    for setting in inspect.signature(plugins.find("model", name).build).parameters
    if setting not in GIVEN
]


def plain(value):
    """Another number than a default."""
    return value + 1 if isinstance(value, int) else value * 2 + 0.1


def says(settings) -> str:
    """A digest of a model's parameters, preprocessing, training losses and predictions."""
    settings = dict(settings)
    task = settings.pop("task", "instance")
    torch.manual_seed(0)
    model = build_model(settings, task=task, num_classes=3, num_things=2)
    found = [repr(model.preprocess), repr([(n, tuple(p.shape)) for n, p in model.named_parameters()])]
    found.append(repr([n for n, p in model.named_parameters() if p.requires_grad]))
    torch.manual_seed(1)
    found.append(repr({key: value.item() for key, value in model.train()(batch((3, 1))).items()}))
    with torch.inference_mode():
        for prediction in model.eval().predict(batch((1, 1))):
            if prediction.instances is not None:
                found += [repr(prediction.instances.boxes.tolist()), repr(prediction.instances.scores.tolist())]
            if prediction.semantic is not None:
                found.append(f"semantic {prediction.semantic.tolist()}")
            if prediction.panoptic is not None:
                found.append(f"panoptic {prediction.panoptic.ids.tolist()}")
    return hashlib.sha256("".join(found).encode()).hexdigest()


@pytest.mark.parametrize(("name", "setting"), CASES)
def test_every_setting_of_a_model_does_something(name, setting):
    base = {"name": name, **BASE[name]}
    default = inspect.signature(plugins.find("model", name).build).parameters[setting].default
    changed = OTHER.get(f"{name}.{setting}") or OTHER.get(setting)
    if changed is None:
        changed = {setting: plain(base.get(setting, default))}
    # what else must be set, is set on both sides
    beside = {key: value for key, value in changed.items() if key != setting}
    base = {key: value for key, value in {**base, **beside}.items() if value is not None}
    assert says({**base, setting: changed[setting]}) != says(base)
