"""Every command has help with an example and a page; pages are current, their links resolve, their commands parse."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from segcli.cli import reference
from segcli.cli.app import command
from segcli.core.recipe.recipe import Recipe

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
COMMANDS = dict(reference.commands())

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())


def parse(words: list[str]) -> str:
    """Parse a command line without running it. -> the path of its command. Raises typer's usage errors."""
    one, path = command(), "segcli"
    context = one.make_context(path, list(words), resilient_parsing=False)
    while hasattr(one, "commands"):
        rest = [*getattr(context, "_protected_args", []), *context.args]
        if not rest:
            break
        name, one, rest = one.resolve_command(context, rest)
        path = f"{path} {name}"
        context = one.make_context(name, rest, parent=context)
    return path


def command_lines(text: str) -> list[str]:
    """Every `segcli …` command of a page's shell blocks, continued lines joined, comments cut."""
    out = []
    for block in re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|;|\|", line.removeprefix("$ ")):
                words = part.strip()
                if words.startswith("segcli"):
                    out.append(words.split(" #")[0].strip())
    return out


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_help_with_examples_that_parse(path):
    one = COMMANDS[path]
    assert one.help
    assert all(p.help for p in one.params)
    examples = reference.examples(one)
    assert examples
    for line in examples:
        words = shlex.split(line)
        assert words[0] == "segcli"
        assert parse(words[1:]).startswith(path)


@pytest.mark.parametrize("name", [path.split()[1] for path in COMMANDS if path.count(" ") == 1])
def test_every_command_has_a_page_that_tells_of_every_option(name):
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# segcli {name}\n")
    for path, one in COMMANDS.items():
        if path.split()[1:2] == [name]:
            assert [o.opts[0] for o in reference.options(one) if f"`{o.opts[0]}" not in text] == []


def test_the_reference_page_is_current():
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == reference.page(), "run: python -m segcli.cli.reference"


def test_the_notebook_is_current():
    made = reference.notebook((DOCS / "python.md").read_text(encoding="utf-8"))
    assert (DOCS / "python.ipynb").read_text(encoding="utf-8") == made, "run: python -m segcli.cli.reference"


def test_the_recipe_schema_is_current():
    """Names and descriptions: how types are spelled may differ between versions of pydantic."""

    def names(schema: dict) -> dict:
        parts = {"": schema, **schema["$defs"]}
        return {k: {n: p.get("description") for n, p in v["properties"].items()} for k, v in parts.items()}

    stored = json.loads((DOCS / "recipe.schema.json").read_text(encoding="utf-8"))
    assert names(stored) == names(reference.schema()), "run: python -m segcli.cli.reference"


@every_page
def test_relative_links_resolve(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text):
        link = (target[0] or target[1]).split("#")
        if "://" in link[0] or link[0].startswith("mailto:"):
            continue
        file = (page.parent / link[0]).resolve() if link[0] else page
        assert file.exists(), f"{page.name}: {link[0]}"
        if len(link) > 1 and file.suffix == ".md":
            assert link[1] in anchors(file), f"{page.name}: {'#'.join(link)}"


@every_page
def test_every_source_file_named_on_a_page_exists(page):
    """`room/…/file.py` in backticks, from the root, the package or its models; NAME and FAMILY are anybody's."""
    named = re.findall(r"`((?:\w+/)+\w+\.py)`", page.read_text(encoding="utf-8"))
    roots = (ROOT, ROOT / "segcli", ROOT / "segcli" / "models")
    missing = [n for n in named if not re.search("NAME|FAMILY", n) and not any((r / n).is_file() for r in roots)]
    assert missing == []


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of a page's headings."""
    titles = re.findall(r"^#+ +(.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"`", "", t)).strip().lower().replace(" ", "-") for t in titles}


@every_page
def test_every_command_on_a_page_parses(page):
    for line in command_lines(page.read_text(encoding="utf-8")):
        words = shlex.split(line)
        if words[1:] not in (["--help"], ["--version"]):
            parse(words[1:])


@every_page
def test_every_recipe_on_a_page_is_valid(page):
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        data = yaml.safe_load(block)
        if {"name", "task", "data", "model"} <= data.keys():
            Recipe.parse(data, page.name)


def test_the_checks_see_mistakes(tmp_path):
    with pytest.raises(Exception, match="--ouut"):
        parse(["prepare", "shapes", "--ouut", "x"])
    with pytest.raises(Exception, match="prepair"):
        parse(["prepair"])
    lines = command_lines("```sh\n$ pip install . && segcli train a \\\n  --out b  # comment\n```\n")
    assert [" ".join(line.split()) for line in lines] == ["segcli train a --out b"]


def test_readme_opens_with_the_two_commands():
    block = re.search(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    assert block
    first, second = block[1].splitlines()
    assert first == "pip install . && segcli train quickstart/mask_rcnn"
    assert second == "pip install '.[test]' && pytest"
