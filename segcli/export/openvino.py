"""The graph as OpenVINO's pair of files, converted from its ONNX form."""

from pathlib import Path

import onnx
import openvino

from segcli.core.errors import UsageError
from segcli.models.exported.description import KEY, Description
from segcli.models.exported.openvino import contents


def convert(model: onnx.ModelProto, folder: Path) -> openvino.Model:
    """Raises UsageError that names what OpenVINO has no operator for."""
    file = folder / "converted.onnx"
    file.write_bytes(model.SerializeToString())
    try:
        return openvino.convert_model(file)
    except Exception as error:  # OpenVINO's own, of several kinds
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise UsageError(f"OpenVINO can't convert the model: {lines[-1] if lines else error:.300}") from error
    finally:
        file.unlink()


def write(model: openvino.Model, path: Path, description: Description) -> None:
    """NAME.xml and NAME.bin; weights keep their 32 bits."""
    model.set_rt_info("", KEY)
    openvino.save_model(model, path, compress_to_fp16=False)
    _, content = contents(path)
    model.set_rt_info(description.sealed(content).model_dump_json(), KEY)
    openvino.save_model(model, path, compress_to_fp16=False)
