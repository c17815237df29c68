"""detectron2's pickles: arrays of every kind come through exactly; anything that could run is refused and does not."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from segcli.core.errors import ModelError
from segcli.weights.reading import read_state


def write(path: Path, content: object, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_kind(tmp_path, protocol):
    arrays = {
        "conv.weight": np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(np.float32),
        "half": np.linspace(-2, 2, 7, dtype=np.float16),
        "double": np.array([1e-300, 2.5]),
        "transposed": np.arange(12, dtype=np.float32).reshape(3, 4).T,
        "big_endian": np.array([1.5, -2.25], ">f4"),
        "counter": np.array(7, np.int64),
        "scalar": np.float32(0.5),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 4), np.float32),
    }
    file = write(tmp_path / "모델 🐈.pkl", {"model": arrays, "__author__": "x", "matching_heuristics": True}, protocol)
    state = read_state(file)
    assert list(state) == list(arrays)
    for name, array in arrays.items():
        assert state[name].shape == array.shape
        assert np.array_equal(state[name].numpy(), array)
        assert state[name].dtype == torch.from_numpy(np.atleast_1d(array).astype(array.dtype.newbyteorder("="))).dtype
    state["conv.weight"].add_(1)  # the memory is the tensor's own


def test_a_bare_mapping_of_names_to_arrays(tmp_path):
    assert read_state(write(tmp_path / "a.pkl", {"w": np.ones(2)}))["w"].tolist() == [1, 1]


class Runs:
    """Unpickling calls `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "evil",
    [
        lambda mark: Runs(os.system, f"touch '{mark}'"),
        lambda mark: Runs(eval, f"open({str(mark)!r}, 'w')"),
        lambda mark: Runs(getattr(Path, "touch"), mark),  # noqa: B009 - the unbound method is pickled by name
        lambda mark: Runs(np.save, str(mark), np.ones(2)),
        lambda mark: Runs(np.fromfile, "/dev/zero", np.uint8, 4),
        lambda mark: torch.ones(2),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_runs_something_is_refused_and_runs_nothing(tmp_path, evil, protocol):
    mark = tmp_path / "it ran"
    file = write(tmp_path / "evil.pkl", {"model": {"w": np.ones(2), "x": evil(mark)}}, protocol)
    with pytest.raises(ModelError, match=r"evil\.pkl: refused: it names ") as caught:
        read_state(file)
    assert "nothing of the file was run" in caught.value.hint
    assert not mark.exists()


def test_the_refused_pickle_would_have_run(tmp_path):
    """The proof that the test above tests something."""
    mark = tmp_path / "it ran"
    pickle.loads(pickle.dumps(Runs(os.system, f"touch '{mark}'")))
    assert mark.exists()


def test_attributes_of_known_names_are_out_of_reach(tmp_path):
    """Protocol 4 can ask for `ndarray.tofile` or `_reconstruct.__globals__`."""
    for name in ("ndarray.tofile", "_reconstruct.__globals__", "dtype.__init__.__globals__"):
        parts = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in ("numpy.core.multiarray", name))
        (tmp_path / "a.pkl").write_bytes(b"\x80\x04" + parts + b"\x93.")
        with pytest.raises(ModelError, match="refused"):
            read_state(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"model": {"w": np.ones(2), "name": "x"}}, "not every entry is an array: name"),
        ({"model": {3: np.ones(2)}}, "not every entry is an array"),
        ({"w": np.array(["text"])}, "no numbers"),
        ({"w": np.array([{}], object)}, "no numbers"),
        ({}, "holds no state dict"),
        ([1], "holds no state dict"),
    ],
)
def test_what_is_no_state_dict(tmp_path, content, says):
    with pytest.raises(ModelError, match=says):
        read_state(write(tmp_path / "a.pkl", content))


def test_a_truncated_file(tmp_path):
    file = write(tmp_path / "a.pkl", {"model": {"w": np.ones(1000)}})
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(ModelError, match=r"a\.pkl: can't be read as weights"):
        read_state(file)
