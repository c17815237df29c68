"""Text that was saved in the encoding of somebody's system, and not as UTF-8: which one that is, where it is certain.

LabelMe wrote json so on Windows until 4.5 (https://github.com/wkentaro/labelme/pull/683). Most bytes are text in
several of these encodings, other text in each: that a file can be decoded proves nothing.
"""

import unicodedata
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from segcli.core.errors import DataError, UsageError

ENCODINGS = {
    "cp949": "Korean",
    "gb18030": "Chinese: GB2312, GBK",
    "cp932": "Japanese: Shift-JIS",
    "big5": "Chinese: Taiwan, Hong Kong",
    "cp1252": "Western European",
}
WEAK = "cp1252"  # any bytes are text in it: that no other encoding fits may be damage, too
TEXT = ("L", "M", "N", "P", "Zs")  # categories of characters that names consist of


def certain(
    files: Mapping[Path, bytes], says: Callable[[Path, str], tuple[list[str], list[str]]], known: Collection[str]
) -> str:
    """The one encoding of all `files`. says: the labels in a text, and the other names, or DataError for a text that is
    not as such files are; known: names that are certain, of files that are there and of declared classes.

    It is certain where only one gives a known name that is not ASCII, where only one fits, and where the labels are the
    same in all. Raises DataError that lists the encodings and what a label is in each.
    """
    fit: list[str] = []
    first = next(iter(files))
    labels: dict[str, list[str]] = {}
    proven = []
    broken: DataError | None = None
    for name in ENCODINGS:
        if not all(_is_text(data, name) for data in files.values()):
            continue
        try:
            said = [says(file, data.decode(name)) for file, data in files.items()]
        except DataError as error:  # a backslash may be half of a letter there
            broken = broken or error
            continue
        fit.append(name)
        labels[name] = [label for one, _ in said for label in one]
        names = {name for pair in said for part in pair for name in part}
        if any(not one.isascii() for one in names & {*known}):
            proven.append(name)
    if len(proven) == 1:
        return proven[0]
    if len(fit) == 1 and fit[0] != WEAK:
        return fit[0]
    if len(fit) > 1 and all(labels[name] == labels[fit[0]] for name in fit):
        return fit[0]
    hint = "save it anew as UTF-8, or --set encoding=NAME"
    if not fit and broken is not None:
        raise broken
    if not fit:
        raise DataError(f"{first}: is neither UTF-8 nor text in {', '.join(ENCODINGS)}", hint=hint)
    place = next((i for i, label in enumerate(labels[fit[0]]) if not label.isascii()), None)
    shown = [f"{name} ({ENCODINGS[name]}{'' if place is None else f', {labels[name][place]!r:.40}'})" for name in fit]
    raise DataError(f"{first}: is not UTF-8, and could be {' or '.join(shown)}", hint=hint)


def _is_text(data: bytes, encoding: str) -> bool:
    """Whether all of it can be decoded, to letters, digits and punctuation."""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return False
    kinds = ("L", "M") if encoding == WEAK else TEXT
    return all(unicodedata.category(letter).startswith(kinds) for letter in set(text) if letter > "\x7f")


def checked(name: str, where: str) -> str:
    """The name of an encoding of text. Raises UsageError that begins with `where` for any other."""
    try:
        b"a".decode(name)
    except (LookupError, ValueError) as error:
        listed = ", ".join(f"{one} ({what})" for one, what in ENCODINGS.items())
        raise UsageError(f"{where}: no encoding of text is called {name!r:.80}", hint=f"such as {listed}") from error
    return name
