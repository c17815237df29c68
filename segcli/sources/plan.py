"""What a SOURCE is: data that segcli makes, a known dataset, or a file or folder in a supported format."""

import dataclasses
import inspect
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from segcli.core import plugins, trust
from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, UsageError
from segcli.core.files import is_plain
from segcli.data.canonical import Draft
from segcli.data.image import PHONES, SUFFIXES
from segcli.sources import class_names
from segcli.sources.archives import SUFFIXES as ARCHIVES
from segcli.sources.archives import Unpacked, is_archive
from segcli.sources.confined import confine
from segcli.sources.detection import detect, fitting
from segcli.sources.folders import SPLITS, Folder, listed, listed_once, refuse_links_out
from segcli.sources.known import KNOWN, Known, inside, obtain
from segcli.sources.reopened import reopened
from segcli.sources.unread import note_empty, note_unread

ON_MASKS = ("masks", "ignore", "threshold")  # settings of formats whose labels are pictures, and flags of prepare


def known() -> list[str]:
    """The names that `prepare` takes without a path, sorted."""
    return sorted({*KNOWN, *plugins.names("synthetic")})


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to build a draft from; `recorded` identifies it in prepared.json. trusted: its files may lie anywhere.

    path: None where images are made or, with `known`, downloaded. folders: those of a source on this disk.
    """

    name: str
    module: ModuleType | SimpleNamespace
    settings: dict[str, Any]
    recorded: Mapping[str, object]
    path: Path | None = None
    known: Known | None = None
    trusted: bool = False
    folders: list[Folder] | None = None

    @listed_once()
    def build(self) -> Draft:
        path = self.path
        digests: dict[str, str] = {}
        if path is None and self.known is not None:
            path, digests = obtain(self.name)
        trusted = self.trusted or trust.everything()
        given = {} if path is None else {"path": path, "trusted": trusted}
        draft: Draft = plugins.call(self.module.build, self.settings, "data.prepare", **given)
        if path is not None and not trusted:
            confine(draft, path)
        class_names.tidy(draft)
        draft.info = dataclasses.replace(draft.info, name=self.name)
        if (known := self.known) is not None:
            draft.info = dataclasses.replace(
                draft.info, licence=known.licence, citation=known.citation, source=known.home
            )
        draft.notes += [f"downloaded {name} ({digest})" for name, digest in digests.items()]
        if self.path is not None and self.folders is not None and draft.image_root is not None:
            draft.notes += note_empty(self.path, self.folders, draft)
            entries = (entry for part in draft.splits.values() for entry in part)
            images = (os.path.join(draft.image_root, entry.file_name) for entry in entries)
            labels = (getattr(entry, "label", None) for part in draft.splits.values() for entry in part)
            read = [file for file in (self.path, *draft.files.values(), *labels) if isinstance(file, Path)]
            note = note_unread(self.path, self.folders, [*images, *read])
            draft.notes += [note] if note else []
        return draft

    def __post_init__(self) -> None:
        """Raise UsageError for flags on mask pictures where the format has none."""
        takes = inspect.signature(self.module.build).parameters
        if unfit := [f"--{key}" for key in ON_MASKS if key in self.settings and key not in takes]:
            kind = self.recorded.get("format", self.name)
            raise UsageError(f"{', '.join(unfit)}: {kind} has no mask pictures whose values could be meant otherwise")


@dataclasses.dataclass(frozen=True)
class Packed(Plan):
    """An archive: it is unpacked when it is built, until its draft is closed, and only then its format is known.

    module: unused. format, seed: as given to `plan_for`.
    """

    format: str | None = None
    seed: int = 0

    @listed_once()
    def build(self) -> Draft:
        assert self.path is not None
        unpacked = Unpacked(self.path)
        folder = unpacked.folder
        while self.format is None and self.known is None and not fitting(folder) and (inner := _only_folder(folder)):
            folder = inner
        known, at = (self.name, folder) if self.known else (str(folder), None)
        draft = plan_for(known, self.format, at, self.seed, self.settings, self.trusted).build()
        draft.info = dataclasses.replace(draft.info, name=self.name)
        draft.stored, draft.close = True, unpacked.close
        return draft

    def __post_init__(self) -> None:
        """What is in it says which flags fit."""


def _only_folder(folder: Path) -> Path | None:
    """The folder that an archive has around its files; None where it has several things, or a split."""
    inner = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    return inner[0] if len(inner) == 1 and inner[0].is_dir() and inner[0].name.lower() not in SPLITS else None


@listed_once()
def plan_for(
    source: str,
    format: str | None,
    source_path: str | Path | None,
    seed: int,
    settings: Mapping[str, Any] | None,
    trusted: bool = False,
) -> Plan:
    """Decide what `source` is. trusted: files that it names may lie anywhere, and links lead anywhere.

    Raises UsageError for flags that do not fit, DataError for what is unknown.
    """
    chosen = dict(settings or {})
    if source in plugins.names("synthetic"):
        module = plugins.find("synthetic", source)
        if format is not None or (source_path is not None and not takes(module, "source")):
            raise UsageError(f"{source} is made by segcli: --format and --source do not apply")
        if seed:
            chosen.setdefault("seed", seed)
        if source_path is not None:
            chosen["source"] = str(Path(source_path).absolute())
            if not Path(source_path).exists():
                raise _unknown(source, Path(source_path), True)
        defaults = {name: p.default for name, p in inspect.signature(module.build).parameters.items()}
        recorded = {"source": source, "settings": {**defaults, **chosen}}
        return Plan(source, module, chosen, recorded)
    entry = KNOWN.get(source)
    if format is not None and entry is not None and format != entry.converter:
        raise UsageError(f"--format {format}: {source} is read as {entry.converter}")
    if entry is not None and source_path is None:
        module = plugins.find("format", entry.converter)
        chosen = {**entry.settings, **chosen}
        recorded = {"source": source, "format": entry.converter, "settings": chosen}
        recorded["archives"] = [archive.address for archive in entry.archives]
        return Plan(source, module, chosen, recorded, None, entry)
    path = Path(source_path if source_path is not None else source).absolute()
    if not path.exists():
        raise _unknown(source, path, source_path is not None)
    if (path / "info.json").is_file():
        show = f"segcli visualize data {shlex.quote(source)} shows it, prepare --check looks it through"
        raise DataError(f"{path}: is a prepared dataset already", hint=show)
    own = source if entry or (source_path is not None and is_plain(source)) else None
    if is_archive(path):
        name = own or path.name[: -len(next(s for s in ARCHIVES if path.name.lower().endswith(s)))]
        about: dict[str, object] = {"source": str(path), "format": format, "settings": chosen}
        return Packed(name, SimpleNamespace(), chosen, about, path, entry, trusted, format=format, seed=seed)
    name = own or _name(path)
    folders = listed(path) if path.is_dir() else []
    if not trusted and not trust.everything():
        refuse_links_out(path, folders, SUFFIXES | PHONES)
    kind = format or (entry.converter if entry else detect(path))
    if entry is not None:
        path = inside(path, entry)
        folders = [folder for folder in folders if folder.path.is_relative_to(path)]
    module = plugins.find("format", kind, "--format")
    chosen = {**(entry.settings if entry else {}), **chosen}
    recorded = {"source": str(path), "format": kind, "settings": chosen}
    return Plan(name, module, chosen, recorded, path, entry, trusted, folders)


def takes(module: ModuleType | SimpleNamespace, setting: str) -> bool:
    """Whether a converter or a generator has a setting of that name."""
    return setting in inspect.signature(module.build).parameters


def reopen(root: Path) -> Plan:
    """A prepared folder as a source, for repairs."""
    module = SimpleNamespace(build=lambda *, path: reopened(path))
    info = DatasetInfo.load(root)
    return Plan(info.name, module, {}, {"source": str(root.absolute())}, root)


def _name(path: Path) -> str:
    """A dataset's name from its path: the folder's, for a json file that of the folder around `annotations`."""
    folder = path if path.is_dir() else path.parent
    while folder.name in ("annotations", "stage1_train", "") and folder != folder.parent:
        folder = folder.parent
    return folder.name or "dataset"


def _unknown(source: str, path: Path, given: bool) -> DataError:
    if given:
        return DataError(f"--source {path}: there is no such file or folder")
    return DataError(
        f"{source}: neither a known dataset nor a file or folder here", hint=plugins.nearest(source, known())
    )
