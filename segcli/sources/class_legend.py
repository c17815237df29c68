"""What the values or colours of label pictures mean: given by a file in the folder or by settings, never guessed.

| file | content |
|---|---|
| legend.csv, class_dict.csv, _classes.csv | a row a class under the header `value,name,kind` or `name,r,g,b,kind` |
| labelmap.txt | CVAT: `name:r,g,b::`, or names by value, from 0 |
| label_colors.txt | CamVid: `r g b name` |
| objectInfo150.txt | ADE20K: value 1 is the first row, 0 is ignored |
| classes.txt, labels.txt, class_names.txt | names by value, from 0 |

kind may be absent: `stuff` (the pixels are a class), `object` (the pixels of that value in a file are one object),
`regions` (every connected region is one), or `ignore`. What is called void is ignored only where `kind` is ignore.
"""

import csv
import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from segcli.core.errors import DataError, UsageError
from segcli.core.plugins import nearest
from segcli.sources.files import lines

TABLES = ("legend.csv", "class_dict.csv", "_classes.csv")
LISTS = ("classes.txt", "labels.txt", "class_names.txt")
KINDS = ("stuff", "object", "regions", "ignore")
HINT = "legend.csv has a header and a row a class: value,name,kind or name,r,g,b,kind"


@dataclasses.dataclass(frozen=True)
class Row:
    """One value (colours packed as 65536 R + 256 G + B), its class, and its kind; None where the file gives none."""

    value: int
    name: str
    kind: str | None = None


@dataclasses.dataclass(frozen=True)
class Legend:
    """All rows of one legend, in its order, and where it stands. listed: names alone, whose values are their places."""

    where: str
    rows: tuple[Row, ...]
    colours: bool = False
    listed: bool = False

    def shown(self, value: int) -> str:
        """A value as its owner wrote it."""
        return f"{value >> 16},{value >> 8 & 255},{value & 255}" if self.colours else str(value)


def in_folder(path: Path) -> Legend | None:
    """The legend in the folder `path`; None where there is none. Raises DataError for a broken one, or for two."""
    readers = {**dict.fromkeys(TABLES, _table), "labelmap.txt": _labelmap, "label_colors.txt": _colours}
    readers |= {"objectInfo150.txt": _ade20k, **dict.fromkeys(LISTS, _names)}
    there = [name for name in readers if (path / name).is_file()]
    if len(there) > 1:
        raise DataError(f"{path}: {' and '.join(there)} are two legends", hint="keep one")
    if not there:
        return None
    file = path / there[0]
    legend = readers[there[0]](file)
    values = [row.value for row in legend.rows]
    twice = next((v for i, v in enumerate(values) if v in values[:i]), None)
    if not values or twice is not None:
        problem = "declares no class" if not values else f"declares {legend.shown(twice or 0)} twice"
        raise DataError(f"{file}: {problem}", hint=HINT)
    return legend


def around(path: Path, folders: Sequence[Path]) -> Legend | None:
    """The legend in the folder `path`; without one, that in `folders` (of splits, of the masks), which must agree.

    Raises DataError for a broken one, and for two that differ.
    """
    legend = in_folder(path)
    for folder in folders if legend is None else ():
        other = in_folder(folder) if folder != path else None
        if other is not None and legend is not None and other.rows != legend.rows:
            raise DataError(f"{legend.where} and {other.where} differ", hint=f"put the right one into {path}")
        legend = legend or other
    return legend


def declared(classes: Sequence[str] | Mapping[int, str], ignore: Sequence[int], where: str = "data.prepare") -> Legend:
    """The legend that settings (or a format) declare: names from value 0, or by value. Raises UsageError for
    a value in both."""
    named = dict(classes) if isinstance(classes, Mapping) else dict(enumerate(classes))
    both = sorted(set(named) & set(ignore))
    if both:
        raise UsageError(f"{where}: {both[0]} is in classes and in ignore")
    rows = [Row(value, name) for value, name in named.items()] + [Row(value, "", "ignore") for value in ignore]
    return Legend(where, tuple(rows))


def _table(file: Path) -> Legend:
    rows = list(csv.reader(lines(file), skipinitialspace=True))
    first = rows[0] if rows else []
    head = [cell.strip().lower().replace("pixel value", "value").replace("class", "name") for cell in first]
    unknown = next((cell for cell in head if cell not in ("value", "name", "r", "g", "b", "kind")), None)
    if unknown is not None:
        raise DataError(f"{file}: no column is called {unknown!r}", hint=HINT)
    colours = {"r", "g", "b"} <= set(head)
    if "name" not in head or not (colours or "value" in head):
        raise DataError(f"{file}: needs the columns name and value, or name, r, g and b", hint=HINT)
    out = []
    for number, cells in enumerate(rows[1:], 2):
        if not any(cells):
            continue
        row = dict(zip(head, (cell.strip() for cell in cells), strict=False))
        kind = row.get("kind") or None
        if kind is not None and kind not in KINDS:
            raise DataError(f"{file}, line {number}: no kind is called {kind!r}", hint=nearest(kind, list(KINDS)))
        where = f"{file}, line {number}"
        value = _colour([row.get(c) for c in "rgb"], where) if colours else _whole(row.get("value"), 2**24, where)
        out.append(Row(value, row.get("name", "") or f"class {number - 1}", kind))
    return Legend(str(file), tuple(out), colours)


def _labelmap(file: Path) -> Legend:
    """CVAT's `name:r,g,b:parts:actions`; where no line has a colour, plain names, or `value name` and `value:name`."""
    kept = [line for line in lines(file) if line and not line.startswith("#")]
    numbered = [re.fullmatch(r"(\d{1,5})(?:\s*[:=,;]\s*|\s+)(\S.*)", line) for line in kept]
    coloured = any(re.search(r"\d\s*,\s*\d", line) for line in kept)
    if kept and not coloured and all(numbered):
        return Legend(str(file), tuple(Row(int(m[1]), m[2].strip()) for m in numbered if m))
    if kept and not coloured:
        names = (line.split(":")[0].strip() for line in kept)
        return Legend(str(file), tuple(Row(i, name) for i, name in enumerate(names)), listed=True)
    out = []
    for number, line in enumerate(lines(file), 1):
        if line and not line.startswith("#"):
            name, _, rest = line.partition(":")
            out.append(Row(_colour(rest.split(":")[0].split(","), f"{file}, line {number}"), name))
    return Legend(str(file), tuple(out), True)


def _colours(file: Path) -> Legend:
    out = []
    for number, line in enumerate(lines(file), 1):
        if line:
            words = line.split(maxsplit=3)
            name = words[3] if len(words) == 4 else f"class {number}"
            out.append(Row(_colour(words[:3], f"{file}, line {number}"), name))
    return Legend(str(file), tuple(out), True)


def _ade20k(file: Path) -> Legend:
    rows = [line.split("\t") for line in lines(file)[1:] if line]
    named = [Row(i, row[-1].split(",")[0].split(";")[0].strip()) for i, row in enumerate(rows, 1)]
    return Legend(str(file), (Row(0, "other", "ignore"), *_distinct(named)))


def _distinct(rows: list[Row]) -> list[Row]:
    """ADE20K has two classes called screen and crt screen, and synonyms: names that repeat get their value added."""
    names = [row.name for row in rows]
    return [Row(r.value, r.name if names.count(r.name) == 1 else f"{r.name} {r.value}", r.kind) for r in rows]


def _names(file: Path) -> Legend:
    listed = lines(file)
    while listed and not listed[-1]:
        listed.pop()
    return Legend(str(file), tuple(Row(i, name or f"class {i}") for i, name in enumerate(listed)), listed=True)


def _colour(parts: Sequence[str | None], where: str) -> int:
    if len(parts) != 3:
        raise DataError(f"{where}: a colour has three numbers", hint=HINT)
    r, g, b = (_whole(part, 255, where) for part in parts)
    return r << 16 | g << 8 | b


def _whole(text: str | None, most: int, where: str) -> int:
    digits = (text or "").strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10 and int(digits) <= most):
        raise DataError(f"{where}: {text!r} is not a whole number from 0 to {most}", hint=HINT)
    return int(digits)
