"""A model with its preprocessing as one graph from a uint8 image to predictions on its pixels."""

import dataclasses
import warnings

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from segcli.core.errors import UsageError
from segcli.models.interface import Model
from segcli.ops.preprocess_graph import fixed_canvas, frame

EXAMPLE = (120, 160)  # a traced image's height and width: any others do


class Graph(nn.Module):
    """image uint8 [H,W,3] -> the outputs of `Model.deploy`."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return self.model.deploy(frame(self.model.preprocess, image))


def on_fixed_canvas(model: Model) -> tuple[int, int]:
    """Let every image lie on one canvas, whose size a graph can state. -> its (height, width).

    Models with an own size are so already; of those whose canvas follows the image's shape it is the largest square
    that they have, as for an image beside others in a batch. Raises UsageError for a model that takes any size, and for
    ways of resizing that ops/preprocess_graph.py does not have.
    """
    rule = model.preprocess
    if rule.keep_size:
        raise UsageError("a model that resizes no image has no size to export", hint="set data.size")
    if rule.stretch is not None or rule.bicubic:
        raise UsageError("a model that stretches images or resizes them bicubically has no form that a file can hold")
    if not rule.square:  # DETR's rounding lets the longer side exceed its limit: mostly by less than this leaves room
        rule = dataclasses.replace(rule, square=True, divisor=max(rule.divisor, 32))
    model.preprocess = rule
    return fixed_canvas(model.preprocess)


def trace(model: Model) -> tuple[ExportedProgram, list[str]]:
    """(the graph, the names of its outputs). Raises UsageError for a part that no graph can hold."""
    graph = Graph(model.eval().to("cpu").float().to(memory_format=torch.contiguous_format))
    image = torch.randint(0, 256, (*EXAMPLE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = list(graph(image))  # a part without a graph says so here, at once
        sides = {0: Dim("height"), 1: Dim("width")}
        return torch.export.export(graph, (image,), dynamic_shapes=(sides,), strict=False), names
