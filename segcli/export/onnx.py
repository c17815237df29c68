"""The graph as an ONNX file."""

import contextlib
import io
import logging
import re
import warnings
from pathlib import Path

import onnx
import torch
from torch.export import ExportedProgram

from segcli.core.errors import UsageError
from segcli.models.exported.description import KEY, Description
from segcli.models.exported.onnx import bare

OPSET = 20


def translate(program: ExportedProgram, names: list[str]) -> onnx.ModelProto:
    """Raises UsageError that names an operator which ONNX lacks."""
    said = io.StringIO()
    quiet = logging.getLogger("torch.onnx"), logging.getLogger("onnxscript"), logging.getLogger("onnx_ir")
    levels = [logger.level for logger in quiet]
    for logger in quiet:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.onnx.export(
                program, dynamo=True, input_names=["image"], output_names=names, opset_version=OPSET, verbose=False
            )
    except torch.onnx.errors.OnnxExporterError as error:
        missing = re.search(r"op='([\w.:]+)'", str(error.__cause__ or error)) or re.search(
            r"op='([\w.:]+)'", str(error)
        )
        if missing is None:
            raise UsageError(f"the model can't be translated to ONNX: {str(error).splitlines()[0]:.200}") from error
        raise UsageError(
            f"ONNX has no operator for {missing[1].replace('::', '.')}, which this model computes with",
            hint="--to torch has it",
        ) from error
    finally:
        for logger, level in zip(quiet, levels, strict=True):
            logger.setLevel(level)
    assert found is not None
    model = found.model_proto
    graph = model.graph
    sides = [side.dim_param for side in graph.input[0].type.tensor_type.shape.dim][:2]
    named = dict(zip(sides, ("height", "width"), strict=True))
    for value in (*graph.input, *graph.output, *graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param in named:
                side.dim_param = named[side.dim_param]
    return model


def write(model: onnx.ModelProto, path: Path, description: Description) -> None:
    """One file: the weights, too, lie in it."""
    del model.metadata_props[:]
    content = bare(model)
    onnx.helper.set_model_props(model, {KEY: description.sealed(content).model_dump_json()})
    path.write_bytes(model.SerializeToString(deterministic=True))
