"""Every setting does something: each argument of each builder, set to another value, changes what the model is or
says."""

import copy
import hashlib

import pytest
import torch
from batches import batch, merged

from segcli.core import plugins
from segcli.core.recipe.recipe_file import put
from segcli.models import build_model

BACKBONE = {"name": "timm", "model": "test_resnet"}
WIDTHS = {"dim": 32, "heads": 4, "ffn": 32, "decoder_layers": 2, "dropout": 0.0}
QUERIES = {"backbone": BACKBONE, "queries": 6, "transformer": {**WIDTHS, "encoder_layers": 1}}
BOXES = {**QUERIES, "levels": 2}
MASKS = {**QUERIES, "pixel_decoder": "transformer", "task": "panoptic"}
BASE = {  # small models, and the task in which most of their settings count
    "rcnn": {"backbone": BACKBONE, "heads": {"box": {"score": 0.0}, "mask": {}}, "width": 32, "proposals": (20, 20)},
    "rcnn_lite": {"backbone": BACKBONE, "heads": {"iou_box": {"score": 0.0}, "lite_mask": {}}, "width": 32},
    "detr": merged(QUERIES, {"transformer": {"dim": 128, "heads": 8}, "task": "instance"}),
    "detr_lite": {**BOXES, "task": "detection"},
    "maskformer": MASKS,
    "maskformer_lite": {**BOXES, "task": "panoptic", "loss": {"points": 32}},
    "mask2former_lite": {**MASKS, "levels": 2, "loss": {"points": 32}},
    "per_pixel": {"backbone": BACKBONE, "dim": 32, "task": "semantic"},
    "per_pixel_plus": {"backbone": BACKBONE, **WIDTHS, "task": "semantic"},
    "fcn": {"backbone": BACKBONE, "task": "semantic"},
}
OTHER = {  # another value than the one in BASE, or than the default; with what else must be set for it to count
    "backbone": {"backbone": {"name": "timm", "model": "test_efficientnet"}},
    "rcnn.heads": {"heads": {"box": {"score": 0.0, "width": 64}, "mask": {}}},
    "rcnn_lite.heads": {"heads": {"iou_box": {"score": 0.0}}, "task": "detection"},
    "detr.transformer.heads": {"transformer.heads": 16},
    "detr.transformer.dim": {"transformer.dim": 256},
    "transformer.heads": {"transformer.heads": 8},
    "transformer.dim": {"transformer.dim": 64},
    "per_pixel.dim": {"dim": 64},
    "per_pixel_plus.dim": {"dim": 64},
    "per_pixel_plus.heads": {"heads": 8},
    "rcnn_lite.width": {"width": 64},
    "fine": {"fine": 32},
    "fpn_norm": {"fpn_norm": True},
    "proposals": {"proposals": (10, 10)},
    "samples": {"samples": 8},
    "positive": {"positive": 0.13, "samples": 8},
    "foreground": {"foreground": 0.05},
    "loss.auxiliary": {"loss.auxiliary": False},
    "loss.points": {"loss.points": 16},
    "auxiliary": {"auxiliary": 0.0},
    "stage": {"stage": "boxes"},
    "inference.score": {"inference.score": 0.0, "task": "panoptic"},
    "inference.overlap": {"inference.overlap": 0.0, "inference.score": 0.0, "queries": 30},
    "inference.outputs": {"inference.outputs": ["semantic"]},
    "inference.upsampling": {"inference.upsampling": "direct", "task": "instance"},
    "pixel_decoder": {"pixel_decoder": "fpn"},
    "divisor": {"divisor": 64},
    "mask_dim": {"mask_dim": 16},
    "matching": {"matching": "fixed", "task": "semantic", "queries": None},
    "levels": {"levels": 3},
    "boxes.deformable": {"boxes.deformable": True},
    "boxes.selection": {"boxes.selection": True},
    "boxes.distinct": {"boxes.distinct": 0.01, "boxes.selection": True, "queries": 40},
    "boxes.denoising": {"boxes.denoising": 8},
    "boxes.groups": {"boxes.groups": 2},
    "kernels": {"kernels": True},
}
GIVEN = {"task", "num_classes", "num_things", "num_keypoints"}
DEFAULTS = {name: plugins.defaults(plugins.find("model", name).build) for name in plugins.names("model")}
CASES = [(name, setting) for name, settings in DEFAULTS.items() for setting in settings if setting not in GIVEN]


def plain(value):
    """Another number than a default."""
    return value + 1 if isinstance(value, int) else value * 2 + 0.1


def at(settings, key):
    """The value of "a" or "a.b"; None where it is not set."""
    for part in key.split("."):
        settings = (settings or {}).get(part)
    return settings


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
    base = copy.deepcopy({"name": name, **BASE[name]})
    changed = OTHER.get(f"{name}.{setting}") or OTHER.get(setting)
    if changed is None:
        before = at(base, setting)
        changed = {setting: plain(DEFAULTS[name][setting] if before is None else before)}
    other = copy.deepcopy(base)
    for key, value in changed.items():
        for settings in (base, other):  # what else must be set, is set on both sides
            if key != setting or settings is other:
                put(settings, key, value)
    # null stands for a default that tasks differ in
    base, other = ({k: v for k, v in s.items() if v is not None or k == setting} for s in (base, other))
    assert says(other) != says(base)
