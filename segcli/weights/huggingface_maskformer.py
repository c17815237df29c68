"""transformers' MaskFormer names -> the official ones (with torchvision's names in a ResNet), for both of its layouts.

transformers 4 wrote `out_proj`, `fc1`; transformers 5 names the same tensors `o_proj`, `mlp.fc1`. It keeps query, key
and value apart where the official code has one `in_proj` (decoder) or `qkv` (Swin).
"""

import re
from collections.abc import Callable

import torch
from torch import Tensor

from segcli.core.errors import ModelError

PIXELS = "model.pixel_level_module."
QUERIES = "model.transformer_module."
# tensors that have no counterpart, by the end of their names: an unused norm, a loss's constant, BN counters
UNUSED = ("encoder.model.layernorm.weight", "encoder.model.layernorm.bias", "empty_weight", "num_batches_tracked")

RENAMES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    # backbones
    (rf"{PIXELS}encoder\.embedder\.embedder\.convolution\.", "backbone.conv1."),
    (rf"{PIXELS}encoder\.embedder\.embedder\.normalization\.", "backbone.bn1."),
    (rf"{PIXELS}encoder\.encoder\.stages\.(\d+)\.layers\.", lambda m: f"backbone.layer{int(m[1]) + 1}."),
    (r"\.layer\.(\d)\.convolution\.", lambda m: f".conv{int(m[1]) + 1}."),
    (r"\.layer\.(\d)\.normalization\.", lambda m: f".bn{int(m[1]) + 1}."),
    (r"\.shortcut\.convolution\.", ".downsample.0."),
    (r"\.shortcut\.normalization\.", ".downsample.1."),
    (rf"{PIXELS}encoder\.model\.embeddings\.patch_embeddings\.projection\.", "backbone.patch_embed.proj."),
    (rf"{PIXELS}encoder\.model\.embeddings\.norm\.", "backbone.patch_embed.norm."),
    (rf"{PIXELS}encoder\.model\.encoder\.layers\.", "backbone.layers."),
    (rf"{PIXELS}encoder\.hidden_states_norms\.", "backbone.norm"),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.self\.", ".attn."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    # pixel decoder: layers.0 of the pyramid is the coarsest
    (rf"{PIXELS}decoder\.fpn\.stem\.", "sem_seg_head.pixel_decoder.layer_4."),
    (
        rf"{PIXELS}decoder\.fpn\.layers\.(\d)\.(proj|block)\.",
        lambda m: f"sem_seg_head.pixel_decoder.{'adapter' if m[2] == 'proj' else 'layer'}_{3 - int(m[1])}.",
    ),
    (r"(pixel_decoder\.\w+_\d\.)0\.", r"\1"),
    (r"(pixel_decoder\.\w+_\d\.)1\.", r"\1norm."),
    (rf"{PIXELS}decoder\.mask_projection\.", "sem_seg_head.pixel_decoder.mask_features."),
    # queries and transformer decoder
    (rf"{QUERIES}queries_embedder\.", "sem_seg_head.predictor.query_embed."),
    (rf"{QUERIES}input_projection\.", "sem_seg_head.predictor.input_proj."),
    (rf"{QUERIES}decoder\.layernorm\.", "sem_seg_head.predictor.transformer.decoder.norm."),
    (rf"{QUERIES}decoder\.", "sem_seg_head.predictor.transformer.decoder."),
    (r"\.self_attn_layer_norm\.", ".norm1."),
    (r"\.encoder_attn_layer_norm\.", ".norm2."),
    (r"\.final_layer_norm\.", ".norm3."),
    (r"\.encoder_attn\.", ".multihead_attn."),
    (r"_attn\.o_proj\.", "_attn.out_proj."),
    (r"(decoder\.layers\.\d+\.)(?:mlp\.)?fc(\d)\.", r"\1linear\2."),
    (r"^class_predictor\.", "sem_seg_head.predictor.class_embed."),
    (r"^mask_embedder\.(\d)\.0\.", r"sem_seg_head.predictor.mask_embed.layers.\1."),
]
# the three parts that become one tensor, in its order of rows
JOINED = [
    (r"\.(query|key|value)\.(weight|bias)$", ("query", "key", "value"), r".qkv.\2"),
    (r"\.(q_proj|k_proj|v_proj)\.(weight|bias)$", ("q_proj", "k_proj", "v_proj"), r".in_proj_\2"),
]


def to_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A MaskFormerForInstanceSegmentation state dict under this project's names.

    Raises ModelError listing the keys that have no place here, or whose partners are missing.
    """
    out: dict[str, Tensor] = {}
    joined: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for key, value in state.items():
        if key.endswith(UNUSED):
            continue
        name = key
        for pattern, new in RENAMES:
            name = re.sub(pattern, new, name)
        if not name.startswith(("backbone.", "sem_seg_head.")):
            unknown.append(key)
            continue
        for pattern, order, new in JOINED:
            if match := re.search(pattern, name):
                whole = re.sub(pattern, new, name)
                joined.setdefault(whole, dict.fromkeys(order, value[:0]))[match[1]] = value
                break
        else:
            out[name] = value
    for whole, parts in joined.items():
        missing = [part for part, value in parts.items() if not len(value)]
        unknown += [f"{whole} (without {', '.join(missing)})"] if missing else []
        out[whole] = torch.cat(list(parts.values()))
    if unknown:
        shown = ", ".join(unknown[:8])
        raise ModelError(f"{len(unknown)} keys are not of a transformers MaskFormer: {shown}")
    return out
