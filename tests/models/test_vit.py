"""ViT's own behaviour: timm's features, any input size, the pyramid's arithmetic, loading timm's weights."""

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from segcli.core.errors import ModelError, UsageError
from segcli.core.plugins import call
from segcli.models import build_backbone, build_model
from segcli.models.backbones import vit
from segcli.models.backbones._simple_pyramid import SimplePyramid
from segcli.weights.backbones import load_backbone

NAMES = [
    *("vit_tiny_patch16_384", "vit_small_patch8_224", "vit_small_patch32_224", "vit_base_patch16_clip_224"),
    *("deit_tiny_distilled_patch16_224", "deit3_small_patch16_224"),
    *("vit_medium_patch16_reg4_gap_256", "vit_base_patch16_siglip_224"),
]


def timm_net(**settings):
    return VisionTransformer(**{"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 2, **settings})


def small(**settings):
    net = timm_net(dynamic_img_size=True, **settings)
    net.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    return vit.ViT(net, 16)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(97, 130), (64, 64), (1, 33)])
def test_maps_have_the_sizes_of_a_convolutional_backbones(name, size):
    with torch.device("meta"):
        model = vit.build(model=name, width=48)
    features = model(torch.empty(2, 3, *size, device="meta"))
    expected = [(2, 48, -(-size[0] // s), -(-size[1] // s)) for s in (4, 8, 16, 32)]
    assert [tuple(f.shape) for f in features] == expected
    assert (model.channels, model.strides) == ([48] * 4, [4, 8, 16, 32])


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_the_last_map_is_timms(name):
    """forward_features and forward_intermediates, without the tokens of class and distillation."""
    torch.manual_seed(0)
    model, reference = vit.build(model=name).eval(), timm.create_model(name).eval()
    state = {k: v for k, v in reference.state_dict().items() if not k.startswith("head")}
    model.net.load_state_dict(state)  # not load_pretrained, which turns the pixels' normalisation
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        ours = model.last_map(images)
        tokens = reference.forward_features(images)[:, 1 if name.startswith("vit") else 2 :]
        intermediate = reference.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)[0]
    torch.testing.assert_close(ours.flatten(2).transpose(1, 2), tokens)
    torch.testing.assert_close(ours, intermediate)


def test_another_size_is_timms_own_with_that_size():
    """The position embedding is interpolated as timm does when a network is built for another size."""
    torch.manual_seed(0)
    model = small().eval()
    model.net.pos_embed.data.normal_()
    images = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        ours = model.last_map(images)
        model.net.set_input_size((96, 160))
        tokens = model.net.forward_features(images)
    torch.testing.assert_close(ours.flatten(2).transpose(1, 2), tokens[:, 1:])


def test_padding_to_whole_patches_is_padding_with_zeros():
    model = small().eval()
    images = torch.zeros(1, 3, 64, 80)
    images[..., :50, :70] = torch.randn(1, 3, 50, 70)
    with torch.no_grad():
        cut, whole = model(images[..., :50, :70]), model(images)
    for ours, reference in zip(cut, whole, strict=True):
        torch.testing.assert_close(ours, reference[..., : ours.shape[2], : ours.shape[3]])


def test_the_pyramid_is_the_papers():
    """Strides 4 and 8 by transposed convolutions that halve the channels, 16 as it is, 32 by max-pooling."""
    torch.manual_seed(0)
    pyramid = SimplePyramid(32, 16, 8, [4, 8, 16, 32])
    x = torch.randn(1, 32, 5, 7)
    four, eight, same, half = pyramid.maps
    assert [type(m).__name__ for m in four[:4]] == ["ConvTranspose2d", "LayerNorm2d", "GELU", "ConvTranspose2d"]
    assert (four[3].out_channels, eight[0].out_channels, same[0].in_channels) == (8, 16, 32)
    assert torch.equal(half[0](x)[..., :2, :3], torch.nn.functional.max_pool2d(x, 2))
    assert [tuple(m.shape[2:]) for m in pyramid(x)] == [(20, 28), (10, 14), (5, 7), (3, 4)]
    of_pixel = pyramid(x)[1].mean(1)  # normed over channels, with the norm's initial gain and bias
    torch.testing.assert_close(of_pixel, torch.zeros_like(of_pixel), atol=1e-5, rtol=0)


def test_what_a_model_does_not_read_is_not_made():
    model = small()
    whole = sum(p.numel() for p in model.parameters())
    model.keep_coarsest(1)
    assert sum(p.numel() for p in model.parameters()) < whole
    assert [tuple(f.shape) for f in model(torch.zeros(1, 3, 50, 70))] == [(1, 16, 2, 3)]
    assert (model.channels, model.strides) == ([16], [32])
    with pytest.raises(UsageError, match="four feature maps"), torch.device("meta"):
        build_model(  # the finer maps would stay at random: no loss reads them while the boxes train
            {"name": "detr", "stage": "boxes", "backbone": {"name": "vit", "model": "vit_tiny_patch16_224"}},
            task="instance",
            num_classes=2,
            num_things=2,
        )


@pytest.mark.parametrize("settings", [{}, {"reg_tokens": 4}, {"global_pool": "avg"}, {"global_pool": "map"}])
def test_timms_weights_load_strictly(settings):
    """The classifier, whatever it consists of, is left out; every other key is needed, and no more."""
    torch.manual_seed(0)
    model, reference = small(**settings), timm_net(**settings)
    state = reference.state_dict()
    assert any(k.startswith(("head.", "fc_norm.", "attn_pool.")) for k in state)
    model.load_pretrained(state)
    assert all(torch.equal(v, state[k]) for k, v in model.net.state_dict().items() if not k.startswith("patch_embed"))
    for key in ("blocks.0.attn.qkv.weight", "patch_embed.proj.weight", "pos_embed"):
        with pytest.raises((RuntimeError, KeyError), match=key):
            model.load_pretrained({k: v for k, v in state.items() if k != key})
    with pytest.raises(RuntimeError, match=r"blocks\.99"):
        model.load_pretrained({**state, "blocks.99.norm1.weight": torch.ones(1)})


def test_weights_of_another_size_have_their_positions_resampled():
    torch.manual_seed(0)
    model, larger = small().eval(), timm_net(img_size=128)
    larger.pos_embed.data = torch.linspace(-1, 1, 65)[None, :, None].repeat(1, 1, 32)
    model.load_pretrained(larger.state_dict())
    assert model.net.pos_embed.shape == (1, 17, 32)
    assert torch.equal(model.net.pos_embed[:, 0], larger.pos_embed[:, 0])  # the class token's is no place
    places = model.net.pos_embed[0, 1:, 0]
    assert (places.diff() > 0).all()  # in the same order
    assert (places[0] > -1, places[-1] < 1) == (True, True)
    with pytest.raises((RuntimeError, ValueError)):
        model.load_pretrained({**larger.state_dict(), "pos_embed": torch.zeros(1, 24, 32)})


def test_weights_for_another_normalisation_see_the_same_picture():
    torch.manual_seed(0)
    model, reference = small().eval(), small().eval()
    model.load_pretrained(reference.net.state_dict())
    pixels = torch.rand(1, 3, 64, 64)
    of = lambda values: torch.tensor(values)[:, None, None]
    with torch.no_grad():
        ours = model.last_map((pixels - of(vit.IMAGENET_MEAN)) / of(vit.IMAGENET_STD))
        torch.testing.assert_close(ours, reference.last_map((pixels - 0.5) / 0.5), atol=1e-5, rtol=1e-4)


def test_a_file_of_another_variant_is_refused_by_name(tmp_path):
    settings = {"name": "vit", "model": "vit_tiny_patch16_224"}
    model = build_backbone(settings)
    state = {f"net.{k}": v for k, v in model.net.state_dict().items()}
    for file, differing, message in (
        ("deit.pth", {**model.net.state_dict(), "dist_token": torch.zeros(1, 1, 192)}, "dist_token"),
        ("ours.pth", state, r"patch_embed\.proj\.weight"),
        ("odd.pth", {**model.net.state_dict(), "pos_embed": torch.zeros(1, 198, 192)}, "position embedding"),
    ):
        torch.save(differing, tmp_path / file)
        with pytest.raises(ModelError, match=rf"(?s){file} don't fit the backbone vit.*{message}"):
            load_backbone(model, str(tmp_path / file), settings)


def test_wrong_settings_are_named():
    with pytest.raises(UsageError, match="no vision transformer 'vit_tiny_patch16_244'") as caught:
        call(vit.build, {"model": "vit_tiny_patch16_244"}, "model.backbone")
    assert "vit_tiny_patch16_224" in caught.value.hint
    for name in ("vit_small_patch14_dinov2", "vit_relpos_small_patch16_224", "vit_tiny_r_s16_p8_224"):
        with pytest.raises(UsageError, match=f"{name} is no plain vision transformer"):
            vit.build(model=name)
    assert call(vit.build, {"model": "vit_small_patch16_224.dino"}, "model.backbone").patch == 16
