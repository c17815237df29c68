"""The program as a whole: help, version, usage errors, quietness, and that help costs no torch."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from segcli.cli.app import command
from segcli.core.errors import ModelError
from segcli.core.recipe.recipe import find_recipe

HEAVY = "('torch', 'torchvision', 'cv2', 'numpy', 'matplotlib', 'albumentations', 'timm')"


COMMANDS = ("prepare", "train", "eval", "predict", "visualize", "compare", "recipes")


def modules_after(code: str, folder: str | os.PathLike[str] | None = None) -> str:
    program = f"import sys\n{code}\nprint([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    return done.stderr.strip()


def test_help_and_usage_errors_import_no_torch(tmp_path):
    calls = [["--help"], *([name, "--help"] for name in COMMANDS), ["visualize", "data", "--help"], ["compare"], ["x"]]
    code = f"import segcli; segcli.Recipe\nfrom segcli.cli.app import run\n[run(args) for args in {calls}]"
    # in a folder without runs, which `compare` would read
    assert modules_after(code, tmp_path).splitlines()[-1] == "[]"


def test_version_names_what_matters(segcli):
    result = segcli("--version")
    assert result.code == 0
    assert [line.split()[0] for line in result.out.splitlines()] == ["segcli", "torch", "torchvision", "device"]


def test_without_a_command_it_helps(segcli):
    result = segcli()
    assert (result.code, result.err) == (0, "")
    assert "quickstart/mask_rcnn" in result.out


@pytest.mark.parametrize(
    ("args", "error", "hint"),
    [
        (["trian"], "error: no such command 'trian'. Did you mean 'train'?", "segcli --help"),
        (["compare", "--srot", "x"], "error: segcli compare has no option --srot", "did you mean '--sort'?"),
        (["predict"], "error: missing argument 'RUN|RECIPE|MODEL.onnx'", "segcli predict --help"),
        (["predict", "a", "b", "--score", "x"], "error: invalid value for '--score'", "segcli predict --help"),
        (["predict", "a", "b", "--score", "2"], "error: invalid value for '--score'", "segcli predict --help"),
        (["train", "a", "--minutes", "2"], "error: segcli train has no option --minutes", "--set train.minutes=VALUE"),
        (["train"], "error: train needs a RECIPE", "segcli train quickstart/mask_rcnn"),
        (["train", "quikstart/mask_rcnn"], "error: no recipe", "did you mean 'quickstart/mask_rcnn'?"),
        (["train", "quickstart/mask_rcnn", "--set", "train.epcohs=1"], "error: ", None),
    ],
)
def test_usage_errors_are_one_line_with_the_nearest(segcli, args, error, hint):
    result = segcli(*args)
    assert result.code == 2
    assert result.out == ""
    lines = result.err.splitlines()
    assert lines[0].startswith(error)
    assert len(lines) == 1 + (hint is not None)
    assert hint is None or lines[1] == f"hint: {hint}"


def test_a_typo_in_set_names_flag_and_key(segcli):
    err = segcli("train", "quickstart/mask_rcnn", "--set", "train.epcohs=1").err
    assert "--set train.epcohs: train.epcohs is not a recipe key (did you mean 'epochs'?)" in err


@pytest.mark.parametrize("command", ["eval", "predict"])
def test_a_missing_run_is_a_model_error(segcli, command):
    result = segcli(command, "runs/absent", *(["x"] if command == "predict" else []))
    assert result.code == 4
    assert "no run folder and no recipe is called 'runs/absent'" in result.err
    assert "there is no run below runs/" in result.err
    for name in ("good", "other"):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "recipe.yaml").write_text("")
    again = segcli(command, "runs/zzzzzzzzzzzz", "x" if command == "predict" else "-q")
    assert "hint: choose from: runs/good, runs/other" in again.err


def test_a_recipe_without_official_weights_says_that_it_is_to_be_trained(segcli, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    result = segcli("predict", "quickstart/fcn", "a.png")
    assert result.code == 4
    assert "hint: train it" in result.err


def test_a_folder_without_images_is_said_before_the_model_is_loaded(segcli, tmp_path, monkeypatch):
    monkeypatch.setattr("segcli.commands.predictor.open_model", lambda *_, **__: pytest.fail("loaded"))
    Path("runs/a").mkdir(parents=True)
    shutil.copy(find_recipe("quickstart/fcn"), "runs/a/recipe.yaml")
    (tmp_path / "photos" / "inner").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "inner" / "a.png")
    result = segcli("predict", "runs/a", "photos")
    assert result.code == 3
    assert "its subfolders have some: --recursive reads them" in result.err
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "b.png")

    def said_before(*_, **__):
        raise ModelError("the model is loaded now")

    monkeypatch.setattr("segcli.commands.predictor.open_model", said_before)
    note = "note: images in photos/inner are not read: --recursive reads them"
    assert segcli("predict", "runs/a", "photos").err.splitlines()[0] == note
    assert "note" not in segcli("predict", "runs/a", "photos", "--recursive").err


@pytest.mark.parametrize("where", ["before", "after"])
def test_debug_shows_a_traceback_on_either_side_of_the_command(segcli, where):
    args = ["--debug", "eval", "runs/absent"] if where == "before" else ["eval", "runs/absent", "--debug"]
    result = segcli(*args)
    assert result.code == 4
    assert "Traceback" in result.err
    assert "Traceback" not in segcli("eval", "runs/absent").err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_recipe_names(shell):
    environment = {**os.environ, "_SEGCLI_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "segcli train qui"}
    environment |= {"COMP_WORDS": "segcli train qui", "COMP_CWORD": "2", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    code = "from segcli.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "quickstart/mask_rcnn" in done.stdout
    assert "pennfudan" not in done.stdout


@pytest.mark.parametrize(
    ("line", "parameter", "begun", "expected"),
    [
        ("prepare", "source", "", ["pennfudan", "shapes", "data/mine"]),
        ("prepare", "format", "c", ["coco", "cityscapes", "camvid"]),
        ("train", "recipe", "mask_r", ["mask_rcnn", "mask_rcnn_coco"]),
        ("train", "data", "data/", ["data/mine"]),
        ("train", "resume", "runs/", ["runs/one"]),
        ("train", "set_", "train.opt", ["train.optimizer.lr=", "train.optimizer.name="]),
        ("train", "set_", "data.c", ["data.cache.gigabytes="]),
        ("train quickstart/detr", "set_", "model.q", ["model.queries="]),
        ("train no/such", "set_", "hardware.dev", ["hardware.device=", "hardware.devices="]),
        ("eval", "source", "runs", ["runs/one"]),
        ("eval", "data", "", ["data/mine"]),
        ("compare", "items", "quick", ["quickstart/fcn"]),
        ("visualize data", "folder", "", ["data/mine"]),
        ("visualize predictions", "run", "", ["runs/one"]),
        ("recipes", "task", "p", ["panoptic"]),
    ],
)
def test_the_shell_completes_what_can_be_named(tmp_path, monkeypatch, line, parameter, begun, expected):
    for name in ("runs/one/recipe.yaml", "data/mine/info.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    one, words = command(), line.split()
    while words and hasattr(one, "commands"):
        one = one.commands[words.pop(0)]
    context = one.make_context(line, words, resilient_parsing=True)
    asked = next(p for p in one.params if p.name == parameter)
    offered = [item.value for item in asked.shell_complete(context, begun)]
    assert set(expected) <= set(offered)
    assert all(value.startswith(begun) for value in offered)


def test_no_colour_where_stdout_is_no_terminal(segcli, fake_run):
    assert "\x1b" not in segcli("compare", fake_run("a")).out
    assert "\x1b" not in segcli("--help").out


@pytest.mark.parametrize("flags", [[], ["-W", "error"], ["-We::DeprecationWarning"]])
@pytest.mark.parametrize("shell", ["error", "ignore::ImportWarning, error::DeprecationWarning", ""])
def test_no_warning_ends_a_command(flags, shell):
    """A library's deprecation is not shown, a warning of segcli is a note; a process that it starts is as lenient."""
    code = """
import subprocess, sys, warnings
from segcli.cli import app
def run(args):
    warnings.warn("of a library", DeprecationWarning)
    warnings.warn("of segcli")
    again = "import warnings; warnings.warn('elsewhere', DeprecationWarning)"
    return subprocess.run([sys.executable, *(f"-W{o}" for o in sys.warnoptions), "-c", again]).returncode
app.run = run
app.main()
"""
    environment = {**os.environ, "PYTHONWARNINGS": shell}
    done = subprocess.run([sys.executable, *flags, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, "note: of segcli" in done.stderr) == (0, True), done.stderr
