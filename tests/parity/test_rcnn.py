"""Our R-CNN family against torchvision's: same weights, same photographs, same numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.models.detection as reference
from in_double import in_double
from pycocotools import mask as coco_mask
from torch import nn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from segcli.data.image import read_image
from segcli.engine.checkpoint import load_strict
from segcli.engine.cost import flops
from segcli.models import build_model
from segcli.models.layers.sampler import BalancedSampler
from segcli.types import Batch, Instances, Target
from segcli.weights.torchvision_rcnn import from_torchvision

THINGS = 90  # torchvision has 91 classes, the first of them background: its label k is our k - 1
R50: dict[str, Any] = {"name": "resnet", "depth": 50}
R101 = {"name": "resnet", "depth": 101}
TRAINABLE = {"name": "resnet", "depth": 50, "norm": "trainable"}
FASTER: dict[str, Any] = {"backbone": R50, "heads": {"box": {}}}
MASK: dict[str, Any] = {"backbone": R50, "heads": {"box": {}, "mask": {}}}
V2 = {"backbone": TRAINABLE, "fpn_norm": True, "rpn": {"convolutions": 2}}
FASTER_V2 = {**V2, "heads": {"box": {"convolutions": 4}}}
MASK_V2 = {**V2, "heads": {"box": {"convolutions": 4}, "mask": {"norm": True}}}
MOBILENET: dict[str, Any] = {
    "backbone": {"name": "mobilenet_v3_large", "levels": [4, 5]},
    "heads": {"box": {}},
    "rpn": {"anchors": [[32, 64, 128, 256, 512]] * 3, "score": 0.05},
}
LOSSES = {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask"}
SIZE = (128, 213)  # shortest and longest side, in the proportion of 800 and 1333


@pytest.fixture(autouse=True)
def one_thread():
    """How convolutions add up depends on how many threads are free, and boxes of random weights on the last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ours(settings: dict[str, Any], **more: Any) -> Any:
    task = "instance" if "mask" in settings["heads"] else "detection"
    model = build_model({"name": "rcnn", **settings, **more}, task=task, num_classes=THINGS, num_things=THINGS)
    return model.eval()


def theirs(name: str, *, eps: float = 1e-5, size: tuple[int, int] = SIZE, **settings: Any) -> Any:
    settings |= {"min_size": size[0], "max_size": size[1]}
    if name == "maskrcnn_resnet101_fpn":
        body = resnet_fpn_backbone(backbone_name="resnet101", weights=None, norm_layer=FrozenBatchNorm2d)
        return reference.MaskRCNN(body, THINGS + 1, **settings).eval()
    model = getattr(reference, name)(weights=None, weights_backbone=None, **settings)
    if not name.endswith("v2"):  # official weights come with frozen norms, a model without weights has trainable ones
        for module in list(model.backbone.body.modules()):
            for child_name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, child_name, FrozenBatchNorm2d(child.num_features, eps=eps))
    return model.eval()


def pair(
    name: str,
    settings: dict[str, Any],
    *,
    eps: float = 1e-5,
    variance: float = 1.0,
    proposals: int = 200,
    size: tuple[int, int] = SIZE,
) -> Any:
    """Our model and torchvision's with the same random weights, at most `proposals` and 20 detections an image."""
    torch.manual_seed(0)  # of some weights all detections are of two classes, whatever tests ran before
    reference_model = theirs(name, eps=eps, size=size, rpn_post_nms_top_n_test=proposals, box_detections_per_img=20)
    randomise(reference_model, variance)
    model = ours(settings, proposals=(2000, proposals))
    load_strict(model, from_torchvision(reference_model.state_dict()), name)
    model.preprocess, model.max_detections = model.preprocess.with_size(size), 20
    return model, reference_model


@torch.inference_mode()
def randomise(model: Any, variance: float) -> None:
    """Random statistics in every norm; outputs spread until detections are many, sure and unsure, of many classes.

    With a `variance` near 0 the norms' eps matters.
    """
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, (FrozenBatchNorm2d, nn.BatchNorm2d)):
            n = len(module.weight)
            uniform = lambda low, high, n=n: low + (high - low) * torch.rand(n, generator=generator)
            module.weight.copy_(uniform(0.3, 0.9) * variance**0.5)
            module.bias.copy_(uniform(-0.2, 0.2))
            module.running_mean.copy_(uniform(-0.2, 0.2))
            module.running_var.copy_(uniform(0.5, 1.5) * variance)
    heads = model.roi_heads
    wanted = {model.rpn.head.cls_logits: 2.0, model.rpn.head.bbox_pred: 0.3}
    wanted |= {heads.box_predictor.cls_score: 2.0, heads.box_predictor.bbox_pred: 1.0}
    if heads.has_mask():
        wanted[heads.mask_predictor.mask_fcn_logits] = 2.0
    hooks = [layer.register_forward_hook(spreading(deviation)) for layer, deviation in wanted.items()]
    model(as_floats([synthetic(240, 352, 0)]))
    for hook in hooks:
        hook.remove()


def spreading(deviation: float) -> Any:
    """A forward hook that, at its layer's first call, gives each output channel mean 0 and this deviation."""
    done = []

    def hook(layer: Any, _: Any, output: torch.Tensor) -> torch.Tensor | None:
        if done:
            return None
        done.append(True)
        rest = [d for d in range(output.ndim) if d != 1]
        mean = output.mean(rest)
        factor = deviation / output.std(rest).clamp(min=1e-6)
        shape = (1, -1) + (1,) * (output.ndim - 2)
        layer.weight.mul_(factor.reshape((-1,) + (1,) * (layer.weight.ndim - 1)))
        layer.bias.copy_((layer.bias - mean) * factor)
        return (output - mean.reshape(shape)) * factor.reshape(shape)

    return hook


def synthetic(height: int, width: int, seed: int) -> np.ndarray:
    """Blobs with edges, and noise: structure at every scale, as photographs have it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.full((height, width, 3), 110.0)
    for _ in range(14):
        cy, cx, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(8, 70)
        image[(y - cy) ** 2 + ((x - cx) * rng.uniform(0.6, 1.6)) ** 2 < radius**2] = rng.uniform(0, 255, 3)
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


UNEQUAL = [synthetic(240, 352, 1), synthetic(311, 205, 2)]


def batch_of(model: Any, images: list[np.ndarray], targets: list[Target] | None = None) -> Batch:
    rule = model.preprocess
    tensors = [rule.image(image) for image in images]
    padded, padding = rule.pad(tensors)
    return Batch(
        padded,
        padding,
        [(t.shape[1], t.shape[2]) for t in tensors],
        [(image.shape[0], image.shape[1]) for image in images],
        list(range(len(images))),
        None if targets is None else [rule.target(t) for t in targets],
        seeds=[11 + i for i in range(len(images))],
    )


def as_floats(images: list[np.ndarray]) -> list[torch.Tensor]:
    return [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in images]


@torch.inference_mode()
def assert_same_predictions(models: Any, images: list[np.ndarray]) -> None:
    given = as_floats(images)
    with in_double(models, batch_of(models[0], images), given) as (model, reference_model, batch):
        found, expected = model.predict(batch), reference_model(given)
    for prediction, their in zip(found, expected, strict=True):
        mine, scores = prediction.instances, their["scores"]
        assert len(mine) == len(scores) >= 15
        assert scores.max() - scores.min() > 0.05  # they are sure and unsure, and of several classes
        assert len(their["labels"].unique()) >= 3
        assert mine.labels.tolist() == (their["labels"] - 1).tolist()
        assert (mine.boxes - their["boxes"]).abs().max() <= 1e-6
        assert (mine.scores - scores).abs().max() <= 1e-8
        if "masks" in their:
            masks = their["masks"][:, 0].numpy() > 0.5
            assert masks.any((1, 2)).mean() > 0.5
            own = [coco_mask.decode(rle).astype(bool) for rle in mine.masks]
            assert min(iou(a, b) for a, b in zip(own, masks, strict=True)) >= 0.999


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum()) if (a | b).any() else 1.0


@pytest.fixture(scope="module")
def mask_rcnn() -> Any:
    return pair("maskrcnn_resnet50_fpn", MASK, proposals=300)


def test_mask_rcnn_on_a_batch_of_unequal_sizes(mask_rcnn):
    assert_same_predictions(mask_rcnn, UNEQUAL)


def test_mask_rcnn_on_photographs(mask_rcnn, shared_data):
    assert_same_predictions(mask_rcnn, photographs(shared_data / "coco128", 2))


def photographs(folder: Path, count: int) -> list[np.ndarray]:
    """The first ones of different sizes."""
    images: dict[tuple[int, ...], np.ndarray] = {}
    for path in sorted(folder.rglob("*.jpg")):
        image = read_image(path)
        images.setdefault(image.shape, image)
        if len(images) == count:
            break
    return list(images.values())


@pytest.mark.parametrize("size", [(426, 640), (640, 427), (500, 375), (333, 500), (100, 900), (37, 31), (801, 1333)])
def test_the_input_at_the_default_size(size):
    """800 on the short side, 1333 at most on the long one: bit for bit what torchvision feeds its network."""
    transform = reference.transform.GeneralizedRCNNTransform(800, 1333, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    images = [synthetic(*size, 0), UNEQUAL[0]]
    expected, _ = transform.eval()(as_floats(images))
    with torch.device("meta"):
        rule = ours(FASTER).preprocess
    padded, padding = rule.pad([rule.image(image) for image in images])
    assert torch.equal(padded, expected.tensors)
    assert [(int((~p).any(1).sum()), int((~p).any(0).sum())) for p in padding] == expected.image_sizes


@pytest.fixture(scope="module", params=[("fasterrcnn_resnet50_fpn", FASTER), ("maskrcnn_resnet50_fpn", MASK)])
def official(request) -> Any:
    """Frozen norms with eps 0, and variances so small that an eps of 1e-5 changes every number."""
    name, settings = request.param
    return pair(name, {**settings, "backbone": {**R50, "norm_eps": 0.0}}, eps=0.0, variance=1e-4)


def test_the_settings_of_the_official_weights_on_photographs(official, shared_data):
    assert_same_predictions(official, photographs(shared_data / "coco128", 2))


def test_the_settings_of_the_official_weights(official):
    assert_same_predictions(official, UNEQUAL)
    frozen = [module for module in official[0].modules() if isinstance(module, FrozenBatchNorm2d)]
    for module in frozen:
        module.eps = 1e-5
    with pytest.raises(AssertionError):
        assert_same_predictions(official, UNEQUAL)
    for module in frozen:
        module.eps = 0.0


def test_mask_rcnn_v2():
    assert_same_predictions(pair("maskrcnn_resnet50_fpn_v2", MASK_V2, proposals=100), UNEQUAL[:1])


def test_faster_rcnn_v2():
    assert_same_predictions(pair("fasterrcnn_resnet50_fpn_v2", FASTER_V2, proposals=100), UNEQUAL[1:])


@pytest.fixture(scope="module", params=[(1000, "fpn"), (150, "320_fpn")])
def mobilenet(request) -> Any:
    """In float64: with three maps of 15 anchors a cell, proposals are so alike that rounding would sort them."""
    candidates, name = request.param
    torch.manual_seed(0)
    settings = {**MOBILENET, "rpn": {**MOBILENET["rpn"], "candidates": (2000, candidates)}}
    models = pair(f"fasterrcnn_mobilenet_v3_large_{name}", settings, proposals=150, size=(320, 533))
    for model in models:
        model.double().backbone.register_forward_pre_hook(lambda _, images: (images[0].double(),))
    return models


def test_mobilenet_detectors(mobilenet):
    assert_same_predictions(mobilenet, UNEQUAL)


def test_mobilenet_detectors_on_photographs(mobilenet, shared_data):
    assert_same_predictions(mobilenet, photographs(shared_data / "coco128", 2))


def test_resnet_101():
    assert_same_predictions(pair("maskrcnn_resnet101_fpn", {**MASK, "backbone": R101}), UNEQUAL[:1])


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        *((MASK, 44_401_393), (FASTER, 41_755_286), (MASK_V2, 46_359_409), (FASTER_V2, 43_712_278)),
        (MOBILENET, 19_386_354),
    ],
)
def test_parameter_counts(settings, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in ours(settings).parameters()) == parameters


def test_gflops_by_the_parts_that_torchvision_publishes():
    with torch.device("meta"):
        counted = flops(ours(MASK), (800, 800))
    parts = counted["parts"]
    trunk = sum(value for name, value in parts.items() if name.startswith("backbone"))
    box, mask = parts["roi_heads.heads.box"], parts["roi_heads.heads.mask"]
    assert trunk == pytest.approx(88.381, abs=0.01)
    assert parts["rpn"] == pytest.approx(31.639, abs=0.01)
    assert box == pytest.approx(14.360, abs=0.01)
    assert trunk + parts["rpn"] + box == pytest.approx(134.380, abs=0.01)
    assert mask == pytest.approx(100 * 0.532, abs=0.1)
    assert counted["gflops"] == pytest.approx(134.380 + mask, abs=0.01)


@pytest.mark.parametrize(("size", "published"), [((800, 800), 4.494), ((320, 320), 0.719)])
def test_gflops_of_the_mobilenet_detectors(size, published):
    """torchvision counted them on noise, where the proposals' lowest score leaves the box head nothing to do."""
    with torch.device("meta"):
        counted = flops(ours(MOBILENET, proposals=(2000, 0)), size)
    assert counted["gflops"] == pytest.approx(published, rel=1.5e-2)


def labelled(image: np.ndarray, image_id: int, objects: int) -> Target:
    """Random boxes with an ellipse in each."""
    rng = np.random.default_rng(image_id)
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width] + 0.5
    boxes, masks = [], []
    for _ in range(objects):
        w, h = rng.uniform(20, width * 0.6), rng.uniform(20, height * 0.6)
        left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
        boxes.append([left, top, left + w, top + h])
        masks.append(((x - left) / w - 0.5) ** 2 + ((y - top) / h - 0.5) ** 2 < 0.25)
    instances = Instances(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.from_numpy(rng.integers(0, THINGS, objects)),
        masks=torch.from_numpy(np.array(masks, bool).reshape(-1, height, width)),
    )
    return Target(image_id, (height, width), instances)


@pytest.mark.parametrize(("name", "settings"), [("maskrcnn_resnet50_fpn", MASK), ("maskrcnn_resnet50_fpn_v2", MASK_V2)])
def test_losses_on_the_same_samples(name, settings):
    """All five, with an image without objects in the batch; torchvision draws with our sampler."""
    torch.manual_seed(0)  # among the weights of some seeds two proposals are as good as equal
    reference_model = theirs(name, size=(120, 200), rpn_post_nms_top_n_test=50, box_batch_size_per_image=32)
    randomise(reference_model, 1.0)
    if name.endswith("v2"):  # the reference, built without weights, trains every stage: so its norms follow the batch
        settings = {**settings, "backbone": {**settings["backbone"], "frozen_stages": 0}}
    model = ours(settings, samples=32)
    load_strict(model, from_torchvision(reference_model.state_dict()), name)
    model.preprocess = model.preprocess.with_size((120, 200))
    images = [*UNEQUAL, synthetic(150, 160, 3)]
    targets = [labelled(image, i, count) for i, (image, count) in enumerate(zip(images, (5, 3, 0), strict=True))]
    batch = batch_of(model, images, targets)
    for part, size, share, salt in ((reference_model.rpn, 256, 0.5, 1), (reference_model.roi_heads, 32, 0.25, 2)):
        part.fg_bg_sampler = BalancedSampler(size, share, salt)
        part.fg_bg_sampler.seeds = batch.seeds
    their_targets = [
        {"boxes": t.instances.boxes, "labels": t.instances.labels + 1, "masks": t.instances.masks.byte()}
        for t in targets
    ]
    with torch.no_grad():
        expected = reference_model.train()(as_floats(images), their_targets)
        losses = model.train()(batch)
    assert set(losses) == set(expected) == LOSSES
    for key in LOSSES:
        assert losses[key].item() == pytest.approx(expected[key].item(), rel=1e-6, abs=1e-5), key
        assert expected[key] > 0.01
