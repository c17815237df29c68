"""Images from the web: brought once, beside what is made of them."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from segcli.core.downloads import fetch
from segcli.core.errors import DataError
from segcli.data.image import SUFFIXES

FOLDER = "downloaded"


def is_address(given: str | Path) -> bool:
    """Whether an input is a web address."""
    return re.match(r"https?://", str(given), re.I) is not None


def name_of(address: str) -> str:
    """A file name for what an address gives: the last part of its path, and a digest that keeps it apart."""
    last = re.sub(r"[^\w.-]+", "_", PurePosixPath(unquote(urlsplit(address).path)).name).lstrip(".")[-80:] or "image"
    stem, suffix = PurePosixPath(last).stem, PurePosixPath(last).suffix
    suffix = suffix if suffix.lower() in SUFFIXES else f"{suffix}.jpg"  # what it is, its first bytes say
    return f"{stem}-{hashlib.sha256(address.encode()).hexdigest()[:8]}{suffix}"


def bring(
    inputs: Iterable[str | Path], out: Path, *, again: bool, failed: list[tuple[Path, str]]
) -> tuple[list[str | Path], dict[Path, str]]:
    """`inputs` with each address replaced by its file below `out`, and file -> address.

    again: keep what an interrupted call has brought already. One that doesn't answer goes to `failed`.
    """
    given: list[str | Path] = []
    origin: dict[Path, str] = {}
    for one in inputs:
        if not is_address(one):
            given.append(one)
            continue
        address, file = str(one), out / FOLDER / name_of(str(one))
        if not again:
            file.unlink(missing_ok=True)
        try:
            given.append(fetch(address, file, error=DataError, progress=False))
            origin[file] = address
        except DataError as error:
            failed.append((Path(file.name), str(error)))
    return given, origin
