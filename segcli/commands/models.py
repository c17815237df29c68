"""`segcli models`: every model that can be used or fine-tuned at once, with what is published of it."""

import dataclasses
import functools
from pathlib import Path

import pydantic

from segcli.core import hub
from segcli.core.errors import UsageError
from segcli.core.files import parsed
from segcli.core.recipe.recipe import Recipe, find_recipe
from segcli.core.tasks import TASKS
from segcli.core.yaml_file import read_yaml
from segcli.weights import official


class Facts(pydantic.BaseModel, extra="forbid"):
    """What models.yaml says of a model; see its head."""

    params: float
    gflops: float | None
    input: tuple[int, int] | None
    score: dict[str, float]
    licence: str | None = None
    megabytes: float | None = None


@dataclasses.dataclass
class Known:
    """One model. name: the recipe that predicts with it and trains it. weights: their name. params: of the network;
    gflops: multiply-adds / 1e9 at `input` (height, width), None where they were not counted. score: metric -> what is
    published for these weights, as a fraction. megabytes: of the download; on_disk: whether it was made."""

    name: str
    task: str
    model: str
    weights: str
    params: int
    gflops: float | None
    input: tuple[int, int] | None
    score: dict[str, float]
    licence: str
    megabytes: float | None
    on_disk: bool


FILE = Path(official.__file__).with_name("models.yaml")


@functools.cache
def facts() -> dict[str, Facts]:
    """models.yaml, checked."""
    return parsed(dict[str, Facts], read_yaml(FILE), FILE)


def models(task: str | None = None) -> list[Known]:
    """Every model, or those of a task, best first within each. Raises UsageError for an unknown task."""
    if task is not None and task not in TASKS:
        raise UsageError(f"there is no task {task!r}", hint="tasks: " + ", ".join(TASKS))
    found = [_known(name, one) for name, one in facts().items()]
    order = {name: i for i, name in enumerate(TASKS)}
    rank = lambda one: (one.name.split("/")[0], order[one.task], -max(one.score.values(), default=0.0))
    return sorted((one for one in found if task is None or one.task == task), key=rank)


def _known(name: str, one: Facts) -> Known:
    recipe, file = Recipe.load(name), find_recipe(name)
    begins = recipe.model.get("checkpoint")
    weights = str(begins or (recipe.init if recipe.init in official.TABLE else official.official_of(file)))
    stated = official.TABLE.get(weights)
    licence, megabytes = (stated.licence, stated.megabytes) if stated else (one.licence or "unknown", one.megabytes)
    return Known(
        name,
        recipe.task,
        str(recipe.model["name"]),
        weights,
        round(one.params * 1e6),
        one.gflops,
        one.input,
        {key: round(value / 100, 4) for key, value in one.score.items()},
        licence,
        megabytes,
        official.cached(weights) is not None if stated else hub.cached(weights),
    )
