"""Recipe files as plain data: find, read, merge what they extend, override keys. Nothing is validated here."""

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from segcli.core import trust
from segcli.core.errors import ModelError, UsageError
from segcli.core.exported_files import is_exported
from segcli.core.files import resolve
from segcli.core.plugins import nearest
from segcli.core.recipe import old_names
from segcli.core.yaml_file import parse_yaml, read_yaml

LENGTHS = {"epochs", "steps", "minutes"}  # of training: one is set
OF_LENGTH = LENGTHS | {"retimed"}  # what another length replaces
FOLDER = Path(str(resources.files("segcli") / "recipes"))  # installed with the wheel
CHECKOUT = Path(__file__).parents[3] / "recipes"  # the same files, where segcli runs from a checkout


def shipped() -> list[str]:
    """Names of the recipes that come with segcli, such as `quickstart/mask_rcnn`."""
    root = _shipped_root()
    return sorted(p.relative_to(root).with_suffix("").as_posix() for p in root.rglob("*.yaml"))


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe: a path, a shipped name, a bare NAME for custom/NAME, or a run folder's.

    Raises UsageError with the nearest name.
    """
    path = Path(name)
    if path.is_file():
        return path
    if (path / "recipe.yaml").is_file():
        return path / "recipe.yaml"
    if (file := _shipped_file(name)) is not None:
        return file
    raise UsageError(f"no recipe {str(name)!r}", hint=nearest(_shipped_name(str(name)), shipped()))


def _shipped_name(name: str | Path) -> str:
    return str(name).removeprefix("recipes/").removesuffix(".yaml")


def _shipped_file(name: str | Path) -> Path | None:
    """The file of a recipe that comes with segcli, None where none is called so."""
    text, names = _shipped_name(name), shipped()
    for candidate in (text, f"custom/{text}"):
        if candidate in names:
            return _shipped_root() / f"{candidate}.yaml"
    return None


def runs_here() -> list[str]:
    """The run folders below runs/, sorted."""
    return sorted(p.parent.as_posix() for p in Path("runs").glob("*/recipe.yaml"))


def every_run() -> list[str]:
    """`runs_here`. Raises ModelError where there is none."""
    if not (runs := runs_here()):
        raise ModelError("there is no run below runs/", hint="segcli train quickstart/mask_rcnn, or name a recipe")
    return runs


def find_source(name: str | Path) -> Path:
    """The run folder, recipe file or exported model's file that `name` means, as `eval`, `predict` and `compare` take
    them.

    Raises ModelError for a run that is not there, UsageError for a recipe that is not there.
    """
    path = Path(name)
    if is_exported(path) and path.is_file():
        return path
    if path.is_dir():
        if not (path / "recipe.yaml").is_file():
            raise ModelError(f"{path}: not a run folder (no recipe.yaml)", hint="runs are made by segcli train")
        return path
    try:
        return find_recipe(name)
    except UsageError:
        if path.suffix == ".yaml":
            raise
        runs = runs_here()
        if path.parts[:1] == ("runs",) and not runs:
            hint = "there is no run below runs/; segcli train makes one"
        else:
            hint = nearest(str(name), runs if path.parts[:1] == ("runs",) else [*runs, *shipped()])
        raise ModelError(f"no run folder and no recipe is called {str(name)!r}", hint=hint) from None


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """`["train.epochs=3", ...]` -> {"train.epochs": 3}; values are YAML, never evaluated."""
    out = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise UsageError(f"--set {pair!r} is not KEY=VALUE", hint="for example --set train.epochs=3")
        out[key] = parse_yaml(value, f"--set {pair!r:.200}", error=UsageError)
    return out


def _shipped_root() -> Path:
    return FOLDER if FOLDER.is_dir() else CHECKOUT


def is_shipped(file: Path) -> bool:
    """Whether a recipe's file is one of those that come with segcli."""
    return file.absolute().is_relative_to(_shipped_root().absolute())


def read_recipe(path: Path, children: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The file merged onto what it extends; `children` are the files that extend it. Raises UsageError."""
    data = read_yaml(path, error=UsageError)
    if not isinstance(data, dict):
        raise UsageError(f"{path}: a recipe is a mapping of keys to values, not {type(data).__name__}")
    section = data.get("data")
    if isinstance(section, dict) and section.get("split_file") is not None:
        _beside(path, section["split_file"], "data.split_file")
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if path.resolve() in children:
        raise UsageError(f"{path}: extends itself through {parent}")
    file = _parent(path, parent)
    base = read_recipe(file, (*children, path.resolve()))
    section = base.get("data")
    names = section.get("split_file") if isinstance(section, dict) else None
    if isinstance(section, dict) and isinstance(names, str) and (file.parent / names).is_file():
        section["split_file"] = str(file.parent / names)  # it lies beside the parent, which may be another folder
    return _merge(base, data)


def _parent(path: Path, name: object) -> Path:
    """The file that a recipe extends: beside it, or one that comes with segcli, by its name."""
    by_name = _shipped_file(name) if isinstance(name, str) and not os.path.isfile(path.parent / name) else None
    file = by_name or _beside(path, name, "extends")
    if not file.is_file():
        hint = nearest(_shipped_name(str(name)), shipped())
        raise UsageError(
            f"{path}: extends {name}, but there is no file {file}, and no shipped recipe is called so", hint=hint
        )
    return file


def _beside(path: Path, name: object, key: str) -> Path:
    """The file that a recipe names: in the recipe's folder; where that lies in the working folder, in a folder called
    recipes, or comes with segcli, anywhere in there. Raises UsageError for any other: a recipe may be somebody else's.
    """
    here = path.parent.absolute()
    tops = [_shipped_root().absolute(), Path.cwd(), *(p for p in here.parents if p.name == "recipes"), here]
    root = next(top for top in tops if here.is_relative_to(top))
    if isinstance(name, str) and "\0" not in name and Path(os.path.normpath(name)).is_relative_to(root):
        name = os.path.relpath(name, here)  # absolute, and still in there
    trusted, where = trust.everything(), f"{path}: {key}"
    try:
        return resolve(root, name, where, base=path.parent, error=UsageError, trusted=trusted)
    except UsageError as error:
        hint = f"copy it there; --set {key}=FILE and {trust.VARIABLE}=1 take others"
        raise UsageError(str(error), hint=hint) from None


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on `base`, mapping by mapping. A mapping of another `name` replaces the whole one (not `data`, whose name
    is no plugin), null removes a mapping."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        if isinstance(old, dict) and value is None:
            del out[key]
        elif isinstance(old, dict) and isinstance(value, dict) and (key == "data" or _same_name(old, value)):
            out[key] = _merge(old_names.superseded(old, value) if key == "model" else old, value)
        elif isinstance(old, dict) and isinstance(value, dict) and key == "model" and old_names.meant(old, value):
            out[key] = _merge(old_names.superseded(old, value), {k: v for k, v in value.items() if k != "name"})
        else:
            out[key] = value
        if key == "train" and isinstance(value, dict) and LENGTHS & value.keys():  # one length replaces another
            out[key] = {k: v for k, v in out[key].items() if k not in OF_LENGTH or k in value}
    return out


def _same_name(old: Mapping[str, object], new: Mapping[str, object]) -> bool:
    return "name" not in new or new["name"] == old.get("name")


def put(data: dict[str, Any], key: str, value: object) -> None:
    """Set `a.b.c` in nested mappings, making those that are missing. Raises UsageError naming the flag."""
    parts = key.split(".")
    if parts[0] == "model" and len(parts) > 1 and isinstance(data.get("model"), dict):
        inner = value if len(parts) == 2 else {parts[2]: value}
        data["model"] = old_names.superseded(data["model"], {parts[1]: inner})
    here = data
    for i, part in enumerate(parts[:-1]):
        step = here.setdefault(part, {})
        if step is None:
            step = here[part] = {}
        if not isinstance(step, dict):
            raise UsageError(f"--set {key}: {'.'.join(parts[: i + 1])} is not a mapping")
        here = step
    if value is None and isinstance(here.get(parts[-1]), dict):
        del here[parts[-1]]  # as null in a file that extends another one
    else:
        here[parts[-1]] = value
    if parts[:-1] == ["train"] and parts[-1] in LENGTHS and value is not None:
        for other in OF_LENGTH - {parts[-1]}:
            here.pop(other, None)
