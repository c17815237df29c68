"""Imports point down only: every file's imports are read and held against the layers of docs/architecture.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent / "segcli"
FILES = sorted(ROOT.rglob("*.py"))
LAYERS = [
    {"core", "allocator", "errors", "info", "recipe", "recipe_file", "lookup", "fetch", "types", "arrays", "dist"},
    {"ops"},
    {"data", "models", "metrics", "drawing", "weights", "optim"},
    {
        "accumulation",
        "capacity",
        "checkpoint",
        "cost",
        "diagnosis",
        "input_rule",
        "machine",
        "pace",
        "run",
        "same_data",
        "samples",
        "session",
        "training_state",
        "work",
    },
    {
        *("preparing", "training", "evaluation", "self_test", "prediction", "forecast", "comparison", "inspection"),
        "exporting",
    },
    {"cli"},
]
LEVEL = {unit: level for level, units in enumerate(LAYERS, start=1) for unit in units}
STRANGERS = {3, 5}  # layers whose units never import one another, but for:
ALLOWED = {
    ("training", "preparing"),
    ("training", "evaluation"),
    ("forecast", "preparing"),
    ("forecast", "training"),
    ("forecast", "evaluation"),
    ("comparison", "evaluation"),
    ("comparison", "forecast"),
    ("comparison", "inspection"),
    ("comparison", "training"),
    ("preparing", "self_test"),
    ("self_test", "evaluation"),
}
WITHOUT_TORCH = {"core", "allocator", "errors", "info", "recipe", "recipe_file", "lookup", "fetch"}
HEAVY = {"torch", "torchvision", "timm", "cv2", "albumentations", "matplotlib", "scipy", "numpy"}


def imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """(absolute module, line, whether at module level) of everything that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(ast.iter_child_nodes(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, node in top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            if node.module == "segcli":
                for alias in node.names:
                    yield f"segcli.{alias.name}", node.lineno, node in top
            else:
                yield str(node.module), node.lineno, node in top


def unit(path: Path) -> str:
    """What a file belongs to: a folder of segcli/, or a module."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def unit_of_module(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "segcli" and len(parts) > 1 and parts[1] in LEVEL else None


def test_every_file_has_its_layer():
    assert {unit(f) for f in FILES} - {"__init__"} <= set(LEVEL)


def violations(path: Path) -> Iterator[str]:
    own = unit(path)
    for module, line, top in imports(path):
        other = unit_of_module(module)
        where = f"{path.relative_to(ROOT)}:{line}: {own} imports {module}"
        if other is not None and other != own:
            up = LEVEL[other] > LEVEL[own]
            strange = LEVEL[other] == LEVEL[own] and LEVEL[own] in STRANGERS and (own, other) not in ALLOWED
            if up or strange:
                yield where
        if own == "cli" and top and other not in (None, "cli") and other not in WITHOUT_TORCH:
            yield where + " at module level"
        if own in WITHOUT_TORCH and module.split(".")[0] in HEAVY:
            yield where


def test_imports_point_down():
    assert [wrong for path in FILES if unit(path) != "__init__" for wrong in violations(path)] == []


def test_the_package_itself_imports_lazily():
    assert [m for m, _, _ in imports(ROOT / "__init__.py") if m.startswith("segcli")] == []


def test_no_two_units_of_a_layer_import_each_other():
    """Where a layer's units may import one another, they do so in one direction."""
    pairs = {(unit(f), unit_of_module(m)) for f in FILES for m, _, _ in imports(f)}
    edges = {(own, other) for own, other in pairs if other not in (None, own)}
    assert [e for e in edges if (e[1], e[0]) in edges] == []


def test_the_reader_of_imports_sees_a_violation(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("from segcli import run\nimport torch.nn\ndef f():\n    from segcli.cli.app import main\n")
    assert list(imports(file)) == [("segcli.run", 1, True), ("torch.nn", 2, True), ("segcli.cli.app", 4, False)]
    assert [unit_of_module(m) for m, _, _ in imports(file)] == ["run", None, "cli"]
