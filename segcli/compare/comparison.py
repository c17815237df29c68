"""A whole comparison: rows, their order, intervals, sentences and the choice, for the command and for scripts."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from segcli.compare import intervals, ranking
from segcli.compare.choice import choices
from segcli.compare.curves import add_time_to_score
from segcli.compare.files import document
from segcli.compare.intervals import Pair
from segcli.compare.published import published_rows
from segcli.compare.row import Row
from segcli.compare.rows import collect
from segcli.compare.study import train_missing
from segcli.compare.verdict import verdict
from segcli.core.errors import ModelError, SegcliError, UsageError
from segcli.core.recipe.recipe import find_source
from segcli.core.recipe.recipe_file import every_run


@dataclasses.dataclass
class Comparison:
    """groups: rows that are ranked against each other, best first. pairs: of each group. verdicts: each group's
    sentences. choices: which model to take, a sentence a score. failed: (item, error) of what gave no row."""

    groups: list[list[Row]]
    pairs: list[list[Pair]]
    verdicts: list[list[str]]
    choices: list[str]
    failed: list[tuple[str, SegcliError]]

    @property
    def rows(self) -> list[Row]:
        return [*chain(*self.groups)]

    def to_json(self) -> dict[str, object]:
        """As `compare --json` prints it."""
        sentences = [*chain(*self.verdicts), *self.choices]
        return document(self.groups, self.failed, [*chain(*self.pairs)], sentences)


def compare_runs(
    items: Sequence[str | Path] | None = None,
    *,
    train: bool = False,
    data: str | Path | None = None,
    minutes: float | None = None,
    overrides: Mapping[str, object] | None = None,
    published: bool = False,
    sort: str | None = None,
    announce: Callable[[str], None] = lambda text: None,
    quiet: bool = False,
) -> Comparison:
    """Compare run folders and recipes; None: every run below runs/, or with `published` what papers report alone.

    train: first train recipes without a finished run; data, minutes, overrides: see `study.train_missing`. sort: a
    column or metric. announce is called before something slow begins. Raises ModelError where nothing gives a row,
    UsageError for data or minutes where no item is a recipe.
    """
    if items is None:
        items = [] if published else every_run()
    if not items and not published:
        raise UsageError("nothing to compare: give run folders or recipes")
    for flag, value in (("--data", data), ("--minutes", minutes)):
        if value is not None and items and all(map(_is_run, items)):
            raise UsageError(f"{flag} is for recipes, and {', '.join(map(str, items))} was trained as it is")
    folder = Path(data) if data is not None else None
    untrained: list[tuple[str, SegcliError]] = []
    if train:
        items, untrained = train_missing(
            items, announce, data=folder, minutes=minutes, overrides=overrides, quiet=quiet
        )
    rows, failed = collect(items, announce, folder)
    failed = [*untrained, *failed]
    rows += published_rows() if published else []
    if not rows and len(failed) == 1:
        raise failed[0][1]
    if not rows:
        raise ModelError("; ".join(str(error) for _, error in failed), hint=failed[0][1].hint)
    groups = ranking.rank(rows, sort)
    add_time_to_score(groups)
    resamples = intervals.attach(rows)
    metrics = [ranking.metrics_of(group) for group in groups]
    pairs = [intervals.pairs(group, resamples, keys) for group, keys in zip(groups, metrics, strict=True)]
    of_groups = [*zip(groups, pairs, metrics, strict=True)]
    return Comparison(
        groups,
        pairs,
        [verdict(*one) for one in of_groups],
        [*chain(*(choices(*one) for one in of_groups))],
        failed,
    )


def _is_run(item: str | Path) -> bool:
    try:
        return find_source(item).is_dir()
    except SegcliError:  # its row will say what is wrong
        return False
