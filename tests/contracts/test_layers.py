"""Imports point down only, and in no circle: every file's imports are read, inside functions too, and held against the
layers of docs/architecture.md."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent / "segcli"
FILES = sorted(ROOT.rglob("*.py"))
LAYERS = [  # from below; the rooms of one layer know nothing of each other
    {"core"},
    {"types"},
    {"meshes"},
    {"ops", "fields"},
    {"data"},
    {"models", "sources", "metrics", "weights", "predictions", "drawing"},
    {"doctor"},
    {"engine"},
    {"compare", "explain", "commands", "export"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
WITH_TORCH = {"segcli.core.distributed"}  # of the core
HEAVY = {"torch", "torchvision", "timm", "cv2", "albumentations", "matplotlib", "scipy", "numpy"}


def module(path: Path) -> str:
    """segcli/ops/boxes.py -> segcli.ops.boxes; a folder's __init__.py is the folder."""
    return ".".join(["segcli", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")


MODULES = {module(path) for path in FILES}


def room(name: str) -> str | None:
    """segcli.ops.boxes -> ops; None for what is no room of segcli."""
    parts = name.split(".")
    return parts[1] if parts[0] == "segcli" and len(parts) > 1 and parts[1] in LEVEL else None


def imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """(module, line, whether at module level) of everything that a file imports; a name out of a module is that."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(ast.iter_child_nodes(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, node in top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield inside if inside in MODULES else str(node.module), node.lineno, node in top


def violations(path: Path) -> Iterator[str]:
    own = room(module(path))
    if own is None:  # segcli/__init__.py, see below
        return
    for name, line, top in imports(path):
        other = room(name)
        where = f"{path.relative_to(ROOT)}:{line}: {own} imports {name}"
        if other not in (None, own) and LEVEL[str(other)] >= LEVEL[own]:
            yield where
        if own == "cli" and top and other not in (None, "cli", "core"):
            yield where + " at module level"
        if own == "core" and module(path) not in WITH_TORCH and name.split(".")[0] in HEAVY:
            yield where
        if own in ("cli", "core") and top and name in WITH_TORCH:
            yield where


def test_at_the_root_lie_rooms_and_types():
    assert {path.stem for path in ROOT.glob("*.py")} == {"__init__", "types"}
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders | {"types"} <= LEVEL.keys()


def test_no_room_has_more_than_25_files():
    counts = {path.relative_to(ROOT).as_posix(): len([*path.glob("*.py")]) for path in {f.parent for f in FILES}}
    assert {name: count for name, count in counts.items() if count > 25} == {}


def test_imports_point_down():
    assert [wrong for path in FILES for wrong in violations(path)] == []


def test_no_imports_in_a_circle():
    graph = {module(path): {name for name, _, _ in imports(path) if name in MODULES} for path in FILES}
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_package_itself_imports_lazily():
    assert [name for name, _, _ in imports(ROOT / "__init__.py") if name.startswith("segcli")] == []


def test_the_reader_of_imports_sees_a_violation(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("from segcli.engine import cost\nimport torch.nn\ndef f():\n    from segcli.cli.app import main\n")
    assert list(imports(file)) == [("segcli.engine.cost", 1, True), ("torch.nn", 2, True), ("segcli.cli.app", 4, False)]
    assert [room(name) for name, _, _ in imports(file)] == ["engine", None, "cli"]
