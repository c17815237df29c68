"""Keypoint R-CNN against torchvision's: same weights, same photographs, same numbers."""

from typing import Any

import numpy as np
import pytest
import torch
import torchvision.models.detection as reference
from in_double import in_double
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from segcli.data.image import read_image
from segcli.engine.checkpoint import load_strict
from segcli.engine.cost import flops
from segcli.fields.keypoints import Keypoints
from segcli.models import build_model
from segcli.models.layers.sampler import BalancedSampler
from segcli.types import Batch, Instances, Target
from segcli.weights.torchvision_rcnn import from_torchvision

SETTINGS: dict[str, Any] = {
    **{"name": "rcnn", "backbone": {"name": "resnet", "depth": 50}, "heads": {"box": {}, "keypoint": {}}},
}


def ours(**more: Any) -> Any:
    counts = {"num_classes": 1, "num_things": 1, "num_keypoints": 17}
    return build_model({**SETTINGS, **more}, task="keypoints", **counts).eval()


@pytest.fixture(scope="module")
def pair() -> Any:
    """Both with the same random weights, norms that do something, and heatmaps with clear peaks."""
    torch.manual_seed(0)
    settings = {"min_size": 128, "max_size": 213, "rpn_post_nms_top_n_test": 100, "box_detections_per_img": 15}
    theirs = reference.keypointrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, box_batch_size_per_image=32, **settings
    )
    for module in list(theirs.backbone.body.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                frozen = FrozenBatchNorm2d(child.num_features)
                frozen.weight.uniform_(0.3, 0.9)
                frozen.running_mean.uniform_(-0.2, 0.2)
                frozen.running_var.uniform_(0.5, 1.5)
                setattr(module, name, frozen)
    with torch.no_grad():
        theirs.roi_heads.box_predictor.cls_score.weight.mul_(30)
        theirs.roi_heads.keypoint_predictor.kps_score_lowres.weight.mul_(30)
    model = ours(proposals=(2000, 100), samples=32)
    load_strict(model, from_torchvision(theirs.state_dict()), "torchvision")
    model.preprocess, model.max_detections = model.preprocess.with_size((128, 213)), 15
    return model, theirs.eval()


def picture(height: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (height // 16 + 1, width // 16 + 1, 3)).astype(np.uint8)
    return np.ascontiguousarray(coarse.repeat(16, 0).repeat(16, 1)[:height, :width])


def batch_of(model: Any, images: list[np.ndarray], targets: list[Target] | None = None) -> Batch:
    rule = model.preprocess
    tensors = [rule.image(image) for image in images]
    padded, padding = rule.pad(tensors)
    sizes, originals = [tuple(t.shape[1:]) for t in tensors], [i.shape[:2] for i in images]
    targets = None if targets is None else [rule.target(t) for t in targets]
    return Batch(
        padded, padding, sizes, originals, [*range(len(images))], targets, [11 + i for i in range(len(images))]
    )


def floats(images: list[np.ndarray]) -> list[torch.Tensor]:
    return [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in images]


def assert_same(pair: Any, images: list[np.ndarray]) -> None:
    given = floats(images)
    with torch.inference_mode(), in_double(pair, batch_of(pair[0], images), given) as (model, theirs, batch):
        expected = theirs(given)
        found, extra = model.predict(batch), model.inspect(batch)["detections"]
    for prediction, own, their in zip(found, extra, expected, strict=True):
        mine = prediction.instances
        assert len(mine) == len(their["scores"]) >= 5
        assert (mine.boxes - their["boxes"]).abs().max() <= 1e-6
        assert (mine.scores - their["scores"]).abs().max() <= 1e-8
        points = mine.fields["keypoints"].points
        assert points.shape == (len(mine), 17, 3)
        assert (points[..., :2] - their["keypoints"][..., :2]).abs().max() <= 1e-2
        assert (own.extra["keypoint_scores"] - their["keypoints_scores"]).abs().max() <= 1e-3
        assert their["keypoints"][..., 0].std() > 3


def test_boxes_scores_and_keypoints(pair):
    assert_same(pair, [picture(240, 352, 1), picture(311, 205, 2)])


def test_on_photographs(pair, shared_data):
    paths = sorted((shared_data / "coco_pose_mini").rglob("*.jpg"))[:2]
    assert_same(pair, [read_image(path) for path in paths])


def test_losses_on_the_same_samples(pair):
    """With hidden and unlabelled keypoints, an object that has none, and an image without objects."""
    model, theirs = pair
    images = [picture(240, 352, 3), picture(200, 300, 4), picture(150, 160, 5)]
    rng = torch.Generator().manual_seed(0)
    targets, their_targets = [], []
    for i, count in enumerate((3, 2, 0)):
        h, w = images[i].shape[:2]
        low = torch.rand(count, 2, generator=rng) * torch.tensor([w, h]) * 0.5
        boxes = torch.cat([low, low + 20 + torch.rand(count, 2, generator=rng) * torch.tensor([w, h]) * 0.4], 1)
        at = low[:, None] + torch.rand(count, 17, 2, generator=rng) * (boxes[:, 2:] - low)[:, None]
        visible = torch.randint(0, 3, (count, 17, 1), generator=rng).float()
        visible[:1] = 0 if i else visible[:1]
        points = torch.cat([at, visible], -1)
        labels = torch.zeros(count, dtype=torch.int64)
        targets.append(Target(i, (h, w), Instances(boxes, labels, fields={"keypoints": Keypoints(points)})))
        their_targets.append({"boxes": boxes, "labels": labels + 1, "keypoints": points.clone()})
    batch = batch_of(model, images, targets)
    for part, size, share, salt in ((theirs.rpn, 256, 0.5, 1), (theirs.roi_heads, 32, 0.25, 2)):
        part.fg_bg_sampler = BalancedSampler(size, share, salt)
        part.fg_bg_sampler.seeds = batch.seeds
    with torch.no_grad():
        expected, losses = theirs.train()(floats(images), their_targets), model.train()(batch)
    model.eval()
    theirs.eval()
    assert losses.keys() == expected.keys()
    for key, value in expected.items():
        assert losses[key].item() == pytest.approx(value.item(), abs=1e-5, rel=1e-5), key
    assert losses["loss_keypoint"] > 1


def test_parameters_and_cost_of_a_region():
    with torch.device("meta"):
        model = ours()
    assert sum(p.numel() for p in model.parameters()) == 59_137_258
    parts = flops(model, (800, 800))["parts"]
    assert parts["roi_heads.heads.keypoint"] == pytest.approx(100 * 3.495, abs=0.1)
