"""FCN against torchvision's: its state dict loads strictly, and both compute the same."""

import pytest
import torch
import torch.nn.functional as F
import torchvision

from segcli.models import build_model
from segcli.types import IGNORE, Batch, Instances, Target


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    build = torchvision.models.segmentation.fcn_resnet50
    theirs = build(weights=None, weights_backbone=None, num_classes=7, aux_loss=True).eval()
    with torch.no_grad():
        for name, value in theirs.state_dict().items():
            if name.endswith("running_mean"):
                value.normal_(0, 0.1)
            if name.endswith("running_var"):
                value.uniform_(0.8, 1.2)
    ours = build_model({"name": "fcn"}, task="semantic", num_classes=7, num_things=0).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


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
    aux = 0.5 * F.cross_entropy(out["aux"], labels, ignore_index=IGNORE)
    assert losses["pixel_aux"].item() == pytest.approx(aux.item(), rel=1e-5)


@pytest.mark.parametrize(("depth", "parameters"), [(50, 35_322_218), (101, 54_314_346)])
def test_parameter_counts(depth, parameters):
    settings = {"name": "fcn", "backbone": {"depth": depth}}
    with torch.device("meta"):
        model = build_model(settings, task="semantic", num_classes=21, num_things=0)
    assert sum(p.numel() for p in model.parameters()) == parameters
