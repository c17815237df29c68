"""The datasets that `prepare` knows by name, listed in known_datasets.yaml, and how they are brought here.

Where no digest is known, that of the first download is kept beside the files and written into prepared.json, so that a
later download that differs is noticed.
"""

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import pydantic
from pydantic.dataclasses import dataclass

from segcli.core.downloads import cache_dir, digest_of, fetch, lock
from segcli.core.errors import DataError, SegcliError
from segcli.core.files import parsed, write_text
from segcli.core.yaml_file import read_yaml
from segcli.sources.archives import space_for, unpack

Digest = Annotated[str, pydantic.Field(pattern="^(sha256:[0-9a-f]{64}|sha1:[0-9a-f]{40})$")]


@dataclass(frozen=True, config={"extra": "forbid"})
class Archive:
    """One file to download. digest: None where it is unknown; size: in bytes, packed, 0 where it is unknown.

    inner: archives inside it that are unpacked where they lie.
    """

    address: str
    digest: Digest | None = None
    size: int = 0
    inner: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.address.rsplit("/", 1)[-1]


@dataclass(frozen=True, config={"extra": "forbid"})
class Known:
    """A dataset with a name. converter and settings: how it is read; folder: where it lies in what is unpacked.

    store: the folder of the cache; datasets that share archives share it.
    """

    converter: str
    home: str
    licence: str
    citation: str
    archives: tuple[Archive, ...]
    store: str
    settings: dict[str, object] = dataclasses.field(default_factory=dict)
    folder: str = "."


_TABLE = Path(__file__).with_name("known_datasets.yaml")
KNOWN: dict[str, Known] = parsed(dict[str, Known], read_yaml(_TABLE), _TABLE)


def obtain(name: str) -> tuple[Path, dict[str, str]]:
    """Bring a known dataset into the cache, where it is not there yet. -> (its folder, digest of each archive).

    Says size and licence before it loads anything. Archives are removed once they are unpacked. Several processes may
    ask at once: one works, the others wait. Raises DataError for a download that fails or is not the expected file,
    SegcliError where the disk refuses.
    """
    known = KNOWN[name]
    store = cache_dir() / "datasets" / known.store
    try:
        store.mkdir(parents=True, exist_ok=True)
        with lock(store):
            missing = [archive for archive in known.archives if not _note(store, archive).is_file()]
            if missing:
                size = sum(archive.size for archive in missing)
                about = f", {size / 1e9:.2g} GB" if size else ""
                print(f"note: downloading {name}{about} from {known.home}; licence: {known.licence}", file=sys.stderr)
                space_for(2 * size, store)  # packed and unpacked: images hardly shrink
            for archive in missing:
                _bring(archive, store)
            notes = {a.name: json.loads(_note(store, a).read_text(encoding="utf-8")) for a in known.archives}
    except OSError as error:
        raise SegcliError(f"{error.filename or store}: can't be written: {error.strerror}") from error
    folder = store / known.folder
    if not folder.is_dir():
        raise DataError(f"{folder}: what was downloaded for {name} has no such folder", hint=f"look at {known.home}")
    return folder, {name: note["digest"] for name, note in notes.items()}


def inside(path: Path, known: Known) -> Path:
    """`path`, or the dataset's own folder in it, where --source names the folder that its archive was unpacked in."""
    inner = path / known.folder
    return inner if inner.is_dir() else path


def _bring(archive: Archive, store: Path) -> None:
    """Download, check and unpack one archive. Only its note says that it is there: a half-unpacked one has none."""
    kind, _, digest = (archive.digest or "").partition(":")
    before = store / f".{archive.name}.digest"  # of an earlier download, where none is known
    if not digest and before.is_file():
        kind, _, digest = before.read_text(encoding="utf-8").partition(":")
    sha256, sha1 = (digest if digest and kind == name else None for name in ("sha256", "sha1"))
    packed = fetch(archive.address, store / archive.name, error=DataError, sha256=sha256, sha1=sha1)
    if not digest:
        kind, digest = "sha256", digest_of(packed)
        before.write_text(f"{kind}:{digest}", encoding="utf-8")
    building = store / f".{archive.name}.part"
    try:
        shutil.rmtree(building, ignore_errors=True)
        unpack(packed, building)
        for inner in archive.inner:
            unpack(building / inner, (building / inner).parent)
            (building / inner).unlink()
        for file in [p for p in building.rglob("*") if p.is_file()]:
            target = store / file.relative_to(building)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    facts = {"address": archive.address, "digest": f"{kind}:{digest}", "checked": archive.digest is not None}
    note = _note(store, archive)
    write_text(note, json.dumps(facts))
    packed.unlink()


def _note(store: Path, archive: Archive) -> Path:
    return store / f".{archive.name}.json"
