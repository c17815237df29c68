"""Swin against transformers' copy of the official segmentation backbone, at sizes that are no multiple of a window."""

import pytest
import torch
from transformers.models.maskformer.configuration_maskformer_swin import MaskFormerSwinConfig
from transformers.models.maskformer.modeling_maskformer_swin import MaskFormerSwinBackbone

from segcli.models.backbones import swin
from segcli.weights.huggingface_maskformer import PIXELS, to_official


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    theirs = MaskFormerSwinBackbone(
        MaskFormerSwinConfig(
            embed_dim=32, depths=[2, 2, 4, 2], num_heads=[1, 2, 4, 8], out_features=stages, drop_path_rate=0.0
        )
    ).eval()
    with torch.no_grad():
        for name, value in theirs.state_dict().items():
            if value.is_floating_point():  # biases, norms and position tables start at 0 and 1: they would hide errors
                value.add_(0.1 * torch.randn(value.shape) + (1.0 * torch.randn(value.shape) if "table" in name else 0))
    ours = swin.Swin(32, (2, 2, 4, 2), (1, 2, 4, 8), 7).eval()
    state = to_official({f"{PIXELS}encoder.{k}": v for k, v in theirs.state_dict().items()})
    ours.load_state_dict({k.removeprefix("backbone."): v for k, v in state.items()})
    return ours, theirs


@pytest.mark.parametrize("size", [(224, 224), (203, 250), (33, 61)])
def test_feature_maps(pair, size):
    ours, theirs = pair
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected, found = theirs(images).feature_maps, ours(images)
    assert [f.shape[1] for f in found] == ours.channels
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= 1e-4 * b.abs().max()


def test_gradients(pair):
    ours, theirs = pair
    images = torch.randn(1, 3, 75, 90)
    weights = [torch.randn_like(f) for f in ours(images)]
    for model, maps in ((ours, ours(images)), (theirs, theirs(images).feature_maps)):
        model.zero_grad()
        sum((m * w).sum() for m, w in zip(maps, weights, strict=True)).backward()
    gradients = {f"{PIXELS}encoder.{k}": p.grad for k, p in theirs.named_parameters() if p.grad is not None}
    expected = {k.removeprefix("backbone."): v for k, v in to_official(gradients).items()}
    own = {k: p.grad for k, p in ours.named_parameters()}
    assert own.keys() == expected.keys()
    for name, gradient in own.items():
        assert (gradient - expected[name]).abs().max() <= 1e-3 * expected[name].abs().max() + 1e-5, name
