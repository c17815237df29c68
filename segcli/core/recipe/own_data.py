"""Any recipe on any dataset: settings that belong to the recipe's own dataset are left out."""

import os
from pathlib import Path
from typing import Any

from segcli.core.dataset_info import DatasetInfo
from segcli.core.errors import DataError, UsageError
from segcli.core.recipe.recipe_file import is_shipped

OF_DATASET = ("name", "source", "prepare", "split_file")  # keys of `data` that mean one dataset's files

LEVELS = 4  # folders that are looked in: the recipe's own and three above


def needs_folder(root: str | Path) -> Path:
    """`--data DIR` as a path. Raises UsageError where no prepared dataset lies there."""
    folder = Path(root)
    if not (folder / "info.json").is_file():
        hint = f"segcli prepare {folder} --out data/NAME, then --data data/NAME" if folder.exists() else None
        raise UsageError(f"--data {folder}: no prepared dataset (no info.json)", hint=hint)
    return folder


def find_root(root: str, recipe: Path | None) -> str:
    """`data.root` as it is where it is absolute or lies in the working folder; else below the recipe's folder or one
    that holds it, such as that of `runs`, up to LEVELS of them. A name that is found nowhere stays as it is."""
    if recipe is None or os.path.isabs(root) or is_shipped(recipe) or os.path.isfile(os.path.join(root, "info.json")):
        return root
    folders = Path(os.path.normpath(recipe.absolute())).parents[:LEVELS]
    places = [os.path.normpath(os.path.join(folder, root)) for folder in folders]
    return next((place for place in places if os.path.isfile(os.path.join(place, "info.json"))), root)


def leave_out(recipe: dict[str, Any], overrides: dict[str, Any], file: Path) -> list[str]:
    """Remove from a recipe, as it was read from `file`, what belongs to its own dataset, where `data.root` among the
    overrides is another prepared dataset. -> the keys that were removed.

    A key that is overridden, too, stays. A root without info.json is where the recipe's own dataset will be prepared.
    """
    section, root = recipe.get("data"), overrides.get("data.root")
    if not isinstance(section, dict) or not isinstance(root, str):
        return []
    if not os.path.isfile(os.path.join(root, "info.json")):  # False for names that no system takes, too
        return []
    if _same_place(section.get("root"), root, file) or (section.get("name") and section["name"] == _name(root)):
        return []
    removed = [key for key in OF_DATASET if section.get(key) and f"data.{key}" not in overrides]
    for key in removed:
        del section[key]
    if recipe.get("expect") and not any(key == "expect" or key.startswith("expect.") for key in overrides):
        del recipe["expect"]
        return [*(f"data.{key}" for key in removed), "expect"]
    return [f"data.{key}" for key in removed]


def _same_place(root: object, other: str, file: Path) -> bool:
    """Whether a recipe's own `data.root` is the folder `other`."""
    if not isinstance(root, str):
        return False
    own = find_root(root, file)
    try:
        return os.path.samefile(own, other)
    except (OSError, ValueError):  # one is not there, or can't be
        return os.path.abspath(own) == os.path.abspath(other)


def _name(root: str) -> str | None:
    """The dataset's name; None where its description can't be read, which whoever opens it will say."""
    try:
        return DatasetInfo.load(root).name
    except DataError:
        return None
