"""Weights and activations of 8 bits, by NNCF's post-training quantisation.

Ranges come from training images. Convolutions and products with weights alone are quantised. What resizes the image
before them and draws masks after them are products of two computed matrices, and boxes are sums and products of numbers
up to the image's size: 256 values of either would move objects by pixels.
"""

import logging
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from segcli.core.errors import UsageError

if TYPE_CHECKING:
    import onnx
    import openvino

IMAGES = 100  # training images whose activations give the ranges
ELEMENTWISE_ONNX = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow")
ELEMENTWISE_OPENVINO = ("Add", "Subtract", "Multiply", "Divide", "Maximum", "Minimum", "Power")
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
    there = {node.op_type for node in model.graph.node}
    return _quantise(model, [{"image": image} for image in images], loose, there.intersection(ELEMENTWISE_ONNX))


def quantise_openvino(model: "openvino.Model", images: Sequence[np.ndarray]) -> "openvino.Model":
    """As `quantise_onnx`."""
    ops = model.get_ops()
    loose = [
        node.get_friendly_name()
        for node in ops
        if node.get_type_name() == "MatMul"
        and not any(_is_constant(node.input_value(i).get_node()) for i in range(node.get_input_size()))
    ]
    there = {node.get_type_name() for node in ops}
    return _quantise(model, images, loose, there.intersection(ELEMENTWISE_OPENVINO))


def _is_constant(node: "openvino.Node") -> bool:
    """Whether a value is a weight, converted or transposed or not."""
    return node.get_type_name() == "Constant" or (
        node.get_type_name() in ("Transpose", "Convert", "Reshape") and _is_constant(node.input_value(0).get_node())
    )


def _quantise(model: Graph, inputs: Sequence[object], loose: list[str], kinds: Collection[str]) -> Graph:
    """loose: names of the matrix products that keep their 32 bits; kinds: operators of the graph that do."""
    import nncf

    level = logging.getLogger("nncf").level
    logging.getLogger("nncf").setLevel(logging.ERROR)
    try:
        quantised: Graph = nncf.quantize(
            model,
            nncf.Dataset(inputs),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            ignored_scope=nncf.IgnoredScope(names=loose, types=sorted(kinds), validate=False),
        )
    finally:
        logging.getLogger("nncf").setLevel(level)
    return quantised
