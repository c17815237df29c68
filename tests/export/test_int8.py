"""What becomes 8 bits wide in an exported graph, and what keeps its 32."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from segcli.export.int8 import quantise_onnx

pytest.importorskip("nncf", reason="pip install 'segcli[int8]'")


def graph():
    """An image [8,8,3] resized by a computed matrix, convolved, and its sums scaled to coordinates."""
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.normal(size=(4, 3, 3, 3)).astype(np.float32), "weight")
    fixed = {"order": np.array([0, 3, 1, 2]), "size": np.float32(300), "half": np.full((8, 8), 0.5, np.float32)}
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in fixed.items()]
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["float", "zero"], ["batch"]),
        helper.make_node("Transpose", ["batch"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "planes"], ["squares"]),
        helper.make_node("MatMul", ["squares", "planes"], ["resized"]),
        helper.make_node("Conv", ["resized", "weight"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["maps", "size"], ["wide"]),
        helper.make_node("Add", ["wide", "half"], ["boxes"]),
    ]
    constants.append(numpy_helper.from_array(np.array([0], np.int64), "zero"))
    whole = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [8, 8, 3])],
        [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 4, 8, 8])],
        [weight, *constants[1:]],
    )
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_convolutions_alone_are_quantised():
    images = [np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8) for i in range(3)]
    nodes = quantise_onnx(graph(), images).graph.node
    made_by = {name: node for node in nodes for name in node.output}
    narrow = {
        node.op_type: {made_by[name].op_type for name in node.input if name in made_by}
        for node in nodes
        if node.op_type in ("Conv", "MatMul", "Mul", "Add")
    }
    assert narrow["Conv"] == {"DequantizeLinear"}
    assert not any("DequantizeLinear" in narrow[kind] for kind in ("MatMul", "Mul", "Add"))
