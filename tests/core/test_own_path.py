"""What lies in the working folder is not run: not by the program, not by the processes that it starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segcli.core import own_path

ROOT = Path(__file__).parents[2]


@pytest.fixture
def trap(tmp_path):
    """A folder whose modules say so when they are imported."""
    for name in ("yaml", "rich", "multiprocessing"):
        (tmp_path / f"{name}.py").write_text("print('CODE RAN')\n", encoding="utf-8")
    return tmp_path


def test_a_command_in_a_folder_of_traps(trap, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = subprocess.run(own_path.command("--help"), cwd=trap, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert "CODE RAN" not in done.stdout + done.stderr
    assert "prepare" in done.stdout


def test_children_of_multiprocessing(trap, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    code = (
        f"import sys; sys.path[:] = [{str(ROOT)!r}, *[p for p in sys.path if p]]\n"
        "from segcli.core import own_path; own_path.leave_out_working_folder()\n"
        "import multiprocessing, os\n"
        "with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "    print(pool.apply(eval, ('__import__(\"yaml\").__file__',)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=trap, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert "CODE RAN" not in done.stdout
    assert str(trap) not in done.stdout


def test_the_folder_is_taken_off_the_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/somewhere", str(tmp_path / "kept")])
    monkeypatch.delenv(own_path.VARIABLE, raising=False)
    monkeypatch.setattr(own_path, "_isolate_children", lambda: None)
    own_path.leave_out_working_folder()
    assert sys.path == ["/somewhere", str(tmp_path / "kept")]


def test_a_working_folder_that_was_deleted_is_no_crash(monkeypatch):
    def gone():
        raise FileNotFoundError("no such folder")

    monkeypatch.setattr(os, "getcwd", gone)
    monkeypatch.setattr(sys, "path", ["", "/lib"])
    own_path.leave_out_working_folder()
    assert sys.path == ["/lib"]
