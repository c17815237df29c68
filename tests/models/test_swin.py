"""Swin's own behaviour: any input size, official names and sizes, stochastic depth, loading official weights."""

import pytest
import torch

from segcli.core.errors import UsageError
from segcli.core.plugins import call
from segcli.models import build_backbone
from segcli.models.backbones import swin

MILLIONS = {"tiny": 27.521, "small": 48.839, "base": 86.880, "large": 195.201}  # with the four output norms


def small(**settings):
    return swin.Swin(16, (2, 2, 2, 2), (1, 2, 4, 8), 4, **settings)


@pytest.mark.parametrize("variant", swin.VARIANTS)
def test_sizes(variant):
    with torch.device("meta"):
        model = swin.build(variant=variant)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(MILLIONS[variant], abs=1e-3)
    features = model(torch.empty(1, 3, 97, 130, device="meta"))
    assert [f.shape[1] for f in features] == model.channels
    assert [tuple(f.shape[2:]) for f in features] == [(-(-97 // s), -(-130 // s)) for s in model.strides]


def test_official_names():
    names = set(small().state_dict())
    expected = {"patch_embed.proj.weight", "patch_embed.norm.bias", "norm0.weight", "norm3.bias"}
    expected |= {
        f"layers.1.blocks.0.{n}" for n in ("norm1.weight", "attn.qkv.bias", "attn.proj.weight", "mlp.fc2.bias")
    }
    expected |= {f"layers.1.blocks.0.attn.relative_position_{n}" for n in ("bias_table", "index")}
    expected |= {"layers.2.downsample.norm.weight", "layers.2.downsample.reduction.weight"}
    assert expected <= names
    assert not any(n.startswith("layers.3.downsample") for n in names)


def test_a_shifted_window_does_not_look_across_the_border():
    """A change in the last column must not reach tokens further from it than two windows: rolling wraps around."""
    model = small().eval()
    images = torch.randn(1, 3, 64, 128)
    changed = images.clone()
    changed[..., -1] += 10
    with torch.no_grad():
        difference = (model(images)[0] - model(changed)[0]).abs().amax((0, 1, 2))
    assert difference[-1] > 0
    assert difference[:16].max() == 0


def test_drop_path_skips_whole_images_and_only_in_training():
    torch.manual_seed(0)
    block = swin.Block(16, 2, 4, shift=0, drop_path=0.5)
    x = torch.randn(64, 4, 4, 16)
    mask = swin.shift_mask(4, 4, 4, x)
    kept = (block._drop(torch.ones(64, 2, 2, 3)) == 2).flatten(1)
    assert set(kept.float().mean(1).tolist()) == {0.0, 1.0}
    assert 0.3 < kept[:, 0].float().mean() < 0.7
    block.eval()
    assert torch.equal(block(x, mask), block(x, mask))


def test_official_classification_weights_load_strictly():
    model = small()
    state = {
        k: torch.randn_like(v) for k, v in model.state_dict().items() if v.is_floating_point() and "norm0" not in k
    }
    state = {k: v for k, v in state.items() if not k.startswith("norm")}
    state |= {k: v for k, v in model.state_dict().items() if "index" in k}
    official = {**state, "norm.weight": torch.ones(128), "head.weight": torch.ones(1000, 128)}
    official["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    model.load_pretrained(official)
    assert torch.equal(model.layers[1].blocks[0].mlp.fc1.weight, state["layers.1.blocks.0.mlp.fc1.weight"])
    with pytest.raises(RuntimeError, match=r"layers\.1\.blocks\.0\.mlp\.fc1\.weight"):
        model.load_pretrained({k: v for k, v in official.items() if k != "layers.1.blocks.0.mlp.fc1.weight"})


def test_wrong_settings_are_named():
    with pytest.raises(UsageError, match="no Swin is called 'tinny'") as caught:
        call(swin.build, {"variant": "tinny"}, "model.backbone")
    assert "tiny" in caught.value.hint
    assert build_backbone({"name": "swin", "window": 5}).window == 5
