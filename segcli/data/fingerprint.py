"""What tells one state of a prepared dataset from another: digests of its classes, labels, maps and images.

A fingerprint is "2:CLASSES.LABELS.MAPS.IMAGES", each part 24 hexadecimal digits, so that two of them say what differs.
`prepare` computes it; afterwards files may be edited, so `current` checks whether names, sizes or times of the files
have changed since, and reads them again only then. Earlier versions had one sha256 over the annotation files
(`former`), which runs of that time still hold: like is compared with like.
"""

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import SegcliError
from segcli.core.files import open_regular, read_bytes
from segcli.core.state import remember, remembered
from segcli.core.trust import Images, images_of
from segcli.data import annotations, index

KIND = "2:"
KEPT = "fingerprint"  # what core/state.py keeps: the fingerprint, and the state of the files that it holds for
PARTS = ("classes", "labels", "label maps", "images")
LARGE = 8 * 2**30  # bytes of images; of more, parts of each file are read
SAMPLE = 64 * 2**10  # bytes of such a part: first, middle, last
THREADS = 4  # hashing releases the interpreter
TOGETHER = 32  # files that a thread reads in turn: handing over each would take longer than a small one


def current(root: Path, info: DatasetInfo | None = None) -> str:
    """The fingerprint of the prepared folder as it is now. Raises DataError where labels can't be read."""
    info = info or DatasetInfo.load(root)
    files = _files(root, info, images_of(root, info.image_root))
    state = _state(files, info)
    kept = _remembered(root)
    if kept.get("state") == state and str(kept.get("fingerprint")).startswith(KIND):
        return str(kept["fingerprint"])
    computed = _compute(files, info)
    keep(root, state, computed)
    return computed


def measure(root: Path, info: DatasetInfo) -> tuple[str, str]:
    """(state, fingerprint) of a folder that is being made: for info.json, and to `keep` once it has its name."""
    images = root / (info.image_root or "images")
    files = _files(root, info, Images(images, images))
    return _state(files, info), _compute(files, info)


def keep(root: Path, state: str, fingerprint: str) -> None:
    """Remember what `measure` returned. Without a place for that, the next command reads the files again."""
    with contextlib.suppress(SegcliError):
        remember(KEPT, root, {"state": state, "fingerprint": fingerprint})


def changes(before: str, root: Path, info: DatasetInfo | None = None) -> list[str] | None:
    """What differs between the state that had the fingerprint `before` and the folder now: some of PARTS, [] where
    nothing does; None where `before` can't be compared. Of the former kind only the labels can be."""
    if before.startswith(KIND):
        one, two = (text[len(KIND) :].split(".") for text in (before, current(root, info)))
        if len(one) != len(two):  # of a later version
            return None
        return [name for name, a, b in zip(PARTS, one, two, strict=True) if a != b]
    if len(before) == 64:
        return [] if former(root) == before else ["labels"]
    return None


def former(root: Path) -> str:
    """The fingerprint of earlier versions: sha256, as hex, over the annotation files' names and contents."""
    digest = hashlib.sha256()
    for folder in ("annotations", "panoptic"):
        for path in sorted((root / folder).glob("*.json")):
            digest.update(f"{folder}/{path.name}\0".encode())
            digest.update(read_bytes(path))
    return digest.hexdigest()


def _files(root: Path, info: DatasetInfo, images: Images) -> dict[str, list[tuple[str, Path]]]:
    """Of labels, label maps and images: each file's name and path, sorted. Other files in the folder do not count."""
    labels = [p for folder in ("annotations", "panoptic") for p in (root / folder).glob("*.json")]
    maps = [p for folder in ("semantic", "panoptic") for p in (root / folder).glob("*/**/*") if not p.is_dir()]
    named = {name for path in (root / "annotations").glob("*.json") for name in _image_names(path)}
    if not images.trusted:  # whoever reads the images refuses such names
        named = {name for name in named if ".." not in name and not name.startswith("/")}
    return {
        "labels": sorted((p.relative_to(root).as_posix(), p) for p in labels),
        "label maps": sorted((p.relative_to(root).as_posix(), p) for p in maps),
        "images": sorted((name, images.folder / name) for name in named),
    }


def _image_names(path: Path) -> Iterator[str]:
    known = index.load(path)
    listed = known.images if known is not None else annotations.load(path)[0]
    for image in listed:
        name = image.get("file_name") if isinstance(image, dict) else None
        if isinstance(name, str) and "\0" not in name:
            yield name


def _state(files: dict[str, list[tuple[str, Path]]], info: DatasetInfo) -> str:
    """A digest of names, sizes and times: while it is the same, so is the content."""
    digest = hashlib.blake2b(_classes(info), digest_size=12)
    for listed in files.values():
        for name, path in listed:
            try:
                facts = path.stat()
            except OSError:
                digest.update(f"{name!r} is missing\0".encode())
                continue
            # the time of the inode's change, too: a tool that edits a file may put its time of change back
            digest.update(f"{name!r} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}\0".encode())
    return digest.hexdigest()


def _compute(files: dict[str, list[tuple[str, Path]]], info: DatasetInfo) -> str:
    parts = [_digest(_classes(info))]
    with ThreadPoolExecutor(THREADS) as pool:
        for kind in PARTS[1:]:
            names, paths = [name for name, _ in files[kind]], [path for _, path in files[kind]]
            large = kind == "images" and sum(map(_size, paths)) > LARGE
            pieces = [paths[i : i + TOGETHER] for i in range(0, len(paths), TOGETHER)]
            read = functools.partial(_digests, _sampled if large else _whole)
            contents = [mark for marks in pool.map(read, pieces) for mark in marks]
            parts.append(_digest(json.dumps(list(zip(names, contents, strict=True))).encode()))
    return KIND + ".".join(parts)


def _digests(read: Callable[[Path], str], paths: Sequence[Path]) -> list[str]:
    return [read(path) for path in paths]


def _classes(info: DatasetInfo) -> bytes:
    """What decides which label an object has; colours and the like may change."""
    listed = [[c.name, c.source_id, c.thing, c.keypoints, c.flip_pairs] for c in info.categories]
    return json.dumps(listed).encode()


def _whole(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=12)
    try:
        with open_regular(path) as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except (OSError, ValueError):
        return "missing"  # whoever reads images says so; here it is one state among others
    return digest.hexdigest()


def _sampled(path: Path) -> str:
    size = _size(path)
    digest = hashlib.blake2b(str(size).encode(), digest_size=12)
    try:
        with open_regular(path) as file:
            for start in (0, (size - SAMPLE) // 2, size - SAMPLE):
                file.seek(max(0, start))
                digest.update(file.read(SAMPLE))
    except (OSError, ValueError):
        return "missing"
    return digest.hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def _remembered(root: Path) -> dict[str, object]:
    try:
        return remembered(KEPT, root) or {}
    except SegcliError:  # a broken file is written anew
        return {}


def described(what: Iterable[str]) -> str:
    """["labels", "images"] -> "labels and images"."""
    *most, last = what
    return f"{', '.join(most)} and {last}" if most else last
