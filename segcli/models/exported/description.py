"""What an exported model's file says of itself, and that the file is whole.

The description lies in the file's own metadata, as JSON under the key `segcli`. Its digest is of the graph, the weights
and the description itself: a file that was changed, by accident or by hand, is refused. It is no signature: whoever
changes a file may write a new digest.
"""

import hashlib
import importlib
from pathlib import Path
from typing import Any, Protocol

import pydantic

from segcli.core.errors import ModelError, UsageError
from segcli.core.exported_files import SUFFIXES, Target
from segcli.core.files import parse_json, parsed

KEY = "segcli"
FORMAT = 1  # rises when older versions of segcli can't read a file as it is meant
PACKAGES: dict[Target, tuple[str, ...]] = {"onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",), "torch": ()}


class Description(pydantic.BaseModel):
    """outputs: names of the graph's outputs, see docs/export.md. canvas: (height, width) of the network's input inside.
    metrics: those that score its fields. environment: of the run, with the dataset's classes and the weights' licences.
    cost: the run's cost.json without the run's latency and memory."""

    model_config = pydantic.ConfigDict(extra="forbid")

    format: int = FORMAT
    target: Target
    segcli: str
    torch: str
    name: str
    task: str
    classes: list[str]
    outputs: list[str]
    canvas: tuple[int, int]
    int8: bool = False
    metrics: list[str] = []
    licences: list[dict[str, str]] = []
    recipe: dict[str, Any]
    environment: dict[str, Any]
    cost: dict[str, Any] | None = None
    digest: str = ""

    def sealed(self, content: bytes) -> "Description":
        """With the digest of itself and of what else the file holds."""
        return self.model_copy(update={"digest": self._digest(content)})

    def fits(self, content: bytes) -> bool:
        return self.digest == self._digest(content)

    def _digest(self, content: bytes) -> str:
        own = self.model_copy(update={"digest": ""}).model_dump_json().encode()
        return hashlib.sha256(own + b"\0" + content).hexdigest()


class Runtime(Protocol):
    """A module of this room: one target. `contents(path)`: (the description's JSON or None, what the digest is of);
    raises ModelError where the file is broken or would need code or files of others. `load(path, threads)`: the file as
    a function from a uint8 image [H,W,3] to its outputs by name."""

    def contents(self, path: Path) -> tuple[str | None, bytes]: ...
    def load(self, path: Path, threads: int) -> Any: ...


def runtime(target: Target) -> Runtime:
    """The module that reads and runs a target's files. Raises UsageError where its packages are not installed."""
    for package in PACKAGES[target]:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UsageError(
                f"--to {target} and its files need {package}", hint=f"pip install 'segcli[{target}]'"
            ) from error
    return importlib.import_module(f"segcli.models.exported.{target}")


def describe(path: Path) -> Description:
    """The description of a file that `segcli export` wrote. Raises ModelError for any other, and for a changed one."""
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file")
    target = SUFFIXES[path.suffix.lower()]
    if target == "torch":
        raise ModelError(
            f"{path}: is not run: torch.export.load unpickles, and so may run whatever code a file holds",
            hint=f"the run itself predicts the same; {path.name}.py runs a file that you trust",
        )
    text, content = runtime(target).contents(path)
    if text is None:
        raise ModelError(
            f"{path}: was not written by segcli export", hint="segcli export RUN --to onnx makes such files"
        )
    where = f"{path}: its description"
    values = parse_json(text, where, error=ModelError)
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise ModelError(
            f"{path}: has format {found!r}, and this version of segcli reads format {FORMAT}",
            hint="export the run again with this version",
        )
    description = parsed(Description, values, where, error=ModelError)
    if not description.fits(content):
        raise ModelError(
            f"{path}: was changed after it was exported: its digest is another", hint="export the run again"
        )
    return description
