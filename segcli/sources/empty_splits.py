"""Splits that a source declares, by a folder or a list of names, and that hold no image: noted, whatever its format."""

import os
from collections.abc import Iterable
from pathlib import Path

from segcli.data.canonical import Draft
from segcli.data.image import SUFFIXES
from segcli.sources.files import empty_split
from segcli.sources.folders import SPLITS, Folder

LISTS = "ImageSets"  # the folder in which VOC keeps a text file of names for each split


def note_empty(source: Path, folders: Iterable[Folder], draft: Draft) -> list[str]:
    """A sentence on every split that is declared in the `folders` of `source` and is none of the draft's.

    One that has images was read in another way, which its reader notes; so is what a note names already.
    """
    filled: set[str] = set()
    declared: dict[str, None] = {}
    for folder in folders:
        parts = folder.path.relative_to(source).parts
        inside = {split for part in parts if (split := _split(part))}
        declared |= dict.fromkeys(inside)
        if inside and any(os.path.splitext(name)[1].lower() in SUFFIXES for name in folder.files):
            filled |= inside
        if LISTS in parts:
            for name in folder.files:
                stem, suffix = os.path.splitext(name.lower())
                file = folder.path / name
                if stem in SPLITS and suffix == ".txt" and file.is_file():
                    declared[SPLITS[stem]] = None
                    filled |= {SPLITS[stem]} if file.stat().st_size > 1 else set()
    noted = " ".join(draft.notes)
    missing = [split for split in declared if split not in draft.splits and split not in filled]
    return [note for note in map(empty_split, missing) if note not in noted]


def _split(folder: str) -> str | None:
    """The split that a folder is called after, also as the labels of CamVid are (valannot)."""
    return SPLITS.get(folder.lower().removesuffix("annot"))
