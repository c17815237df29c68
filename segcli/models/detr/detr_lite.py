"""DETR for little data: its queries are boxes, refined layer by layer (DAB-DETR, Liu et al., 2022), each with a sigmoid
a class whose target is the box's IoU (DEIM, 2025). See docs/little_data.md; the model is in layers/box_detector.py."""

from segcli.models import build_backbone
from segcli.models.layers.box_detector import BoxDetector
from segcli.models.layers.box_queries import BoxOptions, BoxQueries
from segcli.models.layers.box_query_loss import BoxLoss
from segcli.models.layers.task_check import check_task
from segcli.models.layers.transformer import TransformerSettings

DOES = ("detection",)


def build(
    *,
    task: str,
    num_things: int,
    backbone: dict[str, object] | None = None,
    queries: int = 100,
    levels: int = 1,
    transformer: TransformerSettings,
    boxes: BoxOptions,
    loss: BoxLoss,
) -> BoxDetector:
    """backbone: a ResNet-50 by default. queries: at most so many objects an image. levels: how many of the coarsest
    maps are read (RT-DETR's encoder).
    """
    reason = "it has boxes alone"
    check_task("detr_lite", DOES, task, num_things=num_things, reason=reason, with_masks="maskformer_lite")
    body = build_backbone({"name": "resnet", **(backbone or {})}, maps=levels)
    head = BoxQueries(body, levels, num_things, queries=queries, transformer=transformer, options=boxes, loss=loss)
    return BoxDetector(body, head, task=task, num_things=num_things)
