"""Fixtures of whole journeys: trainings of two steps, and packages of plugins."""

import importlib
import re
import sys
from pathlib import Path

import pytest

from segcli.cli import app
from segcli.compare import study
from segcli.core.recipe.recipe import Recipe

TINY = {"train.steps": 2, "train.evaluations": 1, "train.batch_size": 2, "data.size": 64, "hardware.workers": 0}


@pytest.fixture
def short(monkeypatch):
    """Recipes train two steps on small inputs where no minutes are given, and in this process."""
    load = Recipe.load.__func__

    def tiny(cls, path, overrides=None, *, data=None):
        given = dict(overrides or {})
        if Path(path).name == "recipe.yaml" or (Path(path) / "recipe.yaml").is_file():  # a run: as it is
            return load(cls, path, given, data=data)
        made = {"data.prepare": {"train": 4, "val": 2, "size": 64}} if "quickstart" in str(path) and not data else {}
        return load(cls, path, {**({} if "train.minutes" in given else TINY), **made, **given}, data=data)

    def train(arguments, quiet):
        assert app.run(["train", *arguments, "-q"]) == 0

    monkeypatch.setattr(Recipe, "load", classmethod(tiny))
    monkeypatch.setattr(study, "_train", train)


@pytest.fixture
def register(tmp_path_factory, monkeypatch):
    """`register(folder)`: make a package's plugins known as pip does, for this test alone."""
    packages: list[str] = []

    def put(package: Path) -> None:
        declared = (package / "pyproject.toml").read_text(encoding="utf-8")
        points = re.findall(r'^"(\w+:\w+)" = "([\w.]+)"', declared, re.M)
        packages.extend(module.split(".")[0] for _, module in points)
        info = tmp_path_factory.mktemp("site") / f"{packages[0]}-0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {packages[0]}\nVersion: 0.1\n")
        lines = "".join(f"{name} = {module}\n" for name, module in points)
        (info / "entry_points.txt").write_text(f"[segcli.plugins]\n{lines}")
        monkeypatch.syspath_prepend(info.parent)
        monkeypatch.syspath_prepend(package)
        importlib.invalidate_caches()

    yield put
    for name in [name for name in sys.modules if name.split(".")[0] in packages]:
        del sys.modules[name]
