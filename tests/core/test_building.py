"""Folders that are built under a hidden name: nothing half-made stays, and nothing of anybody else's goes."""

import os
import signal
import subprocess
import sys

import pytest

from segcli.core.building import building
from segcli.core.files import PART

KILLED = """
import os, signal, sys
from pathlib import Path
from segcli.core.building import building
with building(Path(sys.argv[1])) as folder:
    (folder / "images").mkdir()
    (folder / "images" / "a.png").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="folders can't be locked there")
@pytest.mark.parametrize("name", ["out", "나의 데이터 " + "가" * 40, "[a]*"])
def test_what_a_killed_process_left_goes_with_the_next_one(tmp_path, name):
    out = tmp_path / name
    done = subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    with building(tmp_path / "other") as folder:
        assert {left, folder} == set(tmp_path.iterdir())
    with building(out) as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert not list(tmp_path.iterdir())


def test_what_another_is_building_and_what_only_looks_like_it_stays(tmp_path):
    out = tmp_path / "out"
    (tmp_path / "mine").mkdir()
    (tmp_path / f".out.12345678{PART}").symlink_to(tmp_path / "mine")
    for name in (".out.12345678.part", f".out.backup{PART}x", f".out.123456789{PART}", f".outer.12345678{PART}"):
        (tmp_path / name).mkdir()
    before = set(tmp_path.iterdir())
    with building(out) as first, building(out) as second:
        assert set(tmp_path.iterdir()) == {*before, first, second}
        assert first != second
        os.rename(first, out)
    assert set(tmp_path.iterdir()) == {*before, out}
