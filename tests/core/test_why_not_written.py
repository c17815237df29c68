"""The hint of a file that can't be written speaks of a full disk only where the disk is full."""

import errno
import os

import pytest

from segcli.core.errors import SegcliError
from segcli.core.files import write_atomic
from segcli.engine.run_folder import RunFolder


def failing(number):
    def write(path):
        raise OSError(number, os.strerror(number), str(path))

    return write


@pytest.mark.parametrize(
    ("number", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False), (errno.ELOOP, False)]
)
def test_a_full_disk_alone_is_called_full(tmp_path, number, full):
    with pytest.raises(SegcliError, match="can't be written") as caught:
        write_atomic(tmp_path / "a", failing(number))
    assert ("full" in caught.value.hint) is full


def test_a_folder_in_the_place_of_a_file_is_said(tmp_path):
    (tmp_path / "metrics.json").mkdir()
    with pytest.raises(SegcliError, match=r"metrics\.json") as caught:
        write_atomic(tmp_path / "metrics.json", lambda path: path.write_text("{}", encoding="utf-8"))
    assert "a folder stands where a file belongs" in caught.value.hint
    assert "full" not in caught.value.hint
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(SegcliError, match=r"log\.jsonl") as caught:
        RunFolder(tmp_path).log({"step": 1})
    assert "a folder stands" in caught.value.hint
