"""Checkpoints of the library `transformers` with tiny random configurations, as folders on disk."""

from pathlib import Path
from typing import Any

import torch
import transformers

NAMES = {0: "cat", 1: "dog", 2: "sky"}  # of every checkpoint
RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1]}
RESNET |= {"layer_type": "basic", "out_features": ["stage1", "stage2", "stage3", "stage4"]}
RT_RESNET = {**RESNET, "model_type": "rt_detr_resnet", "out_features": ["stage2", "stage3", "stage4"]}
HGNET = {
    **{"model_type": "hgnet_v2", "stem_channels": [3, 8, 8], "stage_in_channels": [8, 16, 24, 32]},
    **{"stage_mid_channels": [8, 8, 8, 8], "stage_out_channels": [16, 24, 32, 48], "hidden_sizes": [16, 24, 32, 48]},
    **{"stage_num_blocks": [1, 1, 1, 1], "stage_numb_of_layers": [1, 1, 1, 1], "depths": [1, 1, 1, 1]},
    **{"embedding_size": 8, "out_features": ["stage2", "stage3", "stage4"]},
}
DINO = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "patch_size": 14, "image_size": 112}
RF_DINO = {**DINO, "model_type": "rf_detr_dinov2", "num_windows": 2, "out_features": ["stage2", "stage4"]}
SWIN = {"model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}
SWIN |= {"image_size": 64, "out_features": ["stage1", "stage2", "stage3", "stage4"]}
FFN = {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
LAYERS = {"encoder_layers": 1, "decoder_layers": 2, "num_queries": 10}
REAL_TIME = {
    **{"encoder_hidden_dim": 32, "d_model": 32, "decoder_in_channels": [32, 32, 32], "num_denoising": 6},
    **{**FFN, **LAYERS, "head_dim": 16, "hidden_expansion": 0.5},
}
SHALLOW = {**REAL_TIME, "depth_mult": 0.34}  # a block where there are three
DETR = {**FFN, **LAYERS, "d_model": 32, "use_timm_backbone": False, "backbone_config": RESNET}
RF = {
    **{"backbone_config": RF_DINO, "d_model": 32, "decoder_ffn_dim": 32, "decoder_layers": 2, "num_queries": 10},
    **{"decoder_self_attention_heads": 2, "decoder_cross_attention_heads": 2, "group_detr": 2, "intermediate_size": 32},
}
LW_VIT = {
    **{"model_type": "lw_detr_vit", "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2},
    **{"image_size": 128, "num_windows": 4, "window_block_indices": [0, 2], "out_indices": [2, 4], "patch_size": 16},
}
LW = {**RF, "backbone_config": LW_VIT, "projector_scale_factors": [1.0]}
VIT = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 16}
EOMT = {**VIT, "image_size": 96, "num_queries": 10, "num_blocks": 2, "train_num_points": 64, "num_register_tokens": 1}
SQUARE, SHORT = {"height": 96, "width": 96}, {"shortest_edge": 96, "longest_edge": 160}

CONFIGS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {  # class -> configuration, processor, its settings
    "RTDetrForObjectDetection": (
        {**REAL_TIME, "backbone_config": RT_RESNET, "encoder_in_channels": [12, 16, 24]},
        "RTDetrImageProcessor",
        {"size": SQUARE},
    ),
    "RTDetrV2ForObjectDetection": (
        {**REAL_TIME, "backbone_config": RT_RESNET, "encoder_in_channels": [12, 16, 24]},
        "RTDetrImageProcessor",
        {"size": SQUARE},
    ),
    "DFineForObjectDetection": (
        {**SHALLOW, "backbone_config": HGNET, "encoder_in_channels": [24, 32, 48]},
        "RTDetrImageProcessor",
        {"size": SQUARE},
    ),
    "Deimv2ForObjectDetection": (
        {**SHALLOW, "backbone_config": HGNET, "encoder_in_channels": [24, 32, 48]},
        "RTDetrImageProcessor",
        {"size": SQUARE},
    ),
    "RfDetrForObjectDetection": (RF, "RfDetrImageProcessor", {"size": {"height": 112, "width": 112}}),
    "LwDetrForObjectDetection": (LW, "DeformableDetrImageProcessor", {"size": {"height": 128, "width": 128}}),
    "DetrForObjectDetection": (DETR, "DetrImageProcessor", {"size": SHORT}),
    "TableTransformerForObjectDetection": (DETR, "DetrImageProcessor", {"size": SHORT}),
    "ConditionalDetrForObjectDetection": (DETR, "ConditionalDetrImageProcessor", {"size": SHORT}),
    "DeformableDetrForObjectDetection": (
        {**DETR, "num_feature_levels": 2, "backbone_config": {**RESNET, "out_features": ["stage3", "stage4"]}},
        "DeformableDetrImageProcessor",
        {"size": SHORT},
    ),
    "DabDetrForObjectDetection": (
        {**{k: v for k, v in DETR.items() if k != "d_model"}, "hidden_size": 32},
        "ConditionalDetrImageProcessor",
        {"size": SHORT},
    ),
    "YolosForObjectDetection": (
        {**VIT, "image_size": [96, 96], "num_detection_tokens": 10},
        "YolosImageProcessor",
        {"size": SQUARE},
    ),
    "RfDetrForInstanceSegmentation": (RF, "RfDetrImageProcessor", {"size": {"height": 112, "width": 112}}),
    "Mask2FormerForUniversalSegmentation": (
        {
            "backbone_config": SWIN,
            "feature_size": 32,
            "mask_feature_size": 32,
            "hidden_dim": 32,
            "encoder_feedforward_dim": 32,
            "dim_feedforward": 32,
            "encoder_layers": 1,
            "decoder_layers": 2,
            "num_attention_heads": 2,
            "num_queries": 10,
            "train_num_points": 64,
        },
        "Mask2FormerImageProcessor",
        {"size": SHORT, "size_divisor": 32},
    ),
    "MaskFormerForInstanceSegmentation": (
        {
            "backbone_config": SWIN,
            "fpn_feature_size": 32,
            "mask_feature_size": 32,
            "decoder_config": {"model_type": "detr", **DETR},
        },
        "MaskFormerImageProcessor",
        {"size": SHORT, "size_divisor": 32},
    ),
    "EomtForUniversalSegmentation": (
        EOMT,
        "EomtImageProcessor",
        {"size": {"shortest_edge": 96, "longest_edge": 96}, "do_pad": True},
    ),
    "EomtDinov3ForUniversalSegmentation": (
        EOMT,
        "EomtImageProcessor",
        {"size": {"shortest_edge": 96, "longest_edge": 96}, "do_pad": True},
    ),
    "SegformerForSemanticSegmentation": (
        {
            "hidden_sizes": [8, 16, 16, 32],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 1, 2, 2],
            "decoder_hidden_size": 16,
        },
        "SegformerImageProcessor",
        {"size": SQUARE},
    ),
    "UperNetForSemanticSegmentation": (
        {"backbone_config": RESNET, "hidden_size": 16, "auxiliary_channels": 8, "auxiliary_in_channels": 16},
        "SegformerImageProcessor",
        {"size": SQUARE},
    ),
    "BeitForSemanticSegmentation": (
        {**VIT, "image_size": 96, "out_indices": [1, 2, 3, 4], "auxiliary_channels": 8},
        "BeitImageProcessor",
        {"size": SQUARE, "do_center_crop": False},
    ),
    "Data2VecVisionForSemanticSegmentation": (
        {**VIT, "image_size": 96, "out_indices": [1, 2, 3, 4], "auxiliary_channels": 8},
        "BeitImageProcessor",
        {"size": SQUARE, "do_center_crop": False},
    ),
    "DPTForSemanticSegmentation": (
        {
            **VIT,
            "image_size": 96,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [8, 8, 8, 8],
            "fusion_hidden_size": 8,
        },
        "DPTImageProcessor",
        {"size": SQUARE},
    ),
    "MobileViTForSemanticSegmentation": (
        {
            "image_size": 96,
            "hidden_sizes": [16, 16, 16],
            "neck_hidden_sizes": [8, 8, 8, 16, 16, 16, 32],
            "num_attention_heads": 2,
            "aspp_out_channels": 8,
        },
        "MobileViTImageProcessor",
        {"size": SQUARE, "do_center_crop": False},
    ),
    "MobileViTV2ForSemanticSegmentation": (
        {"image_size": 96, "width_multiplier": 0.25, "n_attn_blocks": [1, 1, 1], "aspp_out_channels": 8},
        "MobileViTImageProcessor",
        {"size": SQUARE, "do_center_crop": False},
    ),
    "MobileNetV2ForSemanticSegmentation": (
        {"image_size": 96, "depth_multiplier": 0.25, "classifier_dropout_prob": 0.0},
        "MobileNetV2ImageProcessor",
        {"size": SQUARE, "do_center_crop": False},
    ),
}


def save(architecture: str, folder: Path, *, names: dict[int, str] = NAMES, seed: int = 0) -> Path:
    """A checkpoint of that class with random weights."""
    settings, processor, rule = CONFIGS[architecture]
    torch.manual_seed(seed)
    kind = getattr(transformers, architecture)
    config = kind.config_class(**settings, id2label=names, label2id={v: k for k, v in names.items()})
    kind(config).save_pretrained(folder)
    getattr(transformers, processor)(**rule).save_pretrained(folder)
    return folder
