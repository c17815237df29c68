"""Read the arrays of an .npz file: what it says of itself is held against its size before anything is made of it."""

import io
import math
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from segcli.core.errors import DataError, SegcliError
from segcli.core.files import read_bytes

LARGEST = 4 * 2**30  # bytes of such a file, and of all its arrays together
MOST = 10_000  # arrays
LETTERS = 0x10FFFF  # the largest number of a letter
KINDS = "biufU"  # booleans, integers, floats, text


def read_arrays(
    path: Path, names: Iterable[str] = (), *, error: type[SegcliError] = DataError
) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name; each of `names` is there. Reading never runs code.

    Raises `error` where the file can't be read, lacks a name, holds objects, or claims arrays that it has no bytes for.
    """
    content = read_bytes(path, error=error, largest=LARGEST)
    out: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as pack, warnings.catch_warnings():
            warnings.simplefilter("error")  # of headers that numpy finds odd
            members = pack.infolist()
            if len(members) > MOST or sum(member.file_size for member in members) > LARGEST:
                raise ValueError("it unpacks to more than such a file can hold")
            for member in members:
                with pack.open(member) as stream:
                    version = np.lib.format.read_magic(stream)
                    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                    shape, fortran, dtype = read[version](stream)
                    if (
                        dtype.kind not in KINDS
                        or min(shape, default=0) < 0
                        or math.prod(shape) * dtype.itemsize > member.file_size
                    ):
                        raise ValueError(f"{member.filename} is no plain array of the size that it says")
                    data = stream.read(math.prod(shape) * dtype.itemsize)
                flat = np.frombuffer(data, dtype) if dtype.itemsize else np.zeros(math.prod(shape), dtype)
                if dtype.kind == "U":
                    letters = np.frombuffer(data, np.dtype("u4").newbyteorder(dtype.byteorder))
                    if ((letters > LETTERS) | ((letters >= 0xD800) & (letters < 0xE000))).any():
                        raise ValueError(f"{member.filename} is no valid text")
                array = flat.reshape(shape, order="F" if fortran else "C")
                out[member.filename.removesuffix(".npy")] = array
    except (OSError, ValueError, KeyError, TypeError, EOFError, Warning, RuntimeError) as problem:
        raise error(f"{path}: can't be read: {problem}") from problem
    except (zipfile.BadZipFile, zlib.error, SyntaxError, MemoryError) as problem:
        raise error(f"{path}: can't be read: {problem}") from problem
    for name in names:
        if name not in out:
            raise error(f"{path}: it has no array {name!r}")
    return out
