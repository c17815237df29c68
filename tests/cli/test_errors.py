"""One line, one hint, one exit code: whatever goes wrong."""

import errno
import importlib.metadata
import os
import signal
import subprocess
import sys
import time
import types

import pytest
import typer

from segcli.cli.errors import guard
from segcli.core import plugins
from segcli.core.errors import DataError, ModelError, SegcliError, UsageError


def ending(capsys, error: BaseException, **kwargs) -> tuple[int, list[str]]:
    def fail():
        raise error

    code = guard(fail, **kwargs)
    out, err = capsys.readouterr()
    assert out == ""
    return code, err.splitlines()


@pytest.mark.parametrize(("kind", "code"), [(SegcliError, 1), (UsageError, 2), (DataError, 3), (ModelError, 4)])
def test_what_users_can_mend(capsys, kind, code):
    error = kind("a.json: broken\nin two lines", hint="mend it")
    assert ending(capsys, error) == (code, ["error: a.json: broken in two lines", "hint: mend it"])
    assert ending(capsys, kind("a")) == (code, ["error: a"])


def test_a_full_disk_names_the_file(capsys):
    code, lines = ending(capsys, OSError(errno.ENOSPC, "No space left on device", "runs/a/last.pt"))
    assert (code, lines[0]) == (1, "error: runs/a/last.pt: the disk is full")


def test_a_forbidden_path_is_named(capsys):
    code, lines = ending(capsys, PermissionError(errno.EACCES, "Permission denied", "/root/x"))
    assert (code, lines[0]) == (1, "error: /root/x: not permitted to read or write here")


def test_other_failures_of_the_system_name_path_and_cause(capsys):
    assert ending(capsys, FileNotFoundError(errno.ENOENT, "No such file or directory", "a b")) == (
        1,
        ["error: a b: No such file or directory"],
    )


def test_a_bug_is_one_line_and_says_how_to_see_more(capsys):
    code, lines = ending(capsys, ZeroDivisionError("division by zero"))
    assert (code, lines[0]) == (1, "error: ZeroDivisionError: division by zero")
    assert "--debug" in lines[1]


def test_debug_shows_the_traceback_and_the_line(capsys):
    code, lines = ending(capsys, ZeroDivisionError("division by zero"), debug=True)
    assert code == 1
    assert lines[0].startswith("Traceback")
    assert lines[-1] == "error: ZeroDivisionError: division by zero"


def test_out_of_memory_says_what_needs_less(capsys):
    code, lines = ending(capsys, RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert (code, lines[0]) == (1, "error: out of memory: CUDA out of memory. Tried to allocate 2 GiB")
    assert "batch_size" in lines[1]


def test_interruption_is_130(capsys):
    assert ending(capsys, KeyboardInterrupt()) == (130, ["error: interrupted"])
    assert ending(capsys, typer.Abort()) == (130, ["error: interrupted"])


def test_a_code_that_was_asked_for_is_kept(capsys):
    assert ending(capsys, SystemExit(3)) == (3, [])
    assert ending(capsys, SystemExit()) == (0, [])
    assert guard(lambda: 5) == 5
    assert guard(lambda: None) == 0


WAIT = (
    "import sys, time; from segcli.cli.errors import guard\n"
    "def run():\n print('ready', flush=True)\n time.sleep(30)\n"
    "sys.exit(guard(run))"
)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_program_with_130(number):
    # a shell's background jobs ignore SIGINT, and so would what they start
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen([sys.executable, "-c", WAIT], stdout=-1, stderr=-1, text=True, preexec_fn=heed) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "error: interrupted\n"


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_reader_that_leaves_is_no_error():
    code = "import sys; from segcli.cli.errors import guard\nsys.exit(guard(lambda: print('x' * 10_000_000)))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True) as process:
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == ""


def test_a_failing_plugin_of_another_package_is_named_with_its_line(capsys, monkeypatch):
    module = types.ModuleType("segcli_dice.head")
    exec("def finish(found):\n    return found['dice']\n", module.__dict__)
    points = [importlib.metadata.EntryPoint("head:dice", "segcli_dice.head", "segcli.plugins")]
    monkeypatch.setattr(plugins, "registered", lambda: points)
    assert guard(lambda: module.finish({})) == 1
    assert "error: KeyError: 'dice' (in finish, segcli_dice.head line 2)" in capsys.readouterr().err
    assert guard(lambda: {}["own"]) == 1
    assert "error: KeyError: 'own'\n" in capsys.readouterr().err
