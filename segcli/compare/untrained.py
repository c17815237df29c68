"""The cost of a recipe's model before any training, built with random weights; and what training it would take."""

from collections.abc import Callable
from pathlib import Path

from segcli.compare.published import add_reported
from segcli.compare.row import Row, describe
from segcli.core.dataset_info import Category, DatasetInfo
from segcli.core.errors import UsageError
from segcli.core.recipe.recipe import Recipe
from segcli.core.tasks import TASKS
from segcli.data.fingerprint import current
from segcli.engine import cost
from segcli.engine.fine_tuning import freeze, with_family_defaults
from segcli.engine.forecast import forecast
from segcli.engine.opening import build, choose_device, prepare_layout
from segcli.engine.training import measure_cost, open_datasets
from segcli.models import settled
from segcli.models.interface import Model
from segcli.ops.preprocess import Preprocess

COCO = DatasetInfo(
    "coco",
    tuple(
        Category(f"class {i}", i, thing=i < 80, keypoints=tuple(map(str, range(0 if i else 17)))) for i in range(133)
    ),
    {},
    licence="none: it stands for the numbers of classes alone",
)


def recipe_row(item: str, recipe: Recipe, announce: Callable[[str], None]) -> Row:
    """A row without metrics, with what training would take (`forecast`).

    Where the recipe's dataset is not on disk, COCO's numbers of classes and the model's own input size stand in, and
    the row's notes say so. Raises UsageError for a model that can't be built, or rates of parts that it does not have.
    """
    recipe = recipe.model_copy(update={"model": settled(recipe.model)})
    row = describe(recipe)
    row.name = item
    add_reported(row, item)
    if (Path(recipe.data.root) / "info.json").is_file():
        info = DatasetInfo.load(recipe.data.root)
        row.data, row.fingerprint = info.name, current(Path(recipe.data.root), info)
    else:
        info = COCO
        classes = "80 thing classes" + (" and 53 stuff classes" if TASKS[recipe.task].stuff else "")
        row.notes.append(f"{item}: {recipe.data.root} is not prepared, so it is measured for COCO's {classes}")
    announce(f"measuring {item}")
    try:
        model: Model = build(recipe, info)
        recipe = with_family_defaults(recipe, model)
        freeze(model, recipe.train.optimizer)
    except UsageError as error:
        raise UsageError(f"{item}: {error}", hint=error.hint) from error
    device = choose_device(recipe.hardware.device)
    model = prepare_layout(model).to(device)
    if info is COCO:
        data = None
        size = model.preprocess.canvas([typical(model.preprocess)])
        measured = cost.measure(model, size, repeats=5)
    else:
        data = open_datasets(recipe, model.fields)
        measured = measure_cost(model, data[1], device, repeats=5)  # as a run's is
    row.take_cost(measured)
    row.forecast = forecast(recipe, model, measured, data)[0]
    return row


def typical(preprocess: Preprocess) -> tuple[int, int]:
    """(height, width) that the model's own resize rule aims at."""
    return preprocess.shortest or preprocess.longest, preprocess.longest
