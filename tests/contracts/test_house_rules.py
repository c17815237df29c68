"""What can be read off the source: sizes, names, docstrings, and that nothing that is loaded can run."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGE = sorted((ROOT / "segcli").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE}
LIMIT = 400  # lines
NO_NAMES = {"utils", "util", "misc", "common", "helpers", "helper"}
PURE = ("ops", "metrics", "models")  # no logging, files or progress there
GLOBAL_RANDOM = re.compile(r"(np|numpy)\.random\.(?!default_rng|Generator|SeedSequence|PCG64|Philox)\w+$")


def place(path: Path, node: ast.AST | None = None) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def calls() -> Iterator[tuple[Path, str, ast.Call, dict[str | None, str]]]:
    """(file, dotted name, node, keyword arguments as text) of every call in the package."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield path, ast.unparse(node.func), node, {k.arg: ast.unparse(k.value) for k in node.keywords}


def test_no_file_is_too_long_or_badly_named():
    long = [place(p) for p in [*PACKAGE, *TESTS] if len(p.read_text(encoding="utf-8").splitlines()) > LIMIT]
    named = [place(p) for p in [*PACKAGE, *TESTS] if NO_NAMES & {*p.relative_to(ROOT).with_suffix("").parts}]
    assert (long, named) == ([], [])


def test_files_and_public_functions_say_what_they_are_for():
    """A function of a single statement may speak for itself."""
    silent = [place(path) for path, tree in TREES.items() if tree.body and not ast.get_docstring(tree)]
    for path, tree in TREES.items():
        for node in tree.body:
            public = isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
            if public and len(node.body) > 1 and not ast.get_docstring(node):
                silent.append(f"{place(path, node)}: {node.name}")
    assert silent == []


def test_nothing_is_left_undone():
    marks = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    assert [place(p) for p in PACKAGE if marks.search(p.read_text(encoding="utf-8"))] == []


def test_no_error_is_swallowed():
    handlers = [(p, n) for p, tree in TREES.items() for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler)]
    assert len(handlers) > 20
    bad = [place(p, h) for p, h in handlers if h.type is None or [type(s) for s in h.body] == [ast.Pass]]
    assert bad == []


def test_what_is_loaded_cannot_run():
    wanted = {"torch.load": ("weights_only", "True"), "yaml.load": ("Loader", "Loader")}
    never = {"eval", "exec", "pickle.load", "pickle.loads", "os.system", "yaml.unsafe_load", "yaml.full_load"}
    bad = []
    for path, name, node, keywords in calls():
        key, value = wanted.get(name, ("shell", keywords.get("shell", "False")))
        loads = name in ("np.load", "numpy.load") and keywords.get("allow_pickle", "False") != "False"
        shell = name.startswith("subprocess.") and keywords.get("shell", "False") != "False"
        if name in never or loads or shell or (name in wanted and keywords.get(key) != value):
            bad.append(f"{place(path, node)}: {name}")
    assert bad == []


def test_text_files_are_utf8_whatever_the_system():
    bad = []
    for path, name, node, keywords in calls():
        text = name.endswith((".read_text", ".write_text")) and "/proc/" not in ast.unparse(node.func)
        if name == "open":
            text = not any("b" in ast.unparse(a) for a in node.args[1:2])
        if text and "encoding" not in keywords:
            bad.append(place(path, node))
    assert bad == []


def test_no_builder_has_more_than_fifteen_arguments():
    many = [
        f"{place(path, node)}: {len(names)}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "build"
        for names in [[*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]
        if len(names) > 15
    ]
    assert many == []


def test_models_losses_and_metrics_do_no_io():
    bad = [
        f"{place(path, node)}: {name}"
        for path, name, node, _ in calls()
        if path.relative_to(ROOT / "segcli").parts[0] in PURE and name in ("print", "open", "tqdm")
    ]
    assert bad == []


def test_no_draw_from_numpys_global_state():
    """No recipe seeds it."""
    assert [place(path, node) for path, name, node, _ in calls() if GLOBAL_RANDOM.match(name)] == []


def test_no_task_is_asked_by_its_name():
    """What a task means is in the table of core/tasks.py."""
    asked = re.compile(r"\btask (==|!=|in|not in) [(\"\[{]")
    files = [p for p in PACKAGE if p.relative_to(ROOT / "segcli").as_posix() != "core/tasks.py"]
    assert [place(p) for p in files if asked.search(p.read_text(encoding="utf-8"))] == []


def test_no_attribute_of_a_model_is_guessed():
    """What every model has is in models/interface.py."""
    guesses = [
        place(path, node)
        for path, name, node, _ in calls()
        if name in ("hasattr", "getattr") and ast.unparse(node.args[0]) in ("model", "self.model", "session.model")
    ]
    assert guesses == []


def test_every_package_is_installed():
    listed = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    folders = [p.parent.relative_to(ROOT).as_posix().replace("/", ".") for p in PACKAGE if p.name == "__init__.py"]
    assert [folder for folder in folders if f'"{folder}"' not in listed] == []
    assert [p for p in (ROOT / "segcli").rglob("*.py") if not (p.parent / "__init__.py").is_file()] == []


def test_no_test_imports_another():
    """What several need is a fixture of a conftest.py, or a module of tests/."""
    bad = []
    for path in TESTS:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            bad += [place(path, node) for name in modules if re.search(r"\b(test_\w+|conftest)$", name)]
    assert bad == []
