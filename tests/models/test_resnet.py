"""ResNet against torchvision's, with frozen norms (which convolutions apply) and with trainable ones."""

import copy

import pytest
import torch
import torchvision
from torchvision.ops import FrozenBatchNorm2d

from segcli.models.backbones import resnet


def randomise(net):
    for module in net.modules():
        if isinstance(module, (FrozenBatchNorm2d, torch.nn.BatchNorm2d)):
            module.running_mean.data.normal_(0, 0.1)
            module.running_var.data.uniform_(0.8, 1.2)
            module.weight.data.uniform_(0.8, 1.2)
            module.bias.data.normal_(0, 0.1)


@pytest.mark.parametrize(("norm", "theirs"), [("frozen", FrozenBatchNorm2d), ("trainable", torch.nn.BatchNorm2d)])
def test_maps_and_gradients_are_torchvisions(norm, theirs):
    torch.manual_seed(0)
    reference = torchvision.models.resnet50(norm_layer=theirs).double().eval()
    randomise(reference)
    model = resnet.build(depth=50, norm=norm, frozen_stages=0).double().eval()
    model.load_pretrained(reference.state_dict())
    model = copy.deepcopy(model)  # a copy applies its own norms
    images = torch.randn(1, 3, 65, 90, dtype=torch.float64)
    maps = model(images)
    x, expected = reference.maxpool(reference.relu(reference.bn1(reference.conv1(images)))), []
    for layer in (reference.layer1, reference.layer2, reference.layer3, reference.layer4):
        x = layer(x)
        expected.append(x)
    for a, b in zip(maps, expected, strict=True):
        torch.testing.assert_close(a, b)
    sum(m.mean() for m in maps).backward()
    sum(m.mean() for m in expected).backward()
    gradients = {name: p.grad for name, p in reference.named_parameters() if p.grad is not None}
    assert {name for name, p in model.named_parameters() if p.grad is not None} == gradients.keys()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name])


def test_frozen_norms_follow_a_change_of_their_constants():
    """Official weights are loaded after building, and some need another eps."""
    model = resnet.build(depth=18).eval()
    images = torch.randn(1, 3, 64, 64)
    before = model(images)[-1]
    randomise(model)
    assert not torch.equal(model(images)[-1], before)
    assert not any("norm" in name for name in model.state_dict())


@pytest.mark.parametrize(
    ("settings", "strides"), [({"dilate_last": 1}, [4, 8, 16, 16]), ({"dilate_last": 2}, [4, 8, 8, 8])]
)
def test_dilation_keeps_the_resolution(settings, strides):
    with torch.device("meta"):
        model = resnet.build(depth=50, **settings)
    assert model.strides == strides
    assert [128 // f.shape[2] for f in model(torch.empty(1, 3, 128, 128, device="meta"))] == strides


def test_deep_stem_and_multi_grid():
    with torch.device("meta"):
        model = resnet.build(depth=101, stem="3x3", multi_grid=(1, 2, 4))
    assert [block.conv2.dilation[0] for block in model.layer4] == [1, 2, 4]
    assert model.conv1[0].weight.shape == (64, 3, 3, 3)
    assert model.layer1[0].conv1.weight.shape[1] == 128
    assert [128 // f.shape[2] for f in model(torch.empty(1, 3, 128, 128, device="meta"))] == [4, 8, 16, 32]


@torch.inference_mode()
def test_a_prediction_sees_every_change_of_weights_and_norms():
    model = resnet.build(depth=18).eval()
    x = torch.randn(1, 3, 64, 64)
    last = model(x)[-1]
    assert torch.equal(model(x)[-1], last)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    for name in ("layer1.0.conv1.weight", "layer2.0.bn1.running_var", "bn1.bias"):
        model.load_state_dict({**state, name: state[name] + 0.5})
        assert not torch.allclose(model(x)[-1], last), name
    model.load_state_dict(state)
    assert torch.equal(model(x)[-1], last)
