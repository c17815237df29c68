"""`segcli recipes`: the recipes that come with segcli."""

import dataclasses

from segcli.core.errors import UsageError
from segcli.core.recipe.recipe import Recipe, shipped
from segcli.core.tasks import TASKS


@dataclasses.dataclass
class Shipped:
    """One recipe. data: its folder, or None where it is for one's own. start: the weights that training begins with.
    length: of the training, such as "12 minutes". expected: metric -> {"value", "tolerance"}, what
    `eval --check` asks of a run, as fractions 0..1; {} where the recipe expects none."""

    name: str
    task: str
    model: str
    data: str | None
    start: str | None
    length: str
    expected: dict[str, dict[str, float]]


def recipes(task: str | None = None) -> list[Shipped]:
    """Every shipped recipe, or those of a task, in order of their names. Raises UsageError for an unknown task."""
    if task is not None and task not in TASKS:
        there = {row.task for row in recipes()}
        raise UsageError(f"there is no task {task!r}", hint="tasks: " + ", ".join(t for t in TASKS if t in there))
    return [_row(name, recipe) for name in shipped() if (recipe := Recipe.load(name)).task == task or not task]


def _row(name: str, recipe: Recipe) -> Shipped:
    train = recipe.train
    length = next(
        f"{value:g} {unit.removesuffix('s') if value == 1 else unit}"
        for unit, value in (("minutes", train.minutes), ("steps", train.steps), ("epochs", train.epochs))
        if value is not None
    )
    own = name.startswith("custom/")
    backbone = recipe.model.get("backbone") or {}
    start = recipe.init or recipe.model.get("checkpoint")
    start = start or (f"{backbone['weights']} (backbone)" if backbone.get("weights") else None)
    return Shipped(
        name,
        recipe.task,
        recipe.model["name"],
        None if own else recipe.data.name or recipe.data.root,
        start,
        length,
        {key: expected.model_dump() for key, expected in recipe.expect.items()},
    )
