"""What the architectures of the library `transformers` are called in their papers, by their classes there."""

from collections.abc import Mapping

NAMES = {
    "BeitForSemanticSegmentation": "BEiT",
    "ConditionalDetrForObjectDetection": "Conditional DETR",
    "DFineForObjectDetection": "D-FINE",
    "DPTForSemanticSegmentation": "DPT",
    "DabDetrForObjectDetection": "DAB-DETR",
    "Data2VecVisionForSemanticSegmentation": "Data2Vec",
    "DeformableDetrForObjectDetection": "Deformable DETR",
    "Deimv2ForObjectDetection": "DEIMv2",
    "DetrForObjectDetection": "DETR",
    "EomtDinov3ForUniversalSegmentation": "EoMT (DINOv3)",
    "EomtForUniversalSegmentation": "EoMT",
    "LwDetrForObjectDetection": "LW-DETR",
    "Mask2FormerForUniversalSegmentation": "Mask2Former",
    "MaskFormerForInstanceSegmentation": "MaskFormer",
    "MobileNetV2ForSemanticSegmentation": "MobileNetV2",
    "MobileViTForSemanticSegmentation": "MobileViT",
    "MobileViTV2ForSemanticSegmentation": "MobileViTV2",
    "RTDetrForObjectDetection": "RT-DETR",
    "RTDetrV2ForObjectDetection": "RT-DETRv2",
    "RfDetrForInstanceSegmentation": "RF-DETR",
    "RfDetrForObjectDetection": "RF-DETR",
    "SegformerForSemanticSegmentation": "SegFormer",
    "TableTransformerForObjectDetection": "Table Transformer",
    "UperNetForSemanticSegmentation": "UperNet",
    "YolosForObjectDetection": "YOLOS",
}


def model_title(settings: Mapping[str, object]) -> str:
    """What a recipe's `model` section is called: its name, of a checkpoint of `transformers` whose configuration it
    holds its architecture."""
    name, config = str(settings["name"]), settings.get("config")
    stated = config.get("architectures") if isinstance(config, dict) else None
    architecture = NAMES.get(str(stated[0])) if isinstance(stated, list) and stated else None
    return f"{architecture} ({name})" if architecture else name
