"""What is frozen stays as it is in training mode, the running statistics of trainable norms included."""

import pytest
import torch

from segcli.models import build_backbone, build_model

BACKBONES = [
    ({"name": "resnet", "depth": 18, "norm": "trainable", "frozen_stages": 2}, ("conv1", "bn1", "layer1"), "layer2"),
    ({"name": "resnet", "depth": 18, "norm": "trainable", "frozen_stages": 5}, ("",), None),
    (
        {"name": "timm", "model": "resnet18", "norm": "trainable", "frozen_stages": 2},
        ("net.conv1", "net.bn1", "net.layer1"),
        "net.layer2",
    ),
    (
        {"name": "efficientnet_lite0", "norm": "trainable", "frozen_stages": 3},
        ("net.conv_stem", "net.bn1", "net.blocks.0", "net.blocks.1"),
        "net.blocks.2",
    ),
    ({"name": "mobilenet_v3_large", "norm": "trainable", "frozen_stages": 99}, ("",), None),
]


@pytest.mark.parametrize(("settings", "frozen", "trained"), BACKBONES, ids=[str(b[0]) for b in BACKBONES])
def test_norms_of_frozen_stages_keep_their_statistics(settings, frozen, trained):
    torch.manual_seed(0)
    net = build_backbone(settings)
    for _ in range(2):  # an evaluation comes between
        net.eval()
        net.train()
        before = {k: v.clone() for k, v in net.state_dict().items()}
        net(torch.randn(2, 3, 64, 64) * 3 + 1)
        moved = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
        assert not [k for k in moved if k.startswith(frozen)]
        assert any(k.startswith(trained) for k in moved) if trained else not moved


def test_a_frozen_detector_below_trained_masks_keeps_its_statistics():
    torch.manual_seed(0)
    layers = {"encoder_layers": 1, "decoder_layers": 1}
    settings = {"queries": 8, "stage": "masks", "transformer": {"dim": 128, "ffn": 64, **layers}}
    backbone = {"name": "resnet", "depth": 18, "norm": "trainable", "frozen_stages": 0}
    model = build_model(
        {"name": "detr", "backbone": backbone, **settings}, task="instance", num_classes=3, num_things=3
    )
    norms = [m for m in model.train().modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 20
    assert not any(m.training for m in norms)
    assert model.mask_head.training
