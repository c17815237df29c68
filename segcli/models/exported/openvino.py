"""Exported models as OpenVINO's pair of files, NAME.xml and NAME.bin."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino

from segcli.core.errors import ModelError
from segcli.core.files import read_bytes
from segcli.models.exported.description import KEY

ENTRY = re.compile(rb"<" + KEY.encode() + rb' value="([^"]*)" ?/>')


def contents(path: Path) -> tuple[str | None, bytes]:
    """See `description.Runtime`."""
    text = read_bytes(path, error=ModelError, largest=2**28)
    weights = read_bytes(path.with_suffix(".bin"), error=ModelError, largest=2**31)
    found = ENTRY.search(text)
    if found is None:
        return None, b""
    return _unescaped(found[1].decode(errors="replace")), ENTRY.sub(b"", text) + b"\0" + weights


def load(path: Path, threads: int) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """See `description.Runtime`."""
    core = openvino.Core()
    try:
        model = core.read_model(path, path.with_suffix(".bin"))
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise ModelError(f"{path}: OpenVINO can't load it: {str(error).splitlines()[-1]:.200}") from error
    names = [output.names for output in compiled.outputs]  # the conversion may leave names of its own beside ours

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        found = compiled([image])
        return {name: found[i] for i, own in enumerate(names) for name in own}

    return run


def _unescaped(text: str) -> str:
    for entity, sign in (("&quot;", '"'), ("&lt;", "<"), ("&gt;", ">"), ("&apos;", "'"), ("&amp;", "&")):
        text = text.replace(entity, sign)
    return text
