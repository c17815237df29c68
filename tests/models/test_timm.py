"""timm's networks as trunks: batch norms folded into convolutions or frozen compute what timm's own do."""

import pytest
import timm
import torch
from torch import nn

from segcli.core.errors import UsageError
from segcli.models.backbones import timm as backbone

# another epsilon each (1e-3, 1e-5), squeeze-and-excitation, a concatenation, stages in a list, no batch norm at all
NETWORKS = ["tf_efficientnet_lite0", "mobilenetv2_050", "resnet18", "mobilenetv3_small_050", "ghostnet_050"]
NETWORKS += ["regnety_002", "lcnet_050", "convnext_atto"]


def pretrained(name):
    """timm's classifier in double precision, its norms' statistics and scales away from 0 and 1."""
    torch.manual_seed(0)
    net = timm.create_model(name).double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.05, 1.05)  # small enough that the epsilon shows
            module.weight.data.uniform_(0.8, 1.2)
            module.bias.data.normal_(0, 0.1)
    return net


@pytest.mark.parametrize("norm", ["folded", "frozen"])
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_features_are_timms(name, norm):
    net = pretrained(name)
    ours = backbone.build(model=name, norm=norm).double().eval()
    ours.load_pretrained(net.state_dict())
    if norm == "folded":
        assert not any(isinstance(module, nn.BatchNorm2d) for module in ours.modules())
    wanted = net.forward_intermediates(images := torch.randn(1, 3, 64, 64).double(), intermediates_only=True)
    at = {map_.shape[1:]: map_ for map_ in wanted}  # by channels and size
    shown = 0
    for found in ours(images):
        if (theirs := at.get(found.shape[1:])) is not None:
            # 1e-8: sixty layers in another order of operations; a wrong epsilon is 1e-2 and more
            assert (found - theirs).abs().max() <= 1e-8 * theirs.abs().max()
            shown += 1
    assert shown >= 2


@pytest.mark.parametrize(
    ("name", "where"),
    [("densenet121", "norm1"), ("resnetv2_50", "norm1"), ("repvgg_a0", "identity"), ("mixnet_s", "bn1")],
)
def test_a_norm_that_follows_no_convolution_alone_is_refused(name, where):
    with pytest.raises(UsageError, match=rf"model\.backbone\.norm: .*can't be folded \(at .*{where}\)") as refused:
        backbone.build(model=name, norm="folded")
    assert refused.value.hint == "model.backbone.norm: frozen"


class Shared(nn.Module):
    """A convolution whose output goes around its norm, too."""

    def __init__(self, conv):
        super().__init__()
        self.conv, self.norm = conv, nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y


class Standardised(nn.Conv2d):
    """Scales its weights away."""

    def forward(self, x):
        return self._conv_forward(x, self.weight / self.weight.norm(), self.bias)


def test_what_folding_would_change_is_refused():
    for net in (
        Shared(nn.Conv2d(3, 4, 3)),
        nn.Sequential(Standardised(3, 4, 3), nn.BatchNorm2d(4)),
        nn.Sequential(conv := nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), conv),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)),
    ):
        with pytest.raises(UsageError, match="can't be folded"):
            backbone.norm_pairs(net, (3, 8, 8))


@torch.no_grad()
def test_biases_and_norms_without_scale_fold_too():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=0.1, affine=False)).eval()
    net[1].running_mean.normal_()
    images = torch.randn(2, 3, 8, 8)
    wanted, state = net(images), net.state_dict()
    pairs = backbone.norm_pairs(net, (3, 8, 8))
    backbone.fold_norms(net, pairs)
    net.load_state_dict({key: backbone.fold_state(state, pairs)[key] for key in net.state_dict()})
    torch.testing.assert_close(net(images), wanted)
