"""Every model's `deploy` gives what its `predict` gives, on images of any size."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from batches import DETR, MASKFORMER, RESNET, merged
from torchvision.models.detection.roi_heads import heatmaps_to_keypoints

from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import UsageError
from segcli.export import agreement
from segcli.export.agreement import Comparison
from segcli.export.export import _predict
from segcli.export.graph import Graph, on_fixed_canvas
from segcli.models import build_model
from segcli.models.exported.description import Description
from segcli.models.exported.exported import ExportedModel
from segcli.ops import keypoint_places
from segcli.ops.preprocess_graph import frame
from segcli.types import Batch

LAYERS = {"encoder_layers": 1, "decoder_layers": 2}
LITE = {"backbone": RESNET, "queries": 12, "transformer": {"dim": 64, "heads": 4, "ffn": 64, **LAYERS}}
CHOSEN = {**LITE, "levels": 3, "boxes": {"deformable": True, "selection": True, "distinct": 0.8}}
RCNN = {"name": "rcnn", "backbone": RESNET, "width": 64, "proposals": [50, 50]}
PANOPTIC = {"inference": {"score": 0.2, "overlap": 0.3}}
MODELS = {
    "rcnn": ({**RCNN, "heads": {"box": {"width": 64}, "mask": {"width": 32}}}, "instance"),
    "keypoints": ({**RCNN, "heads": {"box": {"width": 64}, "keypoint": {"width": 32}}}, "keypoints"),
    "rcnn_lite": ({"name": "rcnn_lite", "backbone": RESNET, "heads": {"iou_box": {}, "lite_mask": {}}}, "instance"),
    "lite keypoints": (
        {"name": "rcnn_lite", "backbone": RESNET, "heads": {"iou_box": {}, "lite_keypoint": {}}},
        "keypoints",
    ),
    "detr": (DETR, "detection"),
    "detr with masks": (DETR, "instance"),
    "detr_lite": ({"name": "detr_lite", **CHOSEN}, "detection"),
    "maskformer, semantic": (MASKFORMER, "semantic"),
    "maskformer, instance": (merged(MASKFORMER, {"inference": {"upsampling": "direct"}}), "instance"),
    "maskformer, panoptic": (merged(MASKFORMER, PANOPTIC), "panoptic"),
    "mask2former_lite": ({"name": "mask2former_lite", **LITE, "levels": 2}, "instance"),
    "maskformer_lite, semantic": ({"name": "maskformer_lite", **LITE}, "semantic"),
    "maskformer_lite, instance": ({"name": "maskformer_lite", **CHOSEN}, "instance"),
    "maskformer_lite, panoptic": (
        {"name": "maskformer_lite", **CHOSEN, "kernels": True, "inference": {"score": 0.1, "overlap": 0.3}},
        "panoptic",
    ),
    "fcn": ({"name": "fcn", "backbone": {**RESNET, "dilate_last": 0}}, "semantic"),
    "per_pixel_plus": ({"name": "per_pixel_plus", "backbone": RESNET, "decoder_layers": 1}, "semantic"),
}
SIZES = [(120, 160), (96, 70)]
INFO = DatasetInfo("five", tuple(Category(f"class {i}", i + 1, thing=i < 3) for i in range(5)), {})


def build(name, size=96):
    settings, task = MODELS[name]
    torch.manual_seed(0)
    model = build_model(settings, task=task, num_classes=5, num_things=3, num_keypoints=4).eval()
    model.preprocess = model.preprocess.with_size(size)
    return model, task


@pytest.mark.parametrize("name", MODELS)
def test_deploy_is_predict(name, monkeypatch):
    monkeypatch.setattr(agreement, "LOWEST", 0.01)  # untrained models are sure of nothing
    model, task = build(name)
    canvas = on_fixed_canvas(model)
    graph = Graph(model)
    rng = np.random.default_rng(0)
    comparison = Comparison()
    with torch.inference_mode():
        # where a value falls to the other side in resizing, masked attention may leave out another cell
        for size in SIZES[-1:] if name == "mask2former_lite" else SIZES:
            image = cv2.resize(rng.integers(0, 256, (8, 10, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
            run = lambda pixels: {k: v.numpy() for k, v in graph(torch.from_numpy(pixels)).items()}
            outputs = list(run(image))
            about = Description(
                **{"target": "onnx", "segcli": "", "torch": "", "name": "", "task": task, "classes": []},
                **{"outputs": outputs, "canvas": canvas, "recipe": {}, "environment": {}},
            )
            comparison.add(_predict(model, image), _predict(ExportedModel(about, INFO, run), image))
    found = comparison.result()
    if found.labels is not None:  # classes that are nearly as probable take turns from pixel to pixel
        assert found.labels > 0.995
        found.labels = 1.0
    assert found.problems() == []
    assert found.labels is not None or found.detections > 5


def test_keypoints_lie_where_torchvision_reads_them():
    """Boxes of any size; one peak in each map, anywhere, its borders included."""
    torch.manual_seed(0)
    boxes = torch.tensor([[3.2, 4.1, 90.7, 200.3], [10, 10, 11, 30], [-4, 0, 1300, 700], [5, 5, 61, 61.5]])
    at = torch.rand(len(boxes), 6, 2) * 55
    at[:, 0], at[:, 1] = 0, 55
    grid = torch.arange(56.0)
    apart = (grid - at[..., :1])[..., None, :] ** 2 + (grid - at[..., 1:])[..., None] ** 2
    maps = 12 * torch.exp(-apart / 8) + 0.3 * torch.rand(len(boxes), 6, 56, 56)
    expected, values = heatmaps_to_keypoints(maps, boxes)
    places, highest = keypoint_places.read(maps, boxes)
    assert float((places - expected[..., :2]).abs().max()) < 0.01
    assert torch.allclose(highest, values, atol=1e-4)


def test_proposals_below_the_lowest_score_are_left_out():
    model, _ = build("rcnn")
    framed = frame(model.preprocess, torch.zeros(96, 96, 3, dtype=torch.uint8))
    batch = Batch(framed.image, framed.padding, [(96, 96)], [(96, 96)], [0])
    features = [torch.randn(1, 64, side, side) for side in (24, 12, 6, 3, 2)]
    with torch.inference_mode():
        _, [scores], _ = model.rpn.propose(batch, features)
        model.rpn.score_thresh = float(scores[20])
        [boxes], [scores], _ = model.rpn.propose(batch, features)
        found, found_scores = model.rpn.deploy(framed, features)
    assert len(boxes) == len(found) == 21
    assert torch.allclose(found, boxes)
    assert torch.allclose(found_scores, scores)


def test_ways_of_resizing_without_a_tensor_form_are_refused():
    model, _ = build("fcn")
    model.preprocess = dataclasses.replace(model.preprocess, stretch=(96, 128))
    with pytest.raises(UsageError, match="stretches images"):
        on_fixed_canvas(model)


def test_detr_panoptic_is_refused_by_name():
    model = build_model(DETR, task="panoptic", num_classes=5, num_things=3).eval()
    model.preprocess = model.preprocess.with_size(64)
    with pytest.raises(UsageError, match="panoptic maps can't be exported"):
        Graph(model)(torch.zeros(40, 60, 3, dtype=torch.uint8))
