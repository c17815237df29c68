"""What papers report, with segcli's own counts of the same models beside it.

Scores, parameters (millions) and GFLOPs are as printed in DETR (Carion et al., 2020), MaskFormer (Cheng et al., 2021;
also its model zoo and Detectron2's), Mask2Former (Cheng et al., 2022). COUNTED holds this package's own numbers for the
recipes named here, made by `tests/benchmarks/recount_published.py`.
"""

import copy
from typing import Any

import yaml

from segcli.compare.row import describe
from segcli.core.recipe.recipe import Recipe, find_recipe

BOXES, MASKS, PANOPTIC, ADE = "COCO boxes (papers)", "COCO masks (papers)", "COCO panoptic (papers)", "ADE20K (papers)"
SIZED = ("bbox_AP", "bbox_AP50", "bbox_APs", "bbox_APm", "bbox_APl")
QUALITY = ("PQ", "PQ_things", "PQ_stuff")
SHOWN = {BOXES: "bbox_AP", MASKS: "segm_AP", PANOPTIC: "PQ", ADE: "mIoU"}  # what each group is ranked by

# group, name, shipped recipe (what is changed in it), params M, GFLOPs, score keys, scores × 100; None = not printed
Entry = tuple[str, str, str, float | None, float | None, tuple[str, ...], tuple[float, ...]]
TABLE: list[Entry] = [
    (BOXES, "Faster R-CNN R50-FPN", "coco/faster_rcnn_r50_fpn", 42, 180, SIZED, (40.2, 61.0, 24.2, 43.5, 52.0)),
    (BOXES, "Faster R-CNN R50-FPN, 9x", "coco/faster_rcnn_r50_fpn", 42, 180, SIZED, (42.0, 62.1, 26.6, 45.4, 53.4)),
    (
        BOXES,
        "Faster R-CNN R101-FPN",
        "coco/faster_rcnn_r50_fpn model.backbone.depth=101",
        60,
        246,
        SIZED,
        (42.0, 62.5, 25.2, 45.6, 54.6),
    ),
    (
        BOXES,
        "Faster R-CNN R101-FPN, 9x",
        "coco/faster_rcnn_r50_fpn model.backbone.depth=101",
        60,
        246,
        SIZED,
        (44.0, 63.9, 27.2, 48.1, 56.0),
    ),
    (BOXES, "DETR R50", "coco/detr_r50", 41, 86, SIZED, (42.0, 62.4, 20.5, 45.8, 61.1)),
    (BOXES, "DETR DC5-R50", "coco/detr_r50_dc5", 41, 187, SIZED, (43.3, 63.1, 22.5, 47.3, 61.1)),
    (BOXES, "DETR R101", "coco/detr_r101", 60, 152, SIZED, (43.5, 63.8, 21.9, 48.0, 61.8)),
    (BOXES, "DETR DC5-R101", "coco/detr_r101_dc5", 60, 253, SIZED, (44.9, 64.7, 23.7, 49.5, 62.3)),
    (MASKS, "Mask R-CNN R50-FPN, 3x", "coco/mask_rcnn_r50_fpn", 44, 201, ("segm_AP", "bbox_AP"), (37.2, 41.0)),
    (MASKS, "Mask R-CNN R101-FPN, 3x", "coco/mask_rcnn_r101_fpn", 63, 266, ("segm_AP", "bbox_AP"), (38.6, 42.9)),
    (PANOPTIC, "DETR R50", "coco/detr_r50_panoptic", None, None, QUALITY, (43.4, 48.2, 36.3)),
    (
        PANOPTIC,
        "DETR DC5-R50",
        "coco/detr_r50_panoptic model.backbone.dilate_last=1",
        None,
        None,
        QUALITY,
        (44.6, 49.4, 37.3),
    ),
    (PANOPTIC, "DETR R101", "coco/detr_r50_panoptic model.backbone.depth=101", None, None, QUALITY, (45.1, 50.5, 37.0)),
    (PANOPTIC, "MaskFormer R50", "coco/maskformer_r50", 45, 181, QUALITY, (46.5, 51.0, 39.8)),
    (PANOPTIC, "MaskFormer R101", "coco/maskformer_r101", 64, 248, QUALITY, (47.6, 52.5, 40.3)),
    (PANOPTIC, "MaskFormer Swin-T", "coco/maskformer_swin_tiny", 42, 179, QUALITY, (47.7, 51.7, 41.7)),
    (PANOPTIC, "MaskFormer Swin-S", "coco/maskformer_swin_small", 63, 259, QUALITY, (49.7, 54.4, 42.6)),
    (PANOPTIC, "MaskFormer Swin-B", "coco/maskformer_swin_base", 102, 411, QUALITY, (51.8, 56.9, 44.1)),
    (PANOPTIC, "MaskFormer Swin-L", "coco/maskformer_swin_large", 212, 792, QUALITY, (52.7, 58.5, 44.0)),
    (ADE, "PerPixelBaseline R50", "ade20k/per_pixel_r50", None, None, ("mIoU",), (39.2,)),
    (ADE, "PerPixelBaseline+ R50", "ade20k/per_pixel_plus_r50", None, None, ("mIoU",), (41.9,)),
    (ADE, "MaskFormer R50", "ade20k/maskformer_r50", 41, 53, ("mIoU",), (44.5,)),
    (ADE, "MaskFormer R101", "ade20k/maskformer_r101", 60, 73, ("mIoU",), (45.5,)),
    (ADE, "MaskFormer R101c", "ade20k/maskformer_r101c", 60, 80, ("mIoU",), (46.0,)),
    (ADE, "MaskFormer Swin-T", "ade20k/maskformer_swin_tiny", 42, 55, ("mIoU",), (46.7,)),
    (ADE, "MaskFormer Swin-S", "ade20k/maskformer_swin_small", 63, 79, ("mIoU",), (49.8,)),
    (ADE, "MaskFormer Swin-B", "ade20k/maskformer_swin_base", 102, 195, ("mIoU",), (52.7,)),
    (ADE, "MaskFormer Swin-L", "ade20k/maskformer_swin_large", 212, 375, ("mIoU",), (54.1,)),
]

# recipe -> (parameters, GFLOPs by segcli's one rule, by the paper's own or None), at INPUTS' sizes
COUNTED: dict[str, tuple[int, float, float | None]] = {
    "coco/faster_rcnn_r50_fpn": (41_704_036, 187.13, None),
    "coco/detr_r50": (41_521_941, 86.08, 86.08),
    "coco/detr_r50_dc5": (41_521_941, 185.64, 185.64),
    "coco/detr_r101": (60_461_845, 153.32, 153.32),
    "coco/detr_r101_dc5": (60_461_845, 252.88, 252.88),
    "coco/mask_rcnn_r50_fpn": (44_347_573, 240.14, None),
    "coco/mask_rcnn_r101_fpn": (63_287_477, 308.32, None),
    "coco/detr_r50_panoptic": (42_869_219, 196.44, 250.63),
    "coco/maskformer_r50": (45_012_038, 171.92, 179.38),
    "coco/maskformer_r101": (63_951_942, 239.16, 246.61),
    "coco/maskformer_swin_tiny": (41_752_640, 171.15, 178.98),
    "coco/maskformer_swin_small": (63_070_544, 253.87, 261.86),
    "coco/maskformer_swin_base": (101_825_022, 398.23, 406.4),
    "coco/maskformer_swin_large": (211_571_258, 776.52, 785.05),
    "ade20k/per_pixel_r50": (31_033_942, 47.42, 47.63),
    "ade20k/per_pixel_plus_r50": (41_228_736, 49.41, 49.63),
    "ade20k/maskformer_r50": (41_254_743, 48.66, 52.65),
    "ade20k/maskformer_r101": (60_194_647, 68.05, 72.04),
    "ade20k/maskformer_r101c": (60_318_039, 75.13, 79.12),
    "ade20k/maskformer_swin_tiny": (41_757_009, 50.79, 54.9),
    "ade20k/maskformer_swin_small": (63_074_913, 74.51, 78.66),
    "ade20k/maskformer_swin_base": (101_829_391, 188.06, 194.63),
    "ade20k/maskformer_swin_large": (211_575_627, 367.64, 374.37),
    "coco/faster_rcnn_r50_fpn model.backbone.depth=101": (60_643_940, 255.32, None),
    "coco/detr_r50_panoptic model.backbone.depth=101": (61_809_123, 263.67, 317.87),
    "coco/detr_r50_panoptic model.backbone.dilate_last=1": (42_869_219, 383.48, 597.26),
}


def input_of(recipe: str) -> tuple[int, int]:
    """(height, width) at which a recipe is counted: DETR's proxy for COCO's mean image (region-based models pad it to
    a multiple of 32), or ADE20K's training crop."""
    recipe = recipe.split()[0]
    if recipe.startswith("ade20k/"):
        return (640, 640) if recipe.endswith(("base", "large")) else (512, 512)
    return (800, 1152) if "rcnn" in recipe else (800, 1130)


def published_rows() -> list[dict[str, Any]]:
    """The papers' rows, in groups of their own: never ranked against anyone's runs."""
    out, cells = [], {}
    for group, name, source, params, gflops, keys, scores in TABLE:
        if source not in cells:
            cells[source] = describe(load(source))
        row = {**copy.deepcopy(cells[source]), "name": name, "source": "published", "data": group, "split": "val"}
        row["primary"] = SHOWN[group]
        row["params_published"] = None if params is None else round(params * 1e6)
        row["gflops_published"] = gflops
        row["metrics_published"] = {k: round(v / 100, 4) for k, v in zip(keys, scores, strict=True)}
        row["params"], row["gflops"], row["gflops_paper_rule"] = COUNTED[source]
        row["gflops_input"] = list(input_of(source))
        out.append(row)
    return out


def load(source: str) -> Recipe:
    """The recipe of a row: a shipped one's name, then what is changed in it, KEY=VALUE."""
    name, *changes = source.split()
    return Recipe.load(find_recipe(name), {k: yaml.safe_load(v) for k, v in (c.split("=") for c in changes)})


def beside(recipe: str) -> dict[str, Any]:
    """{"params_published", "gflops_published", "metrics_published"} of a shipped recipe; {} where no paper has it."""
    for _, _, source, params, gflops, keys, scores in TABLE:
        if source == recipe:
            return {
                "params_published": None if params is None else round(params * 1e6),
                "gflops_published": gflops,
                "metrics_published": {k: round(v / 100, 4) for k, v in zip(keys, scores, strict=True)},
            }
    return {}
