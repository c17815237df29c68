"""Exported models as ONNX files, run by ONNX Runtime."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from segcli.core.errors import ModelError
from segcli.core.files import read_bytes
from segcli.models.exported.description import KEY

STANDARD = ("", "ai.onnx")  # the domains of ONNX's own operators


def contents(path: Path) -> tuple[str | None, bytes]:
    """See `description.Runtime`."""
    try:
        model = onnx.load_model_from_string(read_bytes(path, error=ModelError, largest=2**31))
    except ModelError:
        raise
    except Exception as error:  # protobuf's own, of several kinds
        raise ModelError(f"{path}: is no ONNX file: {str(error) or type(error).__name__:.200}") from error
    refuse_foreign(model, path)
    found = [entry.value for entry in model.metadata_props if entry.key == KEY]
    return (found[0] if found else None), bare(model)


def bare(model: onnx.ModelProto) -> bytes:
    """What the digest is of: all but the metadata, which the description is a part of."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    del copied.metadata_props[:]
    return copied.SerializeToString(deterministic=True)


def refuse_foreign(model: onnx.ModelProto, path: Path) -> None:
    """Raise ModelError for operators that are not ONNX's, which need a library of somebody's, and for weights that lie
    in other files."""
    own = {(function.domain, function.name) for function in model.functions}
    nodes, tensors = _parts([model.graph, *model.functions])
    for node in nodes:
        if node.domain not in STANDARD and (node.domain, node.op_type) not in own:
            raise ModelError(f"{path}: the operator {node.domain}.{node.op_type} is not ONNX's own, and is not run")
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelError(f"{path}: its weight {tensor.name!r} lies in another file, which is not read")


def load(path: Path, threads: int) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """See `description.Runtime`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own, of several kinds
        raise ModelError(f"{path}: ONNX Runtime can't load it: {str(error).splitlines()[0]:.200}") from error
    names = [output.name for output in session.get_outputs()]
    return lambda image: dict(zip(names, session.run(names, {"image": image}), strict=True))


def _parts(
    places: Iterable[onnx.GraphProto | onnx.FunctionProto],
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """(the nodes, the tensors) of graphs and functions, and of the graphs inside their nodes."""
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [*places]
    while waiting:
        place = waiting.pop()
        nodes += place.node
        sparse: list[onnx.SparseTensorProto] = []
        if isinstance(place, onnx.GraphProto):
            tensors += place.initializer
            sparse += place.sparse_initializer
        for attribute in (attribute for node in place.node for attribute in node.attribute):
            waiting += [attribute.g, *attribute.graphs]
            tensors += [attribute.t, *attribute.tensors]
            sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
        tensors += [tensor for one in sparse for tensor in (one.values, one.indices)]
    return nodes, tensors
