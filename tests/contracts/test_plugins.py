"""Every plugin in the folders builds; every model trains on any batch and predicts on original pixels."""

import math
from pathlib import Path

import pytest
import torch
from batches import TRUNK, batch
from sources import FORMATS

from segcli.core import plugins
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.fields import field
from segcli.metrics import build_metric
from segcli.metrics.interface import Metric
from segcli.models import build_backbone, build_model
from segcli.models.interface import Backbone, DetectingHead, RoIHead
from segcli.types import (
    Checked,
    Drawn,
    Field,
    Instances,
    Keyed,
    Labelled,
    Moved,
    Origin,
    Perfect,
    Rotatable,
    Store,
    Written,
)

RESNET = {"name": "resnet", "depth": 18}
LITE = {"name": "efficientnet_lite0"}
VIT = {"name": "vit", "model": "deit_tiny_distilled_patch16_224", "width": 64}
SWIN = {"name": "swin"}
WIDTHS = {"dim": 64, "heads": 4, "ffn": 64}
TRANSFORMER = {**WIDTHS, "encoder_layers": 1, "decoder_layers": 2}
SMALL = {"backbone": TRUNK, "queries": 12, "transformer": TRANSFORMER}
BOXES = {**SMALL, "levels": 3}
DETR = {"queries": 12, "transformer": {**TRANSFORMER, "dim": 128, "heads": 8}}  # whose masks need the width
CHOSEN = {**BOXES, "boxes": {"deformable": True, "selection": True, "denoising": 16}}
GROUPS = {**BOXES, "boxes": {"deformable": True, "groups": 3}}
POINTS = {**SMALL, "loss": {"points": 32}}
FEW = {"width": 64, "proposals": [50, 50]}
LITE_HEADS = {"iou_box": {}, "lite_mask": {}}
MODELS = {
    "rcnn": [
        ({**FEW, "backbone": TRUNK, "heads": {"box": {"width": 64}, "mask": {"width": 32}}}, "instance"),
        ({**FEW, "backbone": TRUNK, "heads": {"box": {"width": 64, "pooler": "roi_pool"}}}, "detection"),
        ({**FEW, "backbone": VIT, "heads": {"box": {"width": 64}, "mask": {"width": 32}}}, "instance"),
    ],
    "rcnn_lite": [({"backbone": backbone, "heads": LITE_HEADS}, "instance") for backbone in (LITE, VIT)],
    "detr": [
        *(({**DETR, "backbone": backbone}, "detection") for backbone in (TRUNK, VIT, SWIN)),
        *(({**DETR, "backbone": backbone}, "instance") for backbone in (TRUNK, VIT)),
        ({**DETR, "backbone": TRUNK, "stage": "boxes"}, "instance"),
    ],
    "detr_lite": [
        *((settings, "detection") for settings in (CHOSEN, BOXES, GROUPS)),
        ({**CHOSEN, "backbone": VIT, "levels": 1}, "detection"),
    ],
    "maskformer": [
        *(({**SMALL, "backbone": TRUNK}, task) for task in ("semantic", "instance", "panoptic")),
        ({**SMALL, "backbone": VIT}, "panoptic"),
        (POINTS, "instance"),
    ],
    "maskformer_lite": [
        *((CHOSEN, task) for task in ("semantic", "instance", "panoptic")),
        (GROUPS, "instance"),
        ({**CHOSEN, "kernels": True}, "panoptic"),
    ],
    "mask2former_lite": [
        *((POINTS, task) for task in ("semantic", "instance", "panoptic")),
        ({**SMALL, "pixel_decoder": "transformer"}, "panoptic"),
    ],
    "per_pixel": [({"backbone": backbone}, "semantic") for backbone in (RESNET, VIT)],
    "per_pixel_plus": [({"backbone": LITE, **WIDTHS}, "semantic")],
    "fcn": [
        *(({"backbone": backbone}, "semantic") for backbone in (VIT, SWIN)),
        ({"backbone": VIT, "auxiliary": 0}, "semantic"),
    ],
    "deeplabv3": [({"backbone": LITE}, "semantic")],
    "lraspp": [({}, "semantic"), ({"backbone": LITE}, "semantic")],
    "transformers": [],  # every architecture, in tests/models/test_transformers.py
}
CASES = [(name, settings, task) for name, cases in MODELS.items() for settings, task in cases]
BACKBONES = {
    "resnet": {"depth": 18},
    "efficientnet_lite0": {},
    "timm": {"model": "resnet10t", "norm": "frozen"},
    "mobilenet_v3_large": {},
    "swin": {"variant": "tiny"},
    "vit": {"model": "vit_tiny_patch16_224"},
}


@pytest.mark.parametrize(("name", "settings", "task"), CASES)
def test_models_learn_from_every_batch_and_predict_on_original_pixels(name, settings, task):
    torch.manual_seed(0)
    model = build_model({"name": name, **settings}, task=task, num_classes=3, num_things=2)
    model.train()
    for counts in ((3, 1), (0, 2), (0, 0)):
        model.zero_grad(set_to_none=True)
        losses = model(batch(counts))
        assert all(value.ndim == 0 and math.isfinite(value.item()) for value in losses.values()), losses
        sum(losses.values()).backward()
        missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not missing, f"no gradient with {counts} objects: {missing[:5]}"
    model.eval()
    with torch.inference_mode():
        predictions = model.predict(batch((1, 1)))
    for prediction, size, key in zip(predictions, [(123, 101), (70, 105)], [7, 8], strict=True):
        assert (prediction.size, prediction.image_id) == (size, key)
        if prediction.instances is not None:
            found = prediction.instances
            assert (found.boxes[:, 2:] <= torch.tensor([size[1], size[0]]) + 1e-3).all()
            assert (found.scores[:-1] >= found.scores[1:]).all()
            if task == "instance":
                assert all(tuple(r["size"]) == size for r in found.rles())
        if task == "semantic":
            assert prediction.semantic.shape == size
        if task == "panoptic":
            assert prediction.panoptic.ids.shape == size


def test_every_model_plugin_is_listed_here():
    assert set(plugins.names("model")) == set(MODELS)


def test_every_backbone_plugin_is_listed_here():
    assert set(plugins.names("backbone")) == set(BACKBONES)


def test_every_head_plugin_is_tested():
    """In a model above, or in a file of its own."""
    above = {head for name in ("rcnn", "rcnn_lite") for settings, _ in MODELS[name] for head in settings["heads"]}
    own = {path.stem.removeprefix("test_") for path in (Path(__file__).parent.parent / "models").glob("test_*.py")}
    assert {name.removeprefix("lite_").removeprefix("legacy_") for name in plugins.names("head")} <= above | own


def test_every_converter_plugin_has_a_source_that_is_tested():
    """Those of tests/sources.py are converted, damaged and taken round by the tests of formats."""
    names = set(plugins.names("format"))
    assert names == {name if name in names else name.rpartition("_")[0] for name in FORMATS}


INFO = DatasetInfo("d", (Category("a", 1, keypoints=("x", "y")), Category("b", 2)), {})
GIVEN = {"num_things": 2, "num_keypoints": 2, "channels": 32, "strides": [4, 8, 16, 32, 64], "fine": 16}
GIVEN["declared"] = {}


@pytest.mark.parametrize("name", plugins.names("head"))
def test_heads_are_what_the_interface_says(name):
    head = plugins.call(plugins.find("head", name).build, {}, name, **GIVEN)
    assert isinstance(head, RoIHead)
    assert isinstance(head, DetectingHead) == ("box" in name)
    parameters = [key for key, _ in head.named_parameters()]
    assert all(any(key.startswith(layer) for key in parameters) for layer in head.class_layers)


@pytest.mark.parametrize("name", plugins.names("metric"))
def test_metrics_are_what_the_interface_says(name):
    given = {"info": INFO, "max_detections": 10, "resample": True}
    metric, other = build_metric(name, **given), build_metric(name, **given)
    assert isinstance(metric, Metric)
    metric.update([], [])
    metric.merge(other)
    assert all(0 <= value <= 1 for value in metric.compute().values())


def test_fields_are_what_the_interface_says():
    origin, objects = Origin(INFO, (9, 9), Path("files"), "labels"), Instances.empty()
    for name in plugins.names("field"):
        kind = field(name)
        assert issubclass(kind, Field)
        assert all(
            issubclass(kind, one) for one in (Checked, Drawn, Keyed, Labelled, Moved, Perfect, Rotatable, Written)
        )
        none = kind.read([], origin)[objects.labels].flip(9).crop(0, 0, 9, 9).scale(2, 2).to("cpu")
        assert isinstance(none, Field)
        assert len(none) == 0
        assert none.write([], Store(INFO, 1, None)) == []


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_backbones_return_what_they_declare(name):
    backbone = build_backbone({"name": name, **BACKBONES[name]}).eval()
    assert isinstance(backbone, Backbone)
    with torch.inference_mode():
        features = backbone(torch.randn(1, 3, 96, 128))
    assert [f.shape[1] for f in features] == backbone.channels
    assert [96 // f.shape[2] for f in features] == backbone.strides
    trainable = [p for p in backbone.parameters() if p.requires_grad]
    assert len(trainable) > len(list(backbone.parameters())) / 2  # what is frozen by default is the beginning
