"""The digest of a whole training state: its tensors and every number beside them.

The checksums of the file find bytes that changed on the disk. This finds what was changed, and written well again, by
whatever it was that took the file apart: one weight, one moment of the optimiser, a step.
"""

import hashlib
from typing import TypeVar, cast

import torch
from torch import Tensor

from segcli.core.errors import ModelError

T = TypeVar("T")
DIGEST = "segcli_sha256"  # key beside the state's own, and of a safetensors file's metadata


def signed(state: dict[str, object]) -> dict[str, object]:
    """The state with its digest (tensors, numbers, texts, None, lists, dicts)."""
    return {**state, DIGEST: _digest(state)}


def verified(state: T, where: str) -> T:
    """What `signed` was given; a state without a digest, as older versions wrote it, as it is.

    Raises ModelError, beginning with `where`, for one whose content is no longer what was signed.
    """
    if not isinstance(state, dict) or DIGEST not in state:
        return state
    content = {key: value for key, value in state.items() if key != DIGEST}
    try:
        same = _digest(content) == state[DIGEST]
    except (RuntimeError, TypeError, ValueError):  # tensors without values, endless nesting
        same = False
    if not same:
        raise ModelError(f"{where}: is damaged: its content is not what was written")
    return cast(T, content)


def weights_digest(state: dict[str, Tensor]) -> str:
    """sha256 over names, types, shapes and values of tensors, in the order of their names."""
    found = hashlib.sha256()
    for name in sorted(state):
        _add_tensor(found, name, state[name])
    return found.hexdigest()


def _digest(state: dict[str, object]) -> str:
    found = hashlib.sha256()
    _add(found, state)
    return found.hexdigest()


def _add(found: "hashlib._Hash", value: object) -> None:
    if isinstance(value, Tensor):
        _add_tensor(found, "tensor", value)
    elif isinstance(value, dict):
        found.update(f"dict {len(value)}\0".encode())
        for key, inner in value.items():
            _add(found, key)
            _add(found, inner)
    elif isinstance(value, (list, tuple)):
        found.update(f"list {len(value)}\0".encode())
        for inner in value:
            _add(found, inner)
    else:
        found.update(f"{type(value).__name__} {value!r}\0".encode(errors="surrogatepass"))


def _add_tensor(found: "hashlib._Hash", name: str, value: Tensor) -> None:
    found.update(f"{name} {value.dtype} {list(value.shape)}\0".encode())
    found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
