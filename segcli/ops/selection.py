"""From scored boxes to detections."""

import torch
from torch import Tensor
from torchvision.ops import batched_nms
from torchvision.ops import nms as plain_nms


def select(
    boxes_NC4: Tensor, scores_NC: Tensor, lowest: float, nms: float | None, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Every class of every box on its own: threshold, suppress duplicates class by class, keep the best `limit`.

    boxes [N,C,4], or [N,1,4] where all classes share one box; scores [N,C]. -> boxes [n,4],
    labels [n], scores [n], from high to low.
    """
    row, label = torch.where(scores_NC > lowest)
    score = scores_NC[row, label]
    box = boxes_NC4[row, label if boxes_NC4.shape[1] > 1 else torch.zeros_like(label)]
    solid = ((box[:, 2:] - box[:, :2]) >= 1e-2).all(1)
    row, label, score, box = row[solid], label[solid], score[solid], box[solid]
    if nms is None:
        keep = score.argsort(descending=True, stable=not torch.compiler.is_exporting())  # ONNX has no stable one
    elif torch.compiler.is_exporting():  # without torchvision's branch on how many boxes there are
        largest = torch.cat([box.flatten(), box.new_zeros(1)]).max()
        keep = plain_nms(box + label.to(box)[:, None] * (largest + 1), score, nms)
    else:
        keep = batched_nms(box, score, label, nms)
    keep = keep[:limit]
    return box[keep], label[keep], score[keep]
