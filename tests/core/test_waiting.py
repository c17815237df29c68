"""torch's threads sleep soon where they wait, in every command and its children, unless the user has said otherwise."""

import os
import subprocess
import sys

import pytest
import torch

GNU = "libgomp" in torch.__config__.show() or any(
    "libgomp" in name for name in os.listdir(os.path.join(os.path.dirname(torch.__file__), "lib"))
)
CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import torch'], check=True)"


def shown(code, arguments=(), **variables):
    """What the OpenMP library says of its settings when torch loads it, from `python CODE`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, *code, *arguments],
        env={**kept, **variables, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split("'")[1] for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line]


@pytest.mark.skipif(not GNU, reason="torch uses another OpenMP library here")
@pytest.mark.parametrize(
    "code",
    [["-c", "import segcli, torch"], ["-m", "segcli.cli.app", "--version"], ["-c", f"import segcli; {CHILD}"]],
    ids=["python", "command", "child"],
)
def test_the_library_takes_the_setting(code):
    assert set(shown(code)) == {"10000"}


@pytest.mark.skipif(not GNU, reason="torch uses another OpenMP library here")
@pytest.mark.parametrize(
    ("variables", "spins"),
    [({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "0")],
)
def test_what_the_user_has_set_stays(variables, spins):
    assert set(shown(["-c", "import segcli, torch"], **variables)) == {spins}
