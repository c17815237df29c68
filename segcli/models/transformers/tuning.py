"""How each architecture's authors train or fine-tune it: rates by part and by layer, weight decay.

Sources, in their repositories: roboflow/rf-detr `rfdetr/config.py` (TrainConfig) and `rfdetr/util/get_param_dicts.py`;
Peterande/D-FINE and Intellindust-AI-Lab/DEIMv2 `configs` (L and larger: slower still); lyuwenyu/RT-DETR
`include/optimizer.yml`; facebookresearch/detr and its kin `main.py`; hustvl/YOLOS `README.md`;
facebookresearch/Mask2Former and MaskFormer `configs` (the latter's of Swin); tue-mps/eomt
`training/mask_classification_*.py`; NVlabs/SegFormer `local_configs` (its head learns ten times as fast as the trunk);
open-mmlab/mmsegmentation `configs/beit`. Of Data2Vec, DPT, UperNet, MobileNetV2, MobileViT and MobileViTV2 nothing is
taken over: they were published with other optimisers. Learning rates of detectors that were trained on batches of 32
to 128 are those of batches of 16.
"""

from segcli.models.interface import FineTuning

_DETR = FineTuning(lr=1e-4, backbone=0.1, weight_decay=1e-4)
_REAL_TIME = FineTuning(lr=1e-4, backbone=0.1, weight_decay=1e-4, norm_weight_decay=0.0)
_MASK2FORMER = FineTuning(lr=1e-4, backbone=0.1, weight_decay=0.05, norm_weight_decay=0.0)
_MASKFORMER = FineTuning(lr=6e-5, weight_decay=0.01, norm_weight_decay=0.0)  # Swin: coco/maskformer_swin_tiny
_EOMT = FineTuning(lr=1e-4, layer_decay=0.8, weight_decay=0.05)
# the encoder's 1.5e-4 times 0.7², the decoder's factor 0.7: lr_encoder, lr_component_decay of TrainConfig; times 0.8,
# as its code counts a layer more than there are (out_feature_indexes, from 1, plus 1)
_RF_DETR = FineTuning(
    lr=1e-4,
    backbone=0.588,
    layer_decay=0.8,
    weight_decay=1e-4,
    norm_weight_decay=0.0,
    lr_scales={"model.decoder": 0.7},
)

TUNING = {
    "RfDetrForObjectDetection": _RF_DETR,
    "RfDetrForInstanceSegmentation": _RF_DETR,
    "LwDetrForObjectDetection": _RF_DETR,
    **dict.fromkeys(["RTDetrForObjectDetection", "RTDetrV2ForObjectDetection"], _REAL_TIME),
    **dict.fromkeys(["DFineForObjectDetection", "Deimv2ForObjectDetection"], _REAL_TIME),
    **dict.fromkeys(["DetrForObjectDetection", "ConditionalDetrForObjectDetection"], _DETR),
    **dict.fromkeys(["DabDetrForObjectDetection", "TableTransformerForObjectDetection"], _DETR),
    "DeformableDetrForObjectDetection": FineTuning(
        lr=2e-4, backbone=0.1, weight_decay=1e-4, lr_scales={"reference_points": 0.1, "sampling_offsets": 0.1}
    ),
    "YolosForObjectDetection": FineTuning(lr=2.5e-5, weight_decay=1e-4),
    "Mask2FormerForUniversalSegmentation": _MASK2FORMER,
    "MaskFormerForInstanceSegmentation": _MASKFORMER,
    **dict.fromkeys(["EomtForUniversalSegmentation", "EomtDinov3ForUniversalSegmentation"], _EOMT),
    "SegformerForSemanticSegmentation": FineTuning(lr=6e-4, backbone=0.1, weight_decay=0.01, norm_weight_decay=0.0),
    "BeitForSemanticSegmentation": FineTuning(lr=3e-5, layer_decay=0.9, weight_decay=0.05, norm_weight_decay=0.0),
}
