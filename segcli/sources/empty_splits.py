"""Splits that a source declares, by a folder or a list of names, and that hold no image: said, whatever its format."""

from pathlib import Path

from segcli.data.canonical import Draft
from segcli.data.image import SUFFIXES
from segcli.sources.files import SPLITS, said_empty
from segcli.sources.folders import walk

LISTS = "ImageSets"  # the folder in which VOC keeps a text file of names for each split


def note_empty(source: Path, draft: Draft) -> list[str]:
    """A sentence on every split that is declared in the folder `source` and is none of the draft's.

    One that has images was read in another way, which its reader says; so is what a note names already.
    """
    if not source.is_dir():
        return []
    filled: set[str] = set()
    declared: dict[str, None] = {}
    for current, folders, names in walk(source):
        if "info.json" in names and "prepared.json" in names:
            folders.clear()
            continue
        parts = current.relative_to(source).parts
        inside = {split for part in parts if (split := _split(part))}
        declared |= dict.fromkeys(inside)
        if any(Path(name).suffix.lower() in SUFFIXES for name in names):
            filled |= inside
        if LISTS in parts:
            for name in names:
                split = SPLITS.get(Path(name).stem.lower())
                if split is not None and name.lower().endswith(".txt") and (current / name).is_file():
                    declared[split] = None
                    filled |= {split} if (current / name).stat().st_size > 1 else set()
    said = " ".join(draft.notes)
    missing = [split for split in declared if split not in draft.splits and split not in filled]
    return [note for note in map(said_empty, missing) if note not in said]


def _split(folder: str) -> str | None:
    """The split that a folder is called after, also as the labels of CamVid are (valannot)."""
    return SPLITS.get(folder.lower().removesuffix("annot"))
