"""Run the command line in this process, as the console script does."""

import dataclasses
import json
from typing import Any

import pytest

from segcli.cli import app


@dataclasses.dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def segcli(capfd, monkeypatch, tmp_path):
    """`segcli("compare", "runs/a")` -> exit code, stdout, stderr; in a folder of its own, output 80 columns wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TQDM_DISABLE", "0")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)

    def run(*args: Any) -> Result:
        capfd.readouterr()
        code = app.run([str(a) for a in args])
        return Result(code, *capfd.readouterr())

    return run
