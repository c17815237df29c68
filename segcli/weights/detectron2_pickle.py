"""Read detectron2's `.pkl` weight files without running what a pickle can carry.

A pickle names functions to call. Here only the names that a numpy array needs are known, and each stands for a plain
recorder; the arrays are then built from the recorded bytes. Any other name is refused before anything runs.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from segcli.core.errors import ModelError

MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
KINDS = "?bBhHiIlLqQefd"  # booleans, integers and floats: dtype characters of plain numbers


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The `model` section of a detectron2 file (or a bare mapping), names to tensors.

    Raises ModelError where the file names anything but plain arrays, or is broken.
    """
    try:
        with open(path, "rb") as file:
            content = _Unpickler(file).load()
    except ModelError as error:
        raise ModelError(
            f"{path}: refused: {error}", hint="only numpy arrays are read; nothing of the file was run"
        ) from error
    except Exception as error:  # a broken pickle raises anything; each means that this file can't be used
        raise ModelError(f"{path}: can't be read as weights: {' '.join(str(error).split())[:160]}") from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not content:
        raise ModelError(f"{path}: holds no state dict")
    odd = [str(name) for name, value in content.items() if not isinstance(value, (_Array, Tensor))]
    if odd or not all(isinstance(name, str) for name in content):
        raise ModelError(f"{path}: not every entry is an array: {', '.join(odd[:4])}")
    try:
        return {name: value.tensor() for name, value in content.items()}
    except ValueError as error:
        raise ModelError(f"{path}: can't be read as weights: {error}") from error


class _Dtype:
    """Stands for numpy.dtype(code, align, copy) and the byte order set afterwards."""

    def __init__(self, code: str, *_: object):
        self.code, self.order = str(code), "<"

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.order = str(state[1])

    def build(self) -> np.dtype[np.generic]:
        code = self.code.lstrip("<>|=")
        if not code or (code[0] not in "biuf" and code not in KINDS) or self.order not in "<>|=":
            raise ModelError(f"it holds an array of {self.code!r}, which are no numbers")
        return np.dtype((">" if self.order == ">" else "<") + code)


class _Array:
    """Stands for a numpy.ndarray: shape, dtype and bytes are set by its state."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.dtype: object = None
        self.fortran = False
        self.data: object = b""

    def __setstate__(self, state: tuple[int, tuple[int, ...], object, bool, object]) -> None:
        _, shape, self.dtype, fortran, self.data = state
        self.shape, self.fortran = tuple(int(n) for n in shape), bool(fortran)

    def tensor(self) -> Tensor:
        """Raises ValueError where shape and bytes disagree, ModelError where the entries are no numbers."""
        if not isinstance(self.dtype, _Dtype) or not isinstance(self.data, (bytes, bytearray)):
            raise ModelError("it holds an array of objects, which are no numbers")
        flat = np.frombuffer(self.data, self.dtype.build())
        array = flat.reshape(self.shape, order="F" if self.fortran else "C")
        native = array.astype(array.dtype.newbyteorder("="), order="C")  # a copy that torch may own
        return torch.from_numpy(native)


class _Unpickler(pickle.Unpickler):
    """Knows the names below; for all others `find_class` raises, and a pickle can call nothing that it did not find."""

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        known: dict[str, Callable[..., object]] = {}
        if module in MODULES:
            known = {
                "ndarray": _Array,
                "dtype": _Dtype,
                "_reconstruct": lambda *_: _Array(),
                "scalar": _scalar,
                "_frombuffer": _frombuffer,
            }
        elif module == "_codecs":
            known = {"encode": _encode}
        elif module in ("__builtin__", "builtins"):
            known = {"bytes": lambda: b""}  # how the old protocols write no bytes
        elif module == "collections":
            known = {"OrderedDict": dict}
        if name not in known:
            raise ModelError(f"it names {module}.{name}")
        return known[name]

    def persistent_load(self, pid: object) -> NoReturn:
        raise ModelError("it refers to objects outside the file")


def _scalar(dtype: object, data: bytes = b"") -> _Array:
    out = _Array()
    out.dtype, out.data = dtype, data
    return out


def _frombuffer(data: bytes, dtype: object, shape: tuple[int, ...], order: str) -> _Array:
    """Pickle protocol 5."""
    out = _Array()
    out.__setstate__((1, shape, dtype, order == "F", bytes(data)))
    return out


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in a pickle of Python 2's protocol."""
    if encoding != "latin1":
        raise ModelError(f"it names the encoding {encoding!r}")
    return text.encode("latin1")
