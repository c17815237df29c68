"""Pages of docs/ that are made: `python -m segcli.cli.reference`.

cli.md and recipe.schema.json come from what --help is made of, python.ipynb from python.md.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from rich.text import Text
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from segcli.cli.app import command
from segcli.core.recipe.recipe import schema

Command = TyperCommand | TyperGroup
HEAD = """# The command line

<!-- made by `python -m segcli.cli.reference` from the same declarations as --help; a test checks that it is current -->

Results go to stdout, progress and messages to stderr. Exit codes: 0 ok, 1 failure while running, 2 usage, 3 data,
4 model or weights, 130 interrupted. On an error stderr holds one line `error: …` and, where one is known, `hint: …`.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(part for path, one in commands() for part in _section(path, one))])


def commands() -> Iterator[tuple[str, Command]]:
    """("segcli", program), ("segcli prepare", command), …, sub-commands after their group."""

    def walk(path: str, one: Command) -> Iterator[tuple[str, Command]]:
        yield path, one
        for name, inner in one.commands.items() if isinstance(one, TyperGroup) else ():
            assert isinstance(inner, Command)
            yield from walk(f"{path} {name}", inner)

    yield from walk("segcli", command())


def examples(one: Command) -> list[str]:
    """The commands at the end of a command's help."""
    lines = plain(one.epilog or "").split("\n\n")
    return [line for line in lines if line.startswith("segcli ")]


def plain(text: str) -> str:
    """Help text without rich's markup."""
    return Text.from_markup(text).plain


def options(one: Command) -> list[TyperOption]:
    """A command's own options (not --help, nor those that every command has), in order."""
    shared = {"--help", "--quiet", "--debug", "--install-completion", "--show-completion"}
    return [p for p in one.params if isinstance(p, TyperOption) and not shared & set(p.opts)]


def _section(path: str, one: Command) -> Iterator[str]:
    arguments = [p for p in one.params if isinstance(p, TyperArgument)]
    words = [str(p.metavar) if p.required else f"[{p.metavar}]" for p in arguments]
    words = [word + ("…" if p.nargs == -1 else "") for word, p in zip(words, arguments, strict=True)]
    if isinstance(one, TyperGroup):
        words = [" | ".join(one.commands)]
    yield f"## {path}\n" if path.count(" ") < 2 else f"### {path}\n"
    yield f"`{' '.join([path, *words])}`\n"
    yield plain(" ".join((one.help or "").split())) + "\n"
    rows = [(f"`{p.metavar}`", _help(p)) for p in arguments]
    for p in options(one):
        names = ", ".join(f"`{o}`" for o in p.opts)
        value = (p.metavar or "").strip()
        rows.append((f"{names} `{value}`" if value else names, _help(p)))
    if rows:
        yield "| | |\n|---|---|"
        yield "\n".join("| {} | {} |".format(*(cell.replace("|", "\\|") for cell in row)) for row in rows)
        yield ""
    if path == "segcli":
        quiet = "`-q` or `--quiet` (no progress; results, notes and errors stay)"
        yield f"Every command takes {quiet} and `--debug` (an error's traceback).\n"
    yield "```sh\n" + "\n".join(examples(one)) + "\n```\n"


def _help(parameter: TyperArgument | TyperOption) -> str:
    text, default = plain(parameter.help or ""), parameter.default
    if isinstance(parameter, TyperOption) and type(default) in (int, float, str):
        text += f" default: {default}"
    return text


def notebook(page: str) -> str:
    """A page as a notebook (nbformat 4): its Python blocks are cells to run, what stands between them text."""
    cells: list[dict[str, object]] = []
    for number, part in enumerate(re.split(r"```python\n(.*?)```\n", page, flags=re.S)):
        lines = part.strip().splitlines(keepends=True)
        cell: dict[str, object] = {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}, "source": lines}
        if number % 2:
            cell |= {"cell_type": "code", "execution_count": None, "outputs": []}
        cells.append(cell)
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"


def write(folder: Path) -> None:
    """All of them, into `folder`, where python.md lies."""
    text = notebook((folder / "python.md").read_text(encoding="utf-8"))
    (folder / "python.ipynb").write_text(text, encoding="utf-8")
    (folder / "cli.md").write_text(page(), encoding="utf-8")
    (folder / "recipe.schema.json").write_text(json.dumps(schema(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(__file__).parent.parent.parent / "docs")
