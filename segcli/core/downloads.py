"""One downloader for data and weights: it resumes, checks what it got, and never leaves half a file behind."""

import contextlib
import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import requests
from requests.exceptions import ChunkedEncodingError
from tqdm import tqdm

from segcli.core.errors import ModelError, SegcliError
from segcli.core.progress import say

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]

CHUNK = 1 << 16
ATTEMPTS = 4  # in a row without a single new byte
BACKOFF = 0.5  # seconds before the first retry, doubled before each further one
TIMEOUT = 30.0  # seconds without an answer or without a byte


class _Interrupted(Exception):
    """The connection failed in a way that another attempt may cure."""


def cache_dir() -> Path:
    """Where downloads are kept: $SEGCLI_CACHE, else ~/.cache/segcli."""
    return Path(os.environ.get("SEGCLI_CACHE") or Path.home() / ".cache" / "segcli").expanduser()


def fetch(
    address: str,
    target: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    sha1: str | None = None,
    progress: bool = True,
    timeout: float = TIMEOUT,
    error: type[SegcliError] = ModelError,
) -> Path:
    """Download `address` to `target` and return it; at once where it is already there.

    sha256, md5, sha1: the digest in hexadecimal, or as many first digits of it as are known. A download that does not
    have it is removed. What arrived before a connection broke is kept as `target.part` and continued, by this call or
    a later one, if the server still has the same file. Several processes may ask for the same target: one loads, others
    wait.
    timeout: seconds without a byte after which a connection counts as broken.
    Raises `error` (ModelError, DataError) with the cause in one line.
    """
    target = Path(target)
    given = {"sha256": sha256, "md5": md5, "sha1": sha1}
    checks = {name: digest.lower() for name, digest in given.items() if digest}
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_file():
            with lock(target):
                if not target.is_file():  # another process may have brought it while this one waited
                    stated = _download(address, part, progress, timeout, error)
                    if difference := _difference(part, checks or stated):
                        part.unlink()
                        _tag_file(part).unlink(missing_ok=True)
                        raise error(
                            f"{address}: what arrived is not the expected file: {difference}",
                            hint="it was removed; try again, or look whether something on the way changes downloads",
                        )
                    os.replace(part, target)
                    _tag_file(part).unlink(missing_ok=True)
                return target
        if difference := _difference(target, checks):
            raise error(f"{target} is not the file from {address}: {difference}", hint="remove it to load it again")
    except (OSError, requests.RequestException) as problem:
        if isinstance(problem, requests.RequestException):
            raise error(f"{address} can't be downloaded: {_cause(problem)}") from problem
        raise error(f"{target}: can't be written: {problem.strerror or problem}") from problem
    return target


def _download(address: str, part: Path, progress: bool, timeout: float, error: type[SegcliError]) -> dict[str, str]:
    """Bring all of `address` into `part`. -> digests that the server itself states (Hugging Face does)."""
    failures = 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            return _attempt(address, part, progress, timeout, error)
        except (_Interrupted, requests.ConnectionError, requests.Timeout, ChunkedEncodingError) as problem:
            have = part.stat().st_size if part.is_file() else 0
            failures = 1 if have > before else failures + 1
            if failures >= ATTEMPTS:
                hint = "try again: what has arrived is kept and continued" if have else _carry(part)
                raise error(f"{address} can't be downloaded: {_cause(problem)}", hint=hint) from problem
            time.sleep(BACKOFF * 2 ** (failures - 1))


def _carry(part: Path) -> str:
    return f"without a connection, load it on another machine and put it here: {part.with_suffix('')}"


def _attempt(address: str, part: Path, progress: bool, timeout: float, error: type[SegcliError]) -> dict[str, str]:
    """One request, from where `part` ends if the server still has the file that it began with."""
    have = part.stat().st_size if part.is_file() else 0
    note = _tag_file(part)
    known = note.read_text(encoding="utf-8") if note.is_file() else ""
    headers = {"Accept-Encoding": "identity"}  # lengths and ranges then count the file's own bytes
    if have and known:
        headers |= {"Range": f"bytes={have}-", "If-Range": known}
    with requests.get(address, headers=headers, stream=True, timeout=timeout) as answer:
        if answer.status_code == 416 and answer.headers.get("Content-Range") == f"bytes */{have}":
            return _stated_digest(answer)  # all of it had arrived before
        if answer.status_code >= 500 or answer.status_code == 429:
            raise _Interrupted(f"the server answers {answer.status_code} {answer.reason}")
        if have and not _continues(answer, have, known):
            part.unlink()
            raise _Interrupted("the server does not continue the same file")
        if not answer.ok:
            raise error(f"{address} can't be downloaded: the server answers {answer.status_code} {answer.reason}")
        start, total = (have, _total(answer)) if answer.status_code == 206 else (0, _length(answer))
        if start == 0:
            _remember(note, answer)
        bar = tqdm(
            total=total,
            initial=start,
            unit="B",
            unit_scale=True,
            desc=part.name.removesuffix(".part"),
            disable=not progress,
            mininterval=0.2 if sys.stderr.isatty() else 10,
            file=sys.stderr,
        )
        got = start
        with open(part, "ab" if start else "wb") as file, bar:
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                got += len(chunk)
                bar.update(len(chunk))
        if total is not None and got != total:
            if got > total:
                part.unlink()
            raise _Interrupted(f"{got} of {total} bytes arrived")
        return _stated_digest(answer)


def _continues(answer: requests.Response, have: int, known: str) -> bool:
    """False if a partial response belongs to another file or offset."""
    if answer.status_code == 416:
        return False
    if answer.status_code != 206:
        return True
    same = answer.headers.get("ETag", known) == known or not known.startswith('"')
    return same and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _total(answer: requests.Response) -> int | None:
    """The whole file's length from a partial answer, where it says that."""
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _length(answer: requests.Response) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _remember(note: Path, answer: requests.Response) -> None:
    """Keep what identifies the file on the server; without it a later attempt begins again."""
    tag = answer.headers.get("ETag", "")
    value = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
    if value:
        note.write_text(value, encoding="utf-8")
    else:
        note.unlink(missing_ok=True)


def _tag_file(part: Path) -> Path:
    return part.with_name(part.name + ".tag")


def _stated_digest(answer: requests.Response) -> dict[str, str]:
    for step in [*answer.history, answer]:
        digest = step.headers.get("X-Linked-ETag", "").strip('"').lower()
        if re.fullmatch(r"[0-9a-f]{64}", digest):
            return {"sha256": digest}
    return {}


def _difference(path: Path, checks: dict[str, str]) -> str:
    """What is wrong with the file's digests, or nothing."""
    for name, expected in checks.items():
        digest = digest_of(path, name)
        if not digest.startswith(expected):
            return f"its {name} begins with {digest[: len(expected)][:16]}, not {expected[:16]}"
    return ""


def digest_of(path: Path, kind: str = "sha256") -> str:
    """The file's digest in hexadecimal."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def lock(target: Path) -> Iterator[None]:
    """Only one process at a time is in the body. The system releases the lock of a process that dies."""
    held = target.with_name(target.name + ".lock")
    with open(held, "w", encoding="utf-8") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"waiting for another process that is bringing {target.name}")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
        held.unlink(missing_ok=True)  # only now: who waits for it, or comes later, finds the target


def _cause(problem: Exception) -> str:
    """requests' nested reports, shortened to what says something."""
    text = str(problem)
    if isinstance(problem, requests.Timeout) or "Read timed out" in text:
        return "the server stopped answering"
    if "NameResolutionError" in text or "Failed to resolve" in text:
        return "the server's name can't be resolved"
    if "Connection refused" in text:
        return "the connection was refused"
    if "IncompleteRead" in text or "Connection broken" in text or "RemoteDisconnected" in text:
        return "the connection broke"
    return " ".join(text.split())[:160]
