"""Weights and activations of 8 bits, by NNCF's post-training quantisation.

Ranges come from training images. The network alone is quantised: what resizes the image before it and draws masks
after it are products of two computed matrices, whose 8 bits would move pixels.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from segcli.core.errors import UsageError

if TYPE_CHECKING:
    import onnx
    import openvino

IMAGES = 100  # training images whose activations give the ranges
Graph = TypeVar("Graph", bound="onnx.ModelProto | openvino.Model")


def require() -> None:
    """Raise UsageError where NNCF is not installed."""
    try:
        import nncf  # noqa: F401
    except ImportError as error:
        raise UsageError("--int8 needs nncf", hint="pip install 'segcli[int8]'") from error


def quantise_onnx(model: "onnx.ModelProto", images: Sequence[np.ndarray]) -> "onnx.ModelProto":
    """With ranges of uint8 images [H,W,3]."""
    for i, node in enumerate(model.graph.node):
        node.name = node.name or f"node {i}"
    constant = {tensor.name for tensor in model.graph.initializer}
    constant |= {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
    for node in model.graph.node:  # a weight may be transposed first
        if node.op_type in ("Transpose", "Identity") and node.input[0] in constant:
            constant.update(node.output)
    loose = [n.name for n in model.graph.node if n.op_type == "MatMul" and not constant.intersection(n.input)]
    return _quantise(model, [{"image": image} for image in images], loose)


def quantise_openvino(model: "openvino.Model", images: Sequence[np.ndarray]) -> "openvino.Model":
    """As `quantise_onnx`."""
    loose = [
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_type_name() == "MatMul"
        and not any(_is_constant(node.input_value(i).get_node()) for i in range(node.get_input_size()))
    ]
    return _quantise(model, images, loose)


def _is_constant(node: "openvino.Node") -> bool:
    """Whether a value is a weight, converted or transposed or not."""
    return node.get_type_name() == "Constant" or (
        node.get_type_name() in ("Transpose", "Convert", "Reshape") and _is_constant(node.input_value(0).get_node())
    )


def _quantise(model: Graph, inputs: Sequence[object], loose: list[str]) -> Graph:
    """loose: names of the matrix products that keep their 32 bits."""
    import nncf

    level = logging.getLogger("nncf").level
    logging.getLogger("nncf").setLevel(logging.ERROR)
    try:
        quantised: Graph = nncf.quantize(
            model,
            nncf.Dataset(inputs),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            ignored_scope=nncf.IgnoredScope(names=loose, validate=False),
        )
    finally:
        logging.getLogger("nncf").setLevel(level)
    return quantised
