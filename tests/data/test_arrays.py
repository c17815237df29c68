"""Arrays out of files that somebody else wrote: held against the file's size, never run, named when they are wrong."""

import io
import zipfile

import numpy as np
import pytest

from segcli.core.errors import DataError, ModelError
from segcli.data.arrays import read_arrays


def save(path, **arrays):
    with open(path, "wb") as file:
        np.savez(file, **arrays)
    return path


def header(shape: str, kind: str = "<f8", data: bytes = b"") -> bytes:
    """A .npy file that says of itself what it likes."""
    said = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    said += b" " * (63 - (len(said) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(said).to_bytes(2, "little") + said + data


def test_what_numpy_saves_comes_back(tmp_path):
    given = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "c": np.array("digest"),
        "d": np.zeros((0, 4), np.float32),
        "e": np.array([True, False]),
    }
    found = read_arrays(save(tmp_path / "x.npz", **given), given)
    assert found.keys() == given.keys()
    for name, array in given.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_missing_names_and_objects(tmp_path):
    file = save(tmp_path / "x.npz", a=np.ones(2))
    with pytest.raises(ModelError, match=r"x\.npz: it has no array 'digest'"):
        read_arrays(file, ["digest"], error=ModelError)
    with pytest.raises(DataError, match=r"x\.npz: can't be read"):
        read_arrays(save(tmp_path / "x.npz", a=np.array([{}], object)))


@pytest.mark.parametrize(
    "content",
    [
        header("(1000000000000,)"),
        header("(3,)", data=b"\0" * 8),
        header("(-1,)", data=b"\0" * 8),
        header("(1,)", "|O", b"\x80\x04N."),
        header("(1,)", "<U1", b"\xff\xff\xff\xff"),
        header("__import__('os').system('x')"),
        b"\x93NUMPY\x09\x00",
        b"",
    ],
    ids=["more than there is", "short", "negative", "pickle", "no letters", "code", "version", "empty"],
)
def test_members_that_lie(tmp_path, content):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as pack:
        pack.writestr("a.npy", content)
    (tmp_path / "x.npz").write_bytes(stream.getvalue())
    with pytest.raises(DataError, match=r"x\.npz: can't be read: "):
        read_arrays(tmp_path / "x.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + b"\0" * 18 + b"x", b"no zip", b"\x93NUMPY"])
def test_what_is_no_pack(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npz"):
        read_arrays(tmp_path / "x.npz", ["a"])
