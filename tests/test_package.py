"""The package itself: its public names, and what an installation holds."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import segcli


def test_dir_shows_the_public_names():
    assert dir(segcli) == sorted([*segcli.__all__, "__version__"])
    assert all(getattr(segcli, name) for name in dir(segcli))


def test_an_installed_package_has_every_file(tmp_path):
    """Built and installed as pip does it: data files are there, and the tables made of them can be read."""
    if int(importlib.metadata.version("setuptools").split(".")[0]) < 77:
        pytest.skip("an older setuptools than pyproject.toml asks for is installed here")
    root = Path(__file__).parents[1]  # the checkout: what is imported may be installed elsewhere
    source = tmp_path / "source"
    skip = shutil.ignore_patterns("__pycache__")
    for folder in ("segcli", "recipes"):
        shutil.copytree(root / folder, source / folder, ignore=skip)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / file, source)
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *flags, "--target", str(tmp_path / "site"), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    files = [p.relative_to(source / "segcli") for p in (source / "segcli").rglob("*") if p.is_file()]
    files += [Path("recipes") / p.relative_to(source / "recipes") for p in (source / "recipes").rglob("*.yaml")]
    assert [str(file) for file in files if not (tmp_path / "site" / "segcli" / file).is_file()] == []
    script = (
        "import inspect; from segcli.compare.published import table; from segcli.weights.official import TABLE; "
        "from segcli.sources.known import KNOWN; from segcli.drawing.page import page; "
        "print(all((table().groups, TABLE, KNOWN, page({}, title='', scripts=['page.js', 'explain.js', "
        "'report.js']))), inspect.getfile(page))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), *filter(None, sys.path)])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", str(tmp_path / "site" / "segcli" / "drawing" / "page.py")]
