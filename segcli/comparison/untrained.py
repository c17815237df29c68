"""The cost of a recipe's model before any training: built with random weights, counted, timed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from segcli import cost
from segcli.comparison.published import beside
from segcli.comparison.rows import cost_cells, describe
from segcli.data.dataset import Dataset
from segcli.errors import UsageError
from segcli.info import Category, DatasetInfo
from segcli.recipe import Recipe
from segcli.run import build, choose_device, prepare_layout

COCO = DatasetInfo(
    "coco",
    tuple(Category(f"class {i}", i, thing=i < 80) for i in range(133)),
    {},
    licence="none: it stands for the numbers of classes alone",
)


def recipe_row(item: str, recipe: Recipe, announce: Callable[[str], None]) -> dict[str, Any]:
    """A row without metrics. Where the recipe's dataset is not on disk, COCO's numbers of classes and the model's own
    input size stand in, and the row's notes say so. Raises UsageError for a model that can't be built."""
    row = {**describe(recipe), "name": item, "path": None, **beside(item)}
    if (Path(recipe.data.root) / "info.json").is_file():
        info = DatasetInfo.load(recipe.data.root)
        row.update(data=info.name, fingerprint=info.fingerprint)
    else:
        info = COCO
        row["notes"] = [f"{item}: {recipe.data.root} is not prepared, so it is measured for COCO's 80 thing classes"]
        if recipe.task in ("semantic", "panoptic"):
            row["notes"][0] += " and 53 stuff classes"
    announce(f"measuring {item}")
    try:
        model: Any = build(recipe, info)
    except UsageError as error:
        raise UsageError(f"{item}: {error}", hint=error.hint) from error
    size = input_size(recipe, model) if info is not COCO else model.preprocess.canvas([typical(model.preprocess)])
    model = prepare_layout(model)
    row.update(cost_cells(cost.measure(model, size, device=choose_device(recipe.hardware.device), repeats=5)))
    return row


def input_size(recipe: Recipe, model: Any) -> tuple[int, int]:
    """(height, width) of the canvas that the split's first image comes on: there a run's cost is measured, too."""
    names = recipe.resolve(recipe.data.split_file) if recipe.data.split_file else None
    dataset = Dataset(recipe.data.root, recipe.eval.split, split_file=names, task=recipe.task, fields=model.fields)
    size: tuple[int, int] = model.preprocess.canvas([model.preprocess.output_size(*s) for s in dataset.sizes[:1]])
    return size


def typical(preprocess: Any) -> tuple[int, int]:
    """(height, width) that the model's own resize rule aims at."""
    return preprocess.shortest or preprocess.longest, preprocess.longest
