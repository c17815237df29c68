"""From queries (a class distribution and a mask each) to a semantic map or to instances, on the original pixels.

No tensor has more than a few maps of the original size, whatever the number of queries and classes.
Q queries, C classes (without "no object"); h w size of the mask logits, H W size of the original image.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.types import Instances, Rle, encode_masks, mask_boxes

PIXELS = 2**24  # original pixels held at once (64 MB)


@dataclasses.dataclass(frozen=True)
class Enlarge:
    """From the network's maps to the original image, all sizes (height, width) in pixels.

    canvas: the network's input, padding included. content: the image on it, at the top left. original: the file.
    direct: one bilinear step instead of the official two (to the canvas, then from the content to the original).
    """

    canvas: tuple[int, int]
    content: tuple[int, int]
    original: tuple[int, int]
    direct: bool = False

    def to_content(self, maps_Nhw: Tensor) -> Tensor:
        """The first of the two steps: [N,*content]."""
        maps = F.interpolate(maps_Nhw[None], size=self.canvas, mode="bilinear", align_corners=False)[0]
        return maps[:, : self.content[0], : self.content[1]]

    def to_original(self, content_Nhw: Tensor) -> Tensor:
        """The second of the two steps: [N,*original]."""
        return F.interpolate(content_Nhw[None], size=self.original, mode="bilinear", align_corners=False)[0]

    def __call__(self, maps_Nhw: Tensor) -> Tensor:
        """[N,h,w] -> [N,*original]."""
        if not self.direct:
            return self.to_original(self.to_content(maps_Nhw))
        # the factor places the samples, so that padding is left out without cutting between two of the map's cells
        factors = [
            o / c * canvas / s
            for o, c, canvas, s in zip(self.original, self.content, self.canvas, maps_Nhw.shape[1:], strict=True)
        ]
        return torch.ops.aten.upsample_bilinear2d(maps_Nhw[None], list(self.original), False, *factors)[0]

    def chunks(self, count: int) -> Iterator[slice]:
        """Slices of `count` maps, each of which fits PIXELS when enlarged."""
        largest = max(self.canvas[0] * self.canvas[1], self.original[0] * self.original[1])
        step = max(1, PIXELS // largest)
        return (slice(i, min(i + step, count)) for i in range(0, count, step))


def semantic(class_logits_QC1: Tensor, mask_logits_Qhw: Tensor, enlarge: Enlarge) -> np.ndarray:
    """The class of the largest Σ_q p_q(class)·mask_q, [H,W] uint8 (int32 above 255 classes); "no object" has no say.

    The sum is taken on the network's input, as the official code does it, or at the mask logits' own resolution
    (`direct`: a sixteenth of the work).
    """
    return semantic_of(class_logits_QC1.float().softmax(-1)[:, :-1], mask_logits_Qhw, enlarge)


def semantic_of(p_QC: Tensor, mask_logits_Qhw: Tensor, enlarge: Enlarge) -> np.ndarray:
    """`semantic` of class probabilities, of whatever kind."""
    p_CQ = p_QC.T.contiguous()
    masks_Qhw = mask_logits_Qhw.float()
    masks_Qhw = (masks_Qhw if enlarge.direct else enlarge.to_content(masks_Qhw)).sigmoid()
    last_step = enlarge if enlarge.direct else enlarge.to_original

    def scores(part: slice) -> Tensor:
        return last_step((p_CQ[part] @ masks_Qhw.flatten(1)).view(-1, *masks_Qhw.shape[1:]))

    return largest(scores, len(p_CQ), enlarge)


def largest(scores: Callable[[slice], Tensor], count: int, enlarge: Enlarge) -> np.ndarray:
    """The class with the largest score, [H,W] uint8 (int32 above 255 classes), from a few classes at a time.

    scores(part) gives the maps [n,H,W] of a slice of the `count` classes; the lower class wins a tie.
    """
    best_HW = torch.empty(0)
    label_HW = torch.empty(0)
    for part in enlarge.chunks(count):
        value, index = scores(part).max(0)
        if part.start == 0:
            best_HW, label_HW = value, index
        else:
            better = value > best_HW
            best_HW = torch.where(better, value, best_HW)
            label_HW = torch.where(better, index + part.start, label_HW)
    return label_HW.cpu().numpy().astype(np.uint8 if count <= 255 else np.int32)


def instances(
    class_logits_QC1: Tensor, mask_logits_Qhw: Tensor, enlarge: Enlarge, *, classes: int, limit: int
) -> Instances:
    """The `limit` best (query, class) pairs among the first `classes` classes, sorted by score, masks as RLE.

    score = probability of the class × mean probability of the mask's pixels; a mask holds the pixels above one half.
    Pairs whose mask is empty are left out: there is nothing to draw or to match.
    """
    p_QC = class_logits_QC1.float().softmax(-1)[:, :classes]
    return instances_of(p_QC, lambda used: mask_logits_Qhw[used].float(), enlarge, limit)


def instances_of(
    p_QC: Tensor,
    masks_of: Callable[[Tensor], Tensor],
    enlarge: Enlarge,
    limit: int,
    boxes_Q4: Tensor | None = None,
) -> Instances:
    """`instances` of class probabilities, of whatever kind; masks_of gives the mask logits [n,h,w] of queries [n].

    boxes: the queries' boxes, xyxy on the original pixels; None: the masks' own.
    """
    classes = p_QC.shape[1]
    p, index = p_QC.flatten().topk(min(limit, p_QC.numel()))
    query, label = index.div(classes, rounding_mode="floor"), index % classes
    used, place = query.unique(return_inverse=True)
    quality, boxes, rles = _measure(masks_of(used), enlarge)
    boxes = boxes if boxes_Q4 is None else boxes_Q4[used].cpu()
    scores = p.cpu() * quality[place.cpu()]
    order = scores.argsort(descending=True, stable=True)
    order = order[(quality > 0)[place.cpu()][order]]
    place = place.cpu()[order]
    return Instances(
        boxes=boxes[place],
        labels=label.cpu()[order],
        scores=scores[order],
        masks=[rles[i] for i in place.tolist()],
    )


def _measure(mask_logits_Nhw: Tensor, enlarge: Enlarge) -> tuple[Tensor, Tensor, list[Rle]]:
    """(mean probability inside [N], 0 where empty; boxes [N,4]; RLEs) of each mask on the original pixels."""
    quality, boxes, rles = [torch.zeros(0)], [torch.zeros(0, 4)], []
    for part in enlarge.chunks(len(mask_logits_Nhw)):
        logits = enlarge(mask_logits_Nhw[part])
        inside = logits > 0
        area = inside.sum((1, 2))
        quality.append(((logits.sigmoid_() * inside).sum((1, 2)) / area.clamp(min=1)).cpu())
        masks = inside.cpu().numpy()
        boxes.append(torch.from_numpy(mask_boxes(masks)))
        rles += encode_masks(masks)
    return torch.cat(quality), torch.cat(boxes), rles
