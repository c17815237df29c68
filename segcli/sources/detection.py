"""In which format a source is; and of one that is in none, what was seen there and what would make it readable."""

import itertools
import json
import shlex
from collections import Counter
from pathlib import Path

from segcli.core import plugins
from segcli.core.errors import DataError
from segcli.core.files import read_json
from segcli.data.image import SUFFIXES
from segcli.sources.files import heading, some
from segcli.sources.folders import walk
from segcli.sources.mask_meaning.evidence import sample_masks
from segcli.sources.mask_meaning.object_ids import value_list

INNER = 20  # folders in a source that are looked into
KINDS = 6  # suffixes that are listed, the most frequent ones
FEW = 16  # values or columns that are listed
PACKED = {".7z", ".rar", ".gz", ".zst"}
ARRAYS = {".npy", ".npz", ".mat", ".h5", ".nii", ".dcm", ".czi", ".nd2"}


def fitting(path: Path, *, last: bool = False) -> list[str]:
    """The formats that a file or folder is in: of those that are LAST, or of all others."""
    found = plugins.every("format").items()
    return [name for name, one in found if getattr(one, "LAST", False) == last and one.detect(path)]


def detect(path: Path) -> str:
    """The one format that a source is in. Raises DataError where it is none, or where it could be several."""
    found = fitting(path)
    if not found:
        for file in [path] if path.is_file() else sorted(path.glob("*.json")):
            if file.suffix.lower() == ".json":
                read_json(file)  # a file that was cut off fits nothing
        inner = [p for p in sorted(path.iterdir()) if p.is_dir()][:INNER] if path.is_dir() else []
        if fit := [(p, name) for p in inner for name in fitting(p)]:
            holds = ", ".join(f"{p.name} ({name})" for p, name in fit)
            folders = [shlex.quote(str(p)) for p in dict.fromkeys(p for p, _ in fit)]
            hint = "give one as SOURCE, or several, which are merged: " if len(folders) > 1 else "give that as SOURCE: "
            hint += " ".join(folders)
            raise DataError(f"{path}: holds {holds}, but is itself in no format", hint=hint)
        found = fitting(path, last=True)
    if not found:
        seen, hint = _seen(path)
        names = ", ".join(plugins.names("format"))
        raise DataError(f"{path}: in no format that segcli knows ({names}); it holds {seen}", hint=hint)
    if len(found) > 1:
        raise DataError(f"{path}: could be {' or '.join(found)}", hint="choose one with --format")
    return found[0]


def _seen(path: Path) -> tuple[str, str]:
    """What lies at `path`, in words, and what would make it readable."""
    files = [folder / name for folder, _, names in walk(path) for name in names] if path.is_dir() else [path]
    kinds: dict[str, list[Path]] = {}
    for file in files:
        kinds.setdefault(file.suffix.lower(), []).append(file)
    often = sorted(kinds, key=lambda suffix: -len(kinds[suffix]))
    parts = [f"{len(kinds[s])} {s.removeprefix('.') or 'without a suffix'}{_about(s, kinds[s])}" for s in often[:KINDS]]
    rest = sum(len(kinds[s]) for s in often[KINDS:])
    parts += [f"{rest} of other kinds"] if rest else []
    return ", ".join(parts) or "no file", _hint({*kinds})


def _about(suffix: str, files: list[Path]) -> str:
    """What is in the files of one kind: how pictures are called alike and their values, columns, keys."""
    if suffix == ".csv":
        return f" ({files[0].name} with the columns {some(heading(files[0]), FEW)})"
    if suffix == ".json":
        return f" ({files[0].name} with the keys {some(_keys(files[0]), FEW)})"
    if suffix not in SUFFIXES:
        return ""
    ends = Counter(file.stem.rpartition("_")[2] for file in files if "_" in file.stem)
    end, count = ends.most_common(1)[0] if ends else ("", 0)
    called = f", {count} of them called *_{end}" if count > 1 and not end.isdigit() else ""
    grey = [mask for mask in sample_masks(files[:FEW]) if mask.form == "grey" and len(mask.counts) <= FEW]
    values = {value for mask in grey for value in mask.counts}
    return called + (f" with the values {value_list(values)}" if 0 < len(values) <= FEW else "")


def _keys(file: Path) -> list[str]:
    content = read_json(file)
    content = content[0] if isinstance(content, list) and content else content
    return [json.dumps(key)[1:-1] for key in itertools.islice(content, FEW)] if isinstance(content, dict) else []


def _hint(suffixes: set[str]) -> str:
    if suffixes & PACKED and not suffixes & SUFFIXES:
        return "unpack it, or pack it as zip or tar"
    if suffixes & ARRAYS:
        return f"save masks as PNG or TIFF, called as their images: {some(sorted(suffixes & ARRAYS))} is not read"
    if suffixes and suffixes <= SUFFIXES:
        return (
            "with labels they could be read: a mask of each image in masks/ beside images/, or called NAME_mask.png; "
            "docs/own_data.md shows the layouts; segcli predict takes images alone"
        )
    if not suffixes & SUFFIXES:
        return "put the images beside the labels, export them with their images; docs/own_data.md shows the layouts"
    return "docs/own_data.md shows the layouts; --format NAME says why one does not fit"
