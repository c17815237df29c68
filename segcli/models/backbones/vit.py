"""Plain vision transformers (ViT: Dosovitskiy et al., 2020; DeiT: Touvron et al., 2020) with a simple feature pyramid.

timm's network with its parameter names under `net`, and `pyramid`, which makes four maps of its last one.
"""

import math
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed, resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from segcli.core.errors import UsageError
from segcli.core.plugins import nearest
from segcli.models.backbones._simple_pyramid import SimplePyramid
from segcli.ops.preprocess import IMAGENET_MEAN, IMAGENET_STD

STRIDES = [4, 8, 16, 32]
PATCHES = (8, 16, 32)


def build(*, model: str, width: int = 256, drop_path: float = 0.1) -> "ViT":
    """model: timm's name of a plain vision transformer with patches of 8, 16 or 32 pixels, with or without a tag, as
    vit_tiny_patch16_224, deit_small_distilled_patch16_224, vit_base_patch16_224.mae; the size in it is that of the
    pretraining, images may have any. width: channels of the four maps. drop_path: share of images that skip the last
    block in training, growing from 0.
    """
    families = ["vit_*", "deit*"]
    names = timm.list_models(families)
    if model not in names and model not in timm.list_pretrained(families):
        raise UsageError(f"model.backbone.model: timm has no vision transformer {model!r}", hint=nearest(model, names))
    with torch.device("meta"):  # other families of that name, and hybrids with a convolutional stem
        probe: Any = timm.create_model(model)
    patch = probe.patch_embed.patch_size if type(probe.patch_embed) is PatchEmbed else None
    if not isinstance(probe, VisionTransformer) or patch not in [(p, p) for p in PATCHES]:
        raise UsageError(
            f"model.backbone.model: {model} is no plain vision transformer with patches of 8, 16 or 32 pixels",
            hint="for example vit_tiny_patch16_224, deit_small_patch16_224",
        )
    net: Any = timm.create_model(model, dynamic_img_size=True, drop_path_rate=drop_path)
    return ViT(net, width)


class ViT(nn.Module):
    """Feature maps [B,width,⌈H/s⌉,⌈W/s⌉] at the strides s = 4, 8, 16, 32, whatever the patch size.

    Every token attends to all others, those of padding included. The tokens of class, distillation and registers take
    part in the attention and are dropped after the last block.
    """

    def __init__(self, net: VisionTransformer, width: int):
        super().__init__()
        for classifier in ("head", "head_dist", "head_drop", "fc_norm", "attn_pool"):
            if hasattr(net, classifier):
                setattr(net, classifier, nn.Identity())
        self.net: Any = net
        projection = self.net.patch_embed.proj
        if projection.bias is None:  # `load_pretrained` needs one
            projection.bias = nn.Parameter(projection.weight.new_zeros(len(projection.weight)))
        self.patch: int = self.net.patch_embed.patch_size[0]
        self.pyramid = SimplePyramid(net.embed_dim, self.patch, width, STRIDES)
        self.channels, self.strides = [width] * len(STRIDES), list(STRIDES)

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Sides that are no whole patches are padded with zeros; the maps are cut to what the image covers."""
        height, width = x_BCHW.shape[-2:]
        maps = self.pyramid(self.last_map(x_BCHW))
        return [
            m[..., : -(-height // s), : -(-width // s)].contiguous() for m, s in zip(maps, self.strides, strict=True)
        ]

    def last_map(self, x_BCHW: Tensor) -> Tensor:
        """[B,C,⌈H/patch⌉,⌈W/patch⌉]: the tokens of the image after the last block and the final norm."""
        patch = self.patch
        x_BCHW = F.pad(x_BCHW, (0, -x_BCHW.shape[3] % patch, 0, -x_BCHW.shape[2] % patch))
        tokens_BTC = self.net.forward_features(x_BCHW)[:, self.net.num_prefix_tokens :]
        return tokens_BTC.transpose(1, 2).unflatten(2, (x_BCHW.shape[2] // patch, x_BCHW.shape[3] // patch))

    def keep_coarsest(self, count: int) -> None:
        """Make the last `count` maps alone: for a model that reads no others."""
        self.pyramid.keep_coarsest(count)
        self.channels, self.strides = self.channels[-count:], self.strides[-count:]

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Load timm's weights of the classification model, of any image size; the pyramid keeps its values.

        The classifier is left out, the position embedding resampled where it has another size. Any other difference
        raises. Many ViTs were trained on images normalised otherwise than the ImageNet way that every model here uses;
        the patch embedding takes that difference up.
        """
        classifier = ("head.", "head_dist.", "fc_norm.", "attn_pool.")
        state = {k: v for k, v in state.items() if not k.startswith(classifier)}
        own, net = self.net.state_dict(), self.net
        position = state.get("pos_embed")
        if position is not None and "pos_embed" in own and position.shape[1] != own["pos_embed"].shape[1]:
            prefix = 0 if net.no_embed_class else net.num_prefix_tokens
            places = position.shape[1] - prefix
            if math.isqrt(places) ** 2 != places:
                raise ValueError(f"its position embedding has {places} places, which are no square")
            state["pos_embed"] = resample_abs_pos_embed(
                position, new_size=net.patch_embed.grid_size, num_prefix_tokens=prefix
            )
        config = net.pretrained_cfg
        net.load_state_dict(renormalised(state, config["mean"], config["std"]))


def renormalised(
    state: dict[str, Tensor], mean: tuple[float, ...], std: tuple[float, ...], key: str = "patch_embed.proj"
) -> dict[str, Tensor]:
    """The same network for pixels that are normalised by ImageNet's mean m and deviation s instead of `mean`, `std`.

    A pixel is x = (p − m)/s here and y = (p − mean)/std there, so that Wy + b = W(s/std)x + b + W(m − mean)/std.
    """
    weight = state[f"{key}.weight"]
    per_channel = lambda values: weight.new_tensor(values)[None, :, None, None]
    shift = (per_channel(IMAGENET_MEAN) - per_channel(mean)) / per_channel(std)
    bias = state.get(f"{key}.bias", weight.new_zeros(len(weight))) + (weight * shift).sum((1, 2, 3))
    return {**state, f"{key}.weight": weight * (per_channel(IMAGENET_STD) / per_channel(std)), f"{key}.bias": bias}
