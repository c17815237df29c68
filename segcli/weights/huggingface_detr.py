"""transformers' DETR names -> the official ones, for both of its layouts and with or without masks.

transformers 4 wrote `out_proj`, `fc1`, `lay1`; transformers 5 names the same tensors `o_proj`, `mlp.fc1`, `conv1.conv`.
It keeps query, key and value apart where the official code has one `in_proj`.
"""

import re
from collections.abc import Callable

import torch
from torch import Tensor

from segcli.core.errors import ModelError

RENAMES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    # order matters: the backbone first, then the long names before the short
    (r"^(detr\.)?model\.backbone\.(?:conv_encoder\.)?model\.", r"\1backbone.0.body."),
    (r"^(detr\.)?model\.(encoder|decoder)\.", r"\1transformer.\2."),
    (r"decoder\.layernorm\.", "decoder.norm."),
    (r"\.self_attn_layer_norm\.", ".norm1."),
    (r"\.encoder_attn_layer_norm\.", ".norm2."),
    (r"(encoder\.layers\.\d+)\.final_layer_norm\.", r"\1.norm2."),
    (r"(decoder\.layers\.\d+)\.final_layer_norm\.", r"\1.norm3."),
    (r"\.encoder_attn\.", ".multihead_attn."),
    (r"_attn\.o_proj\.", "_attn.out_proj."),
    (r"(coder\.layers\.\d+)\.(?:mlp\.)?fc(\d)\.", r"\1.linear\2."),
    (r"^(detr\.)?model\.query_position_embeddings\.", r"\1query_embed."),
    (r"^(detr\.)?model\.input_projection\.", r"\1input_proj."),
    (r"^(detr\.)?class_labels_classifier\.", r"\1class_embed."),
    (r"^(detr\.)?bbox_predictor\.", r"\1bbox_embed."),
    (r"^mask_head\.conv(\d)\.conv\.", r"mask_head.lay\1."),
    (r"^mask_head\.conv(\d)\.norm\.", r"mask_head.gn\1."),
    (r"^mask_head\.fpn_stages\.(\d)\.fpn_adapter\.", lambda m: f"mask_head.adapter{int(m[1]) + 1}."),
    (r"^mask_head\.fpn_stages\.(\d)\.refine\.conv\.", lambda m: f"mask_head.lay{int(m[1]) + 3}."),
    (r"^mask_head\.fpn_stages\.(\d)\.refine\.norm\.", lambda m: f"mask_head.gn{int(m[1]) + 3}."),
    (r"^mask_head\.output_conv\.", "mask_head.out_lay."),
    (r"^bbox_attention\.([qk])_(?:proj|linear)\.", r"bbox_attention.\1_linear."),
]
COUNTERS = "num_batches_tracked"  # of batch norms, which are constants here


def to_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A DetrForObjectDetection's or DetrForSegmentation's state -> the official repository's keys, values unchanged.

    Keys that are in neither layout keep their names, so that strict loading lists them. Raises ModelError where one of
    query, key and value is missing.
    """
    out: dict[str, Tensor] = {}
    split: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        if key.endswith(COUNTERS):
            continue
        for pattern, name in RENAMES:
            key = re.sub(pattern, name, key)
        part = re.fullmatch(r"(.+_attn)\.([qkv])_proj\.(weight|bias)", key)
        if part is None:
            out[key] = value
        else:
            split.setdefault(f"{part[1]}.in_proj_{part[3]}", {})[part[2]] = value
    for key, parts in split.items():
        if set(parts) != {"q", "k", "v"}:
            missing = ", ".join(sorted({"q", "k", "v"} - set(parts)))
            raise ModelError(f"{key}: the weights have no {missing}_proj", hint="is the file complete?")
        out[key] = torch.cat([parts["q"], parts["k"], parts["v"]])
    return out
