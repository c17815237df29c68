"""Exported models opened as runs are, and the folder of their scores."""

from pathlib import Path
from typing import Any

import torch

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, ModelError, UsageError
from segcli.core.exported_files import results
from segcli.core.recipe.recipe import Recipe
from segcli.engine.run_folder import RunFolder
from segcli.models.exported.description import Description, describe, runtime
from segcli.models.exported.exported import ExportedModel
from segcli.models.interface import Model


def open_exported(path: Path) -> tuple[ExportedModel, Recipe, DatasetInfo]:
    """Raises ModelError for a file that is broken, changed, of another version, or that is no safe one to load."""
    description = describe(path)
    run = runtime(description.target).load(path, torch.get_num_threads())
    info, recipe = info_of(description, path), recipe_of(path, description)
    model = ExportedModel(description, info, run)
    model.max_detections = recipe.eval.max_detections
    return model, recipe, info


def info_of(description: Description, path: Path) -> DatasetInfo:
    try:
        return DatasetInfo.from_json(description.environment["dataset"], f"{path}: its dataset")
    except (DataError, KeyError) as error:
        raise ModelError(f"{path}: its classes can't be read: {error}") from error


def recipe_of(path: Path, description: Description | None = None) -> Recipe:
    """The recipe that the file was trained by; its dataset is looked for around the file, as a run's is."""
    values: dict[str, Any] = (description or describe(path)).recipe
    try:
        recipe = Recipe.parse(values, f"{path}: its recipe", results(path) / "recipe.yaml")
    except UsageError as error:
        raise ModelError(str(error)) from error
    recipe.find_data()
    return recipe


def results_folder(path: Path, model: Model, recipe: Recipe) -> Path:
    """The run folder beside the file that its scores and predictions are kept in, made where it is not there."""
    assert isinstance(model, ExportedModel)
    folder, description = results(path), model.description
    folder.mkdir(exist_ok=True)
    run = RunFolder(folder)
    run.write_recipe(recipe)
    run.write_environment(description.environment)
    if description.cost is not None and not (folder / "cost.json").is_file():
        run.write_cost(description.cost)
    return folder
