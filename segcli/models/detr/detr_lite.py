"""DETR for little data: its queries are boxes, refined layer by layer (DAB-DETR, Liu et al., 2022), each with a sigmoid
a class whose goal is the box's IoU (DEIM, 2025). See docs/little_data.md; the model is in layers/box_detector.py."""

from typing import Any

from segcli.core.errors import UsageError
from segcli.core.tasks import TASKS
from segcli.models.layers.box_detector import BoxDetector
from segcli.models.layers.box_queries import BoxWeights, box_queries_on


def build(
    *,
    task: str,
    num_things: int,
    backbone: dict[str, Any] | None = None,
    queries: int = 100,
    dim: int = 256,
    heads: int = 8,
    encoder_layers: int = 6,
    decoder_layers: int = 6,
    ffn: int = 2048,
    dropout: float = 0.1,
    class_weight: float = 1.0,
    l1_weight: float = 5.0,
    giou_weight: float = 2.0,
    levels: int = 1,
    deformable: bool = False,
    selection: bool = False,
    distinct: float | None = None,
    denoising: int = 0,
    groups: int = 1,
) -> BoxDetector:
    """backbone: a ResNet-50 by default. queries: at most so many objects an image. dim, heads, encoder_layers,
    decoder_layers, ffn, dropout: of the transformer. class_weight, l1_weight, giou_weight: of the losses and of the
    matching.

    levels: how many of the coarsest
    maps are read (RT-DETR's encoder). deformable: cross-attention to a few points around the box. selection (DINO,
    RT-DETR): queries begin at the best cells of a dense head, trained one-to-many (TOOD). distinct (DDQ, 2023): the
    cells that no better one overlaps by a higher IoU are chosen first; 0.8 there. denoising (DN-DETR, DINO): about so
    many noisy copies of labelled boxes join in training. groups (Group DETR): so many sets of learned queries in
    training, each matched on its own; without selection.
    """
    if TASKS[task].masks or TASKS[task].fields:
        raise UsageError(
            f"model detr_lite does not do task {task!r}: it has boxes alone",
            hint="task: detection, or model.name: maskformer_lite, which has masks",
        )
    if not num_things:
        raise UsageError("model detr_lite needs thing classes, and the dataset declares none")
    body, head = box_queries_on(
        backbone, num_things, queries=queries, dim=dim, heads=heads, ffn=ffn, encoder_layers=encoder_layers,
        decoder_layers=decoder_layers, dropout=dropout, levels=levels, deformable=deformable, selection=selection,
        distinct=distinct, denoising=denoising, groups=groups, masks=False,
        weights=BoxWeights(class_weight, l1_weight, giou_weight),
    )  # fmt: skip
    return BoxDetector(body, head, task=task, num_things=num_things)
