"""What papers report, with segcli's own counts of the same models beside it: see published.yaml."""

import functools
from pathlib import Path

import pydantic

from segcli.compare.row import Row, describe
from segcli.core.files import parsed
from segcli.core.recipe.recipe import Recipe, parse_overrides
from segcli.core.yaml_file import read_yaml


class Entry(pydantic.BaseModel, extra="forbid"):
    """A paper's model. recipe: a shipped one's name, then what is changed in it, KEY=VALUE. params in millions, scores
    × 100; None is not printed."""

    name: str
    recipe: str
    params: float | None
    gflops: int | float | None
    scores: list[float]


class Group(pydantic.BaseModel, extra="forbid"):
    """Rows of one benchmark. scores: the metrics of the rows' numbers; ranked_by: one of them."""

    title: str
    ranked_by: str
    scores: list[str]
    rows: list[Entry]

    def fill(self, entry: Entry, row: Row) -> None:
        """Give `row` the paper's numbers of `entry`."""
        row.params_published = None if entry.params is None else round(entry.params * 1e6)
        row.gflops_published = entry.gflops
        row.metrics_published = {k: round(v / 100, 4) for k, v in zip(self.scores, entry.scores, strict=True)}


class Counted(pydantic.BaseModel, extra="forbid"):
    """segcli's own counts of a recipe at `input_of`'s size: GFLOPs by its one rule, and by the paper's own if it has
    another."""

    params: int
    gflops: float
    gflops_paper_rule: float | None


class Published(pydantic.BaseModel, extra="forbid"):
    groups: list[Group]
    counted: dict[str, Counted]

    @property
    def entries(self) -> list[tuple[Group, Entry]]:
        return [(group, entry) for group in self.groups for entry in group.rows]


@functools.cache
def table() -> Published:
    """published.yaml, checked."""
    path = Path(__file__).with_name("published.yaml")
    published: Published = parsed(Published, read_yaml(path), path)
    return published


def input_of(recipe: str) -> tuple[int, int]:
    """(height, width) at which a recipe is counted: DETR's proxy for COCO's mean image (region-based models pad it to
    a multiple of 32), or ADE20K's training crop."""
    recipe = recipe.split()[0]
    if recipe.startswith("ade20k/"):
        return (640, 640) if recipe.endswith(("base", "large")) else (512, 512)
    return (800, 1152) if "rcnn" in recipe else (800, 1130)


def published_rows() -> list[Row]:
    """The papers' rows, in groups of their own: never ranked against anyone's runs."""
    out, recipes = [], {entry.recipe: load(entry.recipe) for _, entry in table().entries}
    for group, entry in table().entries:
        row, counted = describe(recipes[entry.recipe]), table().counted[entry.recipe]
        row.name, row.source, row.data, row.split = entry.name, "published", group.title, "val"
        row.primary = group.ranked_by
        group.fill(entry, row)
        row.params, row.gflops, row.gflops_paper_rule = counted.params, counted.gflops, counted.gflops_paper_rule
        row.gflops_input = list(input_of(entry.recipe))
        out.append(row)
    return out


def load(recipe: str) -> Recipe:
    """The recipe of a row: a shipped one's name, then what is changed in it, KEY=VALUE."""
    name, *changes = recipe.split()
    return Recipe.load(name, parse_overrides(changes))


def add_reported(row: Row, recipe: str) -> None:
    """Give the row of a shipped recipe what its paper reports, where one does."""
    for group, entry in table().entries:
        if entry.recipe == recipe:
            group.fill(entry, row)
            return
