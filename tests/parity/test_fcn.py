"""FCN, DeepLabV3 and Lite R-ASPP against torchvision's: state dicts load strictly, and both compute the same."""

import pytest
import torch
import torch.nn.functional as F
import torchvision

from segcli.models import build_model
from segcli.models.layers.flop_rule import count
from segcli.types import IGNORE, Batch, Instances, Target

SMALL = {
    **{"name": "mobilenet_v3_large", "levels": [2, 5], "norm": "trainable"},
    **{"frozen_stages": 0, "dilated": True},
}
MODELS = {
    "fcn_resnet50": {"name": "fcn"},
    "fcn_resnet101": {"name": "fcn", "backbone": {"depth": 101}},
    "deeplabv3_resnet50": {"name": "deeplabv3"},
    "deeplabv3_mobilenet_v3_large": {"name": "deeplabv3", "backbone": SMALL},
    "lraspp_mobilenet_v3_large": {"name": "lraspp"},
}


def ours(name, classes):
    return build_model(MODELS[name], task="semantic", num_classes=classes, num_things=0)


COMPARED = ["fcn_resnet50", "deeplabv3_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"]


@pytest.fixture(scope="module", params=COMPARED)
def pair(request):
    torch.manual_seed(0)
    second = {} if request.param.startswith("lraspp") else {"aux_loss": True}
    build = getattr(torchvision.models.segmentation, request.param)
    theirs = build(weights=None, weights_backbone=None, num_classes=7, **second).eval()
    with torch.no_grad():
        for name, value in theirs.state_dict().items():
            if name.endswith("running_mean"):
                value.normal_(0, 0.1)
            if name.endswith("running_var"):
                value.uniform_(0.8, 1.2)
    model = ours(request.param, 7).eval()
    model.load_state_dict(theirs.state_dict())
    return model, theirs


def batch_of(images, labels):
    b, _, h, w = images.shape
    targets = [Target(i, (h, w), Instances.empty(), labels[i]) for i in range(b)]
    return Batch(images, torch.zeros(b, h, w, dtype=torch.bool), [(h, w)] * b, [(h, w)] * b, list(range(b)), targets)


def test_logits_and_labels(pair):
    ours, theirs = pair
    images = torch.randn(2, 3, 97, 123)
    with torch.no_grad():
        expected = theirs(images)["out"]
        found = ours.network(images)
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
        labels = ours.predict(batch_of(images, torch.zeros(2, 97, 123, dtype=torch.int64)))
    for prediction, logits in zip(labels, expected, strict=True):
        assert (torch.from_numpy(prediction.semantic) == logits.argmax(0)).float().mean() > 0.9999


def test_logits_and_labels_on_a_photograph(pair, shared_data):
    """Resized and normalised by torchvision's own transform."""
    ours, theirs = pair
    path = min((shared_data / "coco128").rglob("*.jpg"))
    image = torchvision.io.decode_image(str(path), "RGB")
    images = torchvision.transforms._presets.SemanticSegmentation(resize_size=130)(image)[None]
    with torch.no_grad():
        expected = theirs(images)["out"]
        found = ours.network(images)
        [prediction] = ours.predict(batch_of(images, torch.zeros(1, *images.shape[2:], dtype=torch.int64)))
    assert expected.std() > 0.01
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert (torch.from_numpy(prediction.semantic) == expected[0].argmax(0)).float().mean() > 0.9999


def test_losses_are_those_of_the_reference_training(pair):
    ours, theirs = pair
    images, labels = torch.randn(2, 3, 65, 80), torch.randint(0, 7, (2, 65, 80))
    labels[0, :30] = IGNORE
    with torch.no_grad():
        out = theirs(images)
        losses = ours(batch_of(images, labels))
    assert losses["pixel"].item() == pytest.approx(
        F.cross_entropy(out["out"], labels, ignore_index=IGNORE).item(), rel=1e-5
    )
    if "aux" not in out:
        assert set(losses) == {"pixel"}
        return
    aux = 0.5 * F.cross_entropy(out["aux"], labels, ignore_index=IGNORE)
    assert losses["pixel_aux"].item() == pytest.approx(aux.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        *(("fcn_resnet50", 35_322_218), ("fcn_resnet101", 54_314_346), ("deeplabv3_resnet50", 42_004_074)),
        *(("deeplabv3_mobilenet_v3_large", 11_029_328), ("lraspp_mobilenet_v3_large", 3_221_538)),
    ],
)
def test_parameter_counts_and_gflops(name, parameters):
    """torchvision's meta data counts the auxiliary head's multiply-adds, too."""
    with torch.device("meta"):
        model = ours(name, 21)
    assert sum(p.numel() for p in model.parameters()) == parameters
    [weights] = torchvision.models.get_model_weights(name)
    counted = count(model, lambda m, x: m.maps(m.backbone(x), every=True), (520, 520))
    assert weights.meta["num_params"] == parameters
    assert counted == pytest.approx(weights.meta["_ops"], rel=1.5e-2)
