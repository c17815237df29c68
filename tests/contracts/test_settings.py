"""Every setting does something: each argument of each builder, set to another value, changes what the model is or
says."""

import copy
import functools
import hashlib
import inspect
import json

import pytest
import torch
from batches import batch, merged

from segcli.core import plugins
from segcli.core.recipe.recipe_file import put
from segcli.models import build_backbone, build_model
from segcli.models.interface import DetectingHead, Detections

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
    "deeplabv3": {"backbone": BACKBONE, "task": "semantic"},
    "lraspp": {"backbone": BACKBONE, "task": "semantic"},
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
    "lraspp.width": {"width": 64},
    "rpn.anchors": {"rpn.anchors": [[16, 32]] * 5},
    "rpn.candidates": {"rpn.candidates": (4, 4)},
    "rpn.score": {"rpn.score": 0.9},
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
GIVEN = {"task", "num_classes", "num_things", "num_keypoints", "declared"}
DEFAULTS = {name: plugins.defaults(plugins.find("model", name).build) for name in plugins.names("model")}
OWN = "transformers"  # its settings are files: tests/models/test_transformers.py
CASES = [(n, s) for n, settings in DEFAULTS.items() for s in settings if s not in GIVEN and n != OWN]


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
    return _says(json.dumps(settings, sort_keys=True))


@functools.cache
def _says(settings_json: str) -> str:  # most settings of a model are compared with the same base
    settings = json.loads(settings_json)
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


BACKBONES = {  # a small one of each, and another value of each of its settings
    "resnet": (
        {"depth": 50},
        {
            **{"depth": 18, "norm": "trainable", "norm_eps": 0.1, "frozen_stages": 0, "dilate_last": 1},
            **{"stem": "3x3", "multi_grid": (1, 2, 4), "stride_in": "1x1"},
        },
    ),
    "efficientnet_lite0": ({}, {"norm": "frozen", "frozen_stages": 0, "levels": [1, 2]}),
    "timm": (
        {"model": "test_resnet"},
        {"model": "test_efficientnet", "levels": [1, 2], "norm": "trainable", "frozen_stages": 1},
    ),
    "mobilenet_v3_large": ({}, {"levels": (2, 5), "norm": "trainable", "frozen_stages": 0, "dilated": True}),
    "swin": ({}, {"variant": "small", "window": 4, "drop_path": 0.9}),
    "vit": (
        {"model": "vit_tiny_patch16_224"},
        {"model": "deit_tiny_distilled_patch16_224", "width": 64, "drop_path": 0.9},
    ),
}
MESH = {"pooler": "roi_pool", "grid": 8, "width": 32, "stages": 0, "start": "sphere", "pixel_aligned": False}
HEADS = {  # another value of each setting
    "box": {"pooler": "roi_pool", "width": 64, "convolutions": 1, "score": 0.9, "nms": None},
    "iou_box": {"pooler": "roi_pool", "width": 64, "score": 0.9, "nms": None},
    "mask": {"pooler": "roi_pool", "width": 32, "convolutions": 1, "norm": True},
    "lite_mask": {"pooler": "roi_pool"},
    "keypoint": {"pooler": "roi_pool", "width": 32, "convolutions": 1},
    "lite_keypoint": {"pooler": "roi_pool", "width": 32, "convolutions": 1},
    **{f"{kind}densepose": {"pooler": "roi_pool", "width": 32, "convolutions": 1} for kind in ("", "legacy_", "lite_")},
    "mesh": {**MESH, "align": "topleft"},
    "lite_mesh": MESH,
}
SHAPES = {"num_things": 2, "num_keypoints": 2, "channels": 32, "strides": [4, 8, 16, 32, 64], "fine": 32}
SHAPES["declared"] = {}


def own_settings(kind: str, name: str) -> set[str]:
    return {*inspect.signature(plugins.find(kind, name).build).parameters} - {*SHAPES}


def test_every_setting_of_a_backbone_or_head_is_changed_here():
    backbones = {name: own_settings("backbone", name) for name in plugins.names("backbone")}
    assert backbones == {name: {*others} for name, (_, others) in BACKBONES.items()}
    assert {name: own_settings("head", name) for name in plugins.names("head")} == {n: {*v} for n, v in HEADS.items()}


def parameters(model: torch.nn.Module) -> str:
    return repr([(name, tuple(p.shape), p.requires_grad) for name, p in model.named_parameters()])


@functools.cache
def backbone_says(name: str, key: str | None) -> str:
    """A backbone's parameters and its maps in training, with one setting changed."""
    base, others = BACKBONES[name]
    torch.manual_seed(0)
    model = build_backbone({"name": name, **base, **({key: others[key]} if key else {})}).train()
    torch.manual_seed(1)
    with torch.no_grad():
        maps = model(torch.randn(2, 3, 64, 96))
    return parameters(model) + repr([(tuple(m.shape), m.double().sum().item()) for m in maps])


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, (_, others) in BACKBONES.items() for key in others])
def test_every_setting_of_a_backbone_does_something(name, key):
    assert backbone_says(name, key) != backbone_says(name, None)


def head_says(name: str, key: str | None) -> str:
    """A head's parameters and its predictions for fixed features, with one setting changed."""
    torch.manual_seed(0)
    settings = {key: HEADS[name][key]} if key else {}
    head = plugins.call(plugins.find("head", name).build, settings, f"heads.{name}", **SHAPES).eval()
    torch.manual_seed(1)
    for parameter in head.parameters():
        if not parameter.any():  # a layer that begins at zero would hide what lies before it
            torch.nn.init.normal_(parameter, std=0.1)
    features = [torch.randn(1, 32, 128 // stride, 128 // stride) for stride in SHAPES["strides"]]
    boxes = torch.tensor([[8.0, 9, 60, 70], [8, 9, 61, 72], [40, 30, 120, 119]])
    detections = [Detections(boxes, torch.tensor([0, 0, 1]), torch.tensor([0.9, 0.8, 0.7]))]
    with torch.inference_mode():
        if isinstance(head, DetectingHead):
            detections = head.detect(features, [boxes], [torch.ones(3, 2)], [(128, 128)], 10)
        head.predict(features, detections)
    found = detections[0]
    return parameters(head) + repr([found.boxes.tolist(), {k: v.double().sum().item() for k, v in found.extra.items()}])


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, others in HEADS.items() for key in others])
def test_every_setting_of_a_head_does_something(name, key):
    assert head_says(name, key) != head_says(name, None)
