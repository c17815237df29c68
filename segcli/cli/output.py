"""How commands print: tables that fit the terminal for people, one JSON document for scripts; results go to stdout."""

import dataclasses
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from segcli.core.control import CONTROL, written_out
from segcli.core.formatting import finite

DRAWS = ("rich", "tqdm")  # libraries whose own control sequences are sent: colours, the redrawing of a bar
PLAIN_WIDTH = 1000  # characters where the output is no terminal: nothing is left out or folded there


@dataclasses.dataclass
class Column:
    """drop: 0 = always shown; the highest number goes first where the terminal is narrow. best: printed bold."""

    title: str
    drop: int = 0
    left: bool = False
    best: bool = False


@dataclasses.dataclass
class Grid:
    """A table: a row has one text for each column; `bold` names rows to stress."""

    columns: list[Column]
    rows: list[list[str]]
    title: str = ""
    caption: str = ""
    bold: Sequence[int] = ()

    def render(self, hidden: Sequence[Column] = (), widths: Mapping[int, int] = MappingProxyType({})) -> Table:
        """The table without `hidden` columns. widths: of columns, by position, where they are not as wide as their
        text."""
        notes = [self.caption] if self.caption else []
        if titles := [c.title.replace("\n", " ") for c in self.columns if c in hidden and c.title]:
            notes.append(f"too narrow for: {', '.join(titles)}")
        table = Table(
            title=Text(shown(self.title)) if self.title else None,  # Text: names are no markup
            caption=Text(shown("\n".join(notes))) if notes else None,
            box=box.SIMPLE_HEAD,
            title_justify="left",
            caption_justify="left",
            title_style="bold",
            show_header=any(c.title for c in self.columns),
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        kept = [i for i, c in enumerate(self.columns) if c not in hidden]
        for i in kept:
            column = self.columns[i]
            table.add_column(
                Text(shown(column.title)),
                justify="left" if column.left else "right",
                style="bold cyan" if column.best else None,
                overflow="fold",
                width=widths.get(i),
            )
        for number, row in enumerate(self.rows):
            table.add_row(*[Text(shown(row[i])) for i in kept], style="bold" if number in self.bold else None)
        return table

    def fitted(self, console: Console) -> Table:
        """The table with as many columns as the console has room for."""
        hidden: list[Column] = []
        unbounded = console.options.update(max_width=10_000)  # else nothing measures wider than the console
        for column in sorted((c for c in self.columns if c.drop), key=lambda c: -c.drop):
            if console.measure(self.render(hidden), options=unbounded).maximum <= console.width:
                break
            hidden.append(column)
        total = console.measure(self.render(hidden), options=unbounded).maximum
        return self.render(hidden, self._between_words(hidden, total - console.width))

    def _between_words(self, hidden: Sequence[Column], excess: int) -> dict[int, int]:
        """The widths of columns that together are `excess` characters narrower than their text, the widest ones first,
        none narrower than its longest word; empty where that can't be: words are cut then."""
        kept = [i for i, column in enumerate(self.columns) if column not in hidden]
        cells = {i: [shown(t) for t in (self.columns[i].title, *(row[i] for row in self.rows))] for i in kept}
        width = {i: max(cell_len(line) for text in cells[i] for line in text.split("\n")) for i in kept}
        word = {i: max((cell_len(part) for text in cells[i] for part in text.split()), default=0) for i in kept}
        for _ in range(max(excess, 0)):
            wide = [i for i in kept if width[i] > word[i]]
            if not wide:
                return {}
            width[max(wide, key=width.__getitem__)] -= 1
        return width if excess > 0 else {}


def shown(text: str) -> str:
    """Text out of files and names with its control characters written out (\\x1b): shown, never obeyed."""
    return CONTROL.sub(written_out, text)


class Stream(Protocol):
    """What text can be written to."""

    def write(self, text: str, /) -> int: ...
    def flush(self) -> object: ...


class Shown:
    """A stream that writes `shown` text, whoever prints; only what draws on a terminal itself may send sequences."""

    def __init__(self, stream: Stream):
        self._stream = stream

    def write(self, text: str) -> int:
        writer = str(sys._getframe(1).f_globals.get("__name__", "")).partition(".")[0]
        self._stream.write(text if writer in DRAWS else shown(text))
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class PlainLines:
    """A stream for logs: a progress bar that redraws itself becomes one line for each state that it had."""

    def __init__(self, stream: Stream):
        self._stream, self._line = stream, ""

    def write(self, text: str) -> int:
        for piece in re.split("([\r\n])", text.replace("\x1b[A", "")):  # a bar goes up to the line of another
            if piece == "\n" or (piece == "\r" and self._line.strip()):
                self._stream.write(self._line.rstrip() + "\n")
            self._line = "" if piece in ("\r", "\n") else self._line + piece
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def finish(self) -> None:
        """Write what has no line end yet."""
        if self._line.strip():
            self._stream.write(self._line.rstrip() + "\n")
        self._line = ""
        self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def show(*parts: Grid | str) -> None:
    """Print to stdout: without colour, and without a terminal's width, where stdout is a file or a pipe."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PLAIN_WIDTH
    console = Console(width=width, highlight=False, soft_wrap=False)
    for part in parts:
        if isinstance(part, Grid):
            console.print(part.fitted(console))
            console.print()
        else:
            console.print(Text(shown(part)), soft_wrap=True)


def lines(parts: Sequence[Grid | str]) -> list[str]:
    """The same as plain text, for a picture: a line for each title and row, cells parted by tabs."""
    out = []
    for part in parts:
        rows = [[part]] if isinstance(part, str) else [_headings(part), *part.rows, [""]]
        out += ["\t".join(row) for row in rows]
    return out


def _headings(grid: Grid) -> list[str]:
    return [grid.title or grid.columns[0].title, *(column.title for column in grid.columns[1:])]


def print_json(document: Mapping[str, object]) -> None:
    """The only thing on stdout. What is no number (nan, inf) becomes null."""
    text = json.dumps(finite(document), ensure_ascii=False, indent=1)
    print(CONTROL.sub(lambda m: f"\\u{ord(m[0]):04x}", text))


def next_commands(*commands: str) -> None:
    """How to go on; each line can be copied into a shell."""
    show("next:", *[f"  {command}" for command in commands])


def quoted(path: str | Path) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path))
