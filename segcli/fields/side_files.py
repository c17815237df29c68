"""Arrays in .npz files, read without running code."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from segcli.core.errors import DataError
from segcli.core.files import open_regular


def read_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """The arrays of these names in an .npz file. Raises DataError where it is missing, damaged or has none such."""
    try:
        with open_regular(path) as content, np.load(content, allow_pickle=False) as file:
            return [file[name] for name in names]
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: is no .npz file with the arrays {', '.join(names)}: {error}") from error
