"""Names of files and classes are UTF-8 in any locale."""

import os
import subprocess
import sys

import pytest

from segcli.core.own_path import command


@pytest.mark.skipif(sys.platform == "win32", reason="names are Unicode there")
@pytest.mark.parametrize("utf8", ["0", ""])
def test_a_locale_without_utf8_changes_no_name(tmp_path, utf8):
    name = "고양이 🐈 ä"
    (tmp_path / name).mkdir()
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": utf8}
    done = subprocess.run(
        command("prepare", str(tmp_path / name), "--out", str(tmp_path / "out")),
        env={**{k: v for k, v in os.environ.items() if k != "PYTHONUTF8"}, **{k: v for k, v in locale.items() if v}},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert name in done.stderr
    assert "--debug" not in done.stderr
