"""What the library's models give, on the original images' pixels.

Boxes by the library's own post-processing. Maps by the same rules, here with padding left out. Of Mask2Former and
MaskFormer the rules are their authors', from which the library deviates: it takes masks over 384 x 384 pixels; in
panoptic maps it measures where p × mask is one half in place of where the mask is, enlarges probabilities in place of
logits (MaskFormer), keeps pixels outside the query's mask (Mask2Former) and, after joining stuff, gives the next
segment a number that another has. EoMT's are its authors', and equal.
"""

import dataclasses
from functools import partial
from typing import Any

import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from segcli.core.tasks import TASKS
from segcli.ops import mask_inference
from segcli.ops.boxes import clamp, to_xyxy
from segcli.ops.mask_inference import Enlarge, largest
from segcli.ops.panoptic import panoptic
from segcli.types import Batch, Instances, Prediction, Rle, encode_masks


def boxes(out: Any, reader: Any, batch: Batch, limit: int) -> list[Prediction]:
    """Detections, best first; boxes are shares of an image's content. reader: the library's post-processing."""
    out.logits, out.pred_boxes = out.logits.float(), out.pred_boxes.float()
    sizes = torch.tensor(batch.original_sizes, device=out.logits.device)
    found = reader.post_process_object_detection(out, threshold=0.0, target_sizes=sizes)
    predictions = []
    for one, image_id, original in zip(found, batch.image_ids, batch.original_sizes, strict=True):
        order = one["scores"].argsort(descending=True, stable=True)[:limit]
        corners = clamp(one["boxes"][order], original)
        instances = Instances(corners, one["labels"][order], one["scores"][order]).to("cpu")
        predictions.append(Prediction(image_id, original, instances))
    return predictions


def masked_boxes(out: Any, batch: Batch, limit: int) -> list[Prediction]:
    """RF-DETR's: the best (query, class) pairs with their query's box and mask; those without a pixel are left out."""
    predictions = []
    for i, enlarge in enumerate(_enlargers(batch)):
        scores_QC = out.logits[i].float().sigmoid()
        scores, at = scores_QC.flatten().topk(min(limit, scores_QC.numel()))
        query, label = at.div(scores_QC.shape[1], rounding_mode="floor"), at % scores_QC.shape[1]
        masks_Nhw = out.pred_masks[i].float()[query]
        masks: list[Rle] = []
        for part in enlarge.chunks(len(query)):
            masks += encode_masks((enlarge(masks_Nhw[part]) > 0).cpu().numpy())
        height, width = enlarge.original
        corners = to_xyxy(out.pred_boxes[i].float()[query]) * scores.new_tensor([width, height] * 2)
        found = Instances(clamp(corners, enlarge.original), label, scores).to("cpu")
        found.masks = masks
        seen = torch.tensor([_has_pixels(mask) for mask in masks], dtype=torch.bool)
        predictions.append(Prediction(batch.image_ids[i], enlarge.original, found[seen]))
    return predictions


@dataclasses.dataclass(frozen=True)
class MaskRule:
    """How an architecture's authors read masks. direct: of `Enlarge`; within: of `panoptic`."""

    direct: bool = True
    within: bool = True


MASK_RULES = {
    "MaskFormerForInstanceSegmentation": MaskRule(within=False),
    "Mask2FormerForUniversalSegmentation": MaskRule(),
    **dict.fromkeys(["EomtForUniversalSegmentation", "EomtDinov3ForUniversalSegmentation"], MaskRule(direct=False)),
}


def segments(out: Any, batch: Batch, task: str, num_things: int, limit: int, rule: MaskRule) -> list[Prediction]:
    """Mask classification: of each query a class and a mask."""
    predictions = []
    for i, enlarge in enumerate(_enlargers(batch, direct=rule.direct)):
        logits_QC, masks_Qhw = out.class_queries_logits[i].float(), out.masks_queries_logits[i].float()
        one = Prediction(batch.image_ids[i], enlarge.original)
        if not TASKS[task].things:
            one.semantic = mask_inference.semantic(logits_QC, masks_Qhw, enlarge)
        elif not TASKS[task].stuff:
            one.instances = mask_inference.instances(logits_QC, masks_Qhw, enlarge, classes=num_things, limit=limit)
        else:
            one.panoptic = panoptic(logits_QC, masks_Qhw, enlarge, num_things=num_things, within=rule.within)
        predictions.append(one)
    return predictions


def pixels(out: Any, batch: Batch) -> list[Prediction]:
    """The best class of every pixel."""
    predictions = []
    for i, enlarge in enumerate(_enlargers(batch)):
        logits_Chw = out.logits[i].float()
        labels = largest(partial(_part, logits_Chw, enlarge), len(logits_Chw), enlarge)
        predictions.append(Prediction(batch.image_ids[i], enlarge.original, semantic=labels))
    return predictions


def _part(logits_Chw: Tensor, enlarge: Enlarge, part: slice) -> Tensor:
    return enlarge(logits_Chw[part])


def _enlargers(batch: Batch, *, direct: bool = True) -> list[Enlarge]:
    canvas = (batch.images.shape[2], batch.images.shape[3])
    pairs = zip(batch.sizes, batch.original_sizes, strict=True)
    return [Enlarge(canvas, size, original, direct=direct) for size, original in pairs]


def _has_pixels(mask: Rle) -> bool:
    return bool(coco_mask.area(mask))
