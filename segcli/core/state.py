"""What segcli remembers of folders on this machine, kept outside them: who makes a dataset can't forge it.

One small JSON file a kind and a folder, below $XDG_STATE_HOME/segcli (by default ~/.local/state/segcli).
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segcli.core.errors import SegcliError
from segcli.core.files import read_json, write_json


def state_dir() -> Path:
    """Where it is kept. Raises SegcliError where this user has no home folder."""
    given = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(given) if given and Path(given).is_absolute() else Path.home() / ".local" / "state") / "segcli"
    except RuntimeError as error:
        raise SegcliError(
            f"there is no home folder: {error}", hint="set XDG_STATE_HOME to a folder of yours"
        ) from error


def remember(kind: str, folder: Path, value: Mapping[str, object]) -> None:
    """Keep `value` about `folder` until the next call. Raises SegcliError where it can't be written."""
    write_json(_file(kind, folder), {"folder": os.path.realpath(folder), **value})


def remembered(kind: str, folder: Path) -> dict[str, Any] | None:
    """What was kept last about `folder`; None where nothing was, or this user has no place for it.

    Raises SegcliError for a file that is broken.
    """
    try:
        file = _file(kind, folder)
    except SegcliError:
        return None
    if not file.is_file():
        return None
    value = read_json(file, error=SegcliError)
    same = isinstance(value, dict) and value.get("folder") == os.path.realpath(folder)
    return value if same else None


def _file(kind: str, folder: Path) -> Path:
    key = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:24]
    return state_dir() / kind / f"{key}.json"
